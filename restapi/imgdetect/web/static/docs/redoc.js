"use strict";

// ReDoc shows its maker's logo from the maker's host; this page asks no other host for anything. React sets the
// source both ways.
const ours = (value) => String(value).startsWith("data:") || new URL(value, location).origin === location.origin;
const source = Object.getOwnPropertyDescriptor(HTMLImageElement.prototype, "src");
Object.defineProperty(HTMLImageElement.prototype, "src", {
  ...source,
  set(value) {
    if (ours(value)) source.set.call(this, value);
  },
});
HTMLImageElement.prototype.setAttribute = function (name, value) {
  if (name !== "src" || ours(value)) Element.prototype.setAttribute.call(this, name, value);
};

Redoc.init(document.currentScript.dataset.contract, {}, document.getElementById("redoc"));

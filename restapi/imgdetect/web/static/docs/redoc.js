"use strict";

// ReDoc shows its maker's logo from the maker's host; this page asks no other host for anything.
HTMLImageElement.prototype.setAttribute = function (name, value) {
  if (name !== "src" || new URL(value, location).origin === location.origin || value.startsWith("data:")) {
    Element.prototype.setAttribute.call(this, name, value);
  }
};

Redoc.init(document.currentScript.dataset.contract, {}, document.getElementById("redoc"));

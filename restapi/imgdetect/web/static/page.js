// Makes the page quicker and more pleasant where script runs; without it the form does the same work.

const byId = (id) => document.getElementById(id);
const form = byId("form"); // missing where the server refused the page
const answer = byId("answer");
const NO_ANSWER = {
  title: "The server could not be reached.",
  detail: "Check the connection and try again. A picture that changed since it was chosen has to be chosen again.",
};
let busy = false;
let shownPicture = "";

class Trouble extends Error {
  constructor(problem) {
    super(problem.title);
    this.problem = problem;
  }
}

// -- choosing a picture

function chooseFrom(transfer) {
  const file = [...(transfer?.files ?? [])][0];
  if (!file) return false;
  const chosen = new DataTransfer();
  chosen.items.add(file);
  form.image.files = chosen.files;
  showPreview();
  return true;
}

function showPreview() {
  const preview = byId("preview");
  if (preview.src) URL.revokeObjectURL(preview.src);
  preview.hidden = true;
  markField("image", "");
  const file = form.image.files[0];
  if (file) preview.src = URL.createObjectURL(file);
  else preview.removeAttribute("src");
}

function listenForPictures() {
  const drop = byId("drop");
  const preview = byId("preview");
  preview.addEventListener("load", () => (preview.hidden = false)); // a browser cannot show every type
  form.image.addEventListener("change", showPreview);
  // The whole page takes the drop: one beside the zone would leave the page for the picture.
  let depth = 0;
  const over = (change) => drop.classList.toggle("over", (depth = Math.max(0, depth + change)) > 0);
  addEventListener("dragenter", () => over(1));
  addEventListener("dragleave", () => over(-1));
  addEventListener("dragover", (event) => event.preventDefault());
  addEventListener("drop", (event) => {
    event.preventDefault();
    over(-depth);
    if (chooseFrom(event.dataTransfer)) form.image.focus();
  });
  addEventListener("paste", (event) => {
    if (chooseFrom(event.clipboardData)) event.preventDefault();
  });
  byId("drop-hint").hidden = false;
  if (form.image.files.length) showPreview(); // a browser that came back to the page may have kept the choice
}

// -- the detector's own values, shown where a field is empty

function showDefaults() {
  const defaults = JSON.parse(form.detector.selectedOptions[0]?.dataset.defaults || "{}");
  for (const name of ["scale_factor", "min_neighbors", "min_size", "max_size", "confidence", "iou_threshold", "top_k"]) {
    form[name].placeholder = defaults[name] == null ? "" : String(defaults[name]);
  }
}

// A key's own detectors are known to the server only once it knows the key.
async function listOwnDetectors() {
  const reply = await ask(form.dataset.detectors, { headers: key() }).catch(() => null);
  if (!reply) return; // what is wrong with the key is told when it is used
  const { detectors, default: usual } = await reply.json();
  const chosen = form.detector.value;
  const known = new Set(detectors.map(({ name }) => name));
  for (const option of [...form.detector.options]) {
    if (known.has(option.value)) known.delete(option.value);
    else option.remove();
  }
  for (const { name, defaults } of detectors) {
    if (!known.has(name)) continue;
    const option = new Option(name, name);
    option.dataset.defaults = JSON.stringify(defaults);
    form.detector.append(option);
  }
  if (form.detector.value === chosen) return;
  form.detector.value = usual; // the chosen one belongs to another key, or was deleted
  showDefaults();
}

// -- asking the server

function key() {
  const value = form.api_key?.value.trim();
  return value ? { "x-api-key": value } : {};
}

async function ask(address, options) {
  let reply;
  try {
    reply = await fetch(address, options);
    if (reply.ok) return reply;
  } catch {
    throw new Trouble(NO_ANSWER);
  }
  const problem = await reply.json().catch(() => ({ title: `The server answered ${reply.status}.` }));
  const wait = reply.headers.get("Retry-After");
  if (reply.status === 401) {
    problem.errors = [{ field: "api_key", message: form.api_key?.value.trim() ? "is not known here" : "is needed" }];
  }
  if (wait) problem.detail = `${problem.detail ?? ""} Try again in ${wait} s.`.trim();
  throw new Trouble(problem);
}

function filledIn() {
  const given = new FormData();
  for (const [name, value] of new FormData(form)) {
    if (name === "api_key" || (typeof value === "string" && !value.trim())) continue;
    given.append(name, value);
  }
  return given;
}

function checkFile() {
  const file = form.image.files[0];
  if (!file) throw wrongField("image", "choose a picture first");
  const most = Number(form.dataset.maxBytes);
  if (file.size > most) {
    throw wrongField("image", `this file has ${megabytes(file.size)}; the server takes ${megabytes(most)}`);
  }
}

const megabytes = (bytes) => `${Number((bytes / 1e6).toPrecision(3))} MB`;

function wrongField(field, message) {
  return new Trouble({ title: "The request is not valid.", status: 400, errors: [{ field, message }] });
}

async function detect(event) {
  event.preventDefault();
  if (busy) return;
  setBusy(true);
  showErrors([]);
  let said = "";
  try {
    checkFile();
    const reply = await ask(form.dataset.upload, {
      method: "POST",
      body: filledIn(),
      headers: { accept: "application/json", ...key() },
    });
    const found = await reply.json();
    const stored = await ask(found.image.links.processed, { headers: key() });
    said = await showResult(found, await stored.blob());
  } catch (error) {
    said = showTrouble(error instanceof Trouble ? error.problem : NO_ANSWER);
  } finally {
    setBusy(false);
    byId("status").textContent = said;
  }
}

function setBusy(value) {
  busy = value;
  byId("submit").setAttribute("aria-disabled", String(value)); // `disabled` would take the keyboard's focus away
  byId("progress").hidden = !value;
  answer.setAttribute("aria-busy", String(value));
  if (value) byId("status").textContent = "Looking at the picture …";
}

// -- showing the answer

const slot = (parent, name) => parent.querySelector(`[data-slot="${name}"]`);

function fill(parent, texts) {
  for (const [name, text] of Object.entries(texts)) slot(parent, name).textContent = text;
}

function copyOf(id) {
  return byId(id).content.cloneNode(true);
}

async function showResult(found, picture) {
  const { image, detections, classes } = found;
  const result = copyOf("result");
  const what = classes.length ? classes[0].class_name : `${found.found || "Nothing"} found`;
  const summary = `${what} in ${image.filename || "the picture"}`;
  fill(result, {
    summary,
    facts: `${image.width} × ${image.height} pixels · ${found.detector} · ${found.timings_ms.total.toFixed(0)} ms`,
    advice: found.near_misses?.hint ?? "",
    json: JSON.stringify(found, null, 2),
  });
  slot(result, "advice").hidden = !found.near_misses;
  slot(result, "list").hidden = !detections.length;
  slot(result, "rows").append(...detections.map(rowOf));
  slot(result, "classes").hidden = !classes.length;
  slot(result, "class-rows").append(...classes.map(classRowOf));
  showLinks(result, found);
  await showPicture(result, found, picture);
  show(result, what);
  scrollToAnswer();
  return summary;
}

function rowOf({ class_name, box, neighbors, score, confidence }) {
  const row = copyOf("row").querySelector("tr");
  fill(row, {
    class: class_name,
    place: `${box.x}, ${box.y}`,
    size: `${box.width} × ${box.height}`,
    neighbors,
    score: confidence == null ? score.toFixed(1) : `${(confidence * 100).toFixed(0)} %`,
  });
  return row;
}

function classRowOf({ class_name, confidence }) {
  const row = copyOf("class-row").querySelector("tr");
  fill(row, { class: class_name, confidence: `${(confidence * 100).toFixed(1)} %` });
  return row;
}

function showLinks(result, { image, parameters }) {
  for (const link of result.querySelectorAll("[data-link]")) link.href = image.links[link.dataset.link];
  const original = result.querySelector('[data-link="self"]');
  if (original) original.hidden = !parameters.keep_original;
  const address = slot(result, "address");
  if (address) address.textContent = image.links.self;
}

async function showPicture(result, { image, detections, classes }, picture) {
  if (shownPicture) URL.revokeObjectURL(shownPicture);
  shownPicture = URL.createObjectURL(picture);
  const shown = slot(result, "picture");
  Object.assign(shown, { src: shownPicture, width: image.width, height: image.height });
  shown.alt = `The picture with ${classes.length ? "its class" : `${detections.length || "nothing"} marked`}`;
  await shown.decode().catch(() => {});
  const save = slot(result, "save");
  const stem = image.filename.replace(/\.[^.]*$/, "") || "picture";
  Object.assign(save, { href: shownPicture, download: `${stem}-found.${picture.type.split("/")[1]}`, hidden: false });
}

function showTrouble(problem) {
  const errors = problem.errors ?? [];
  const trouble = copyOf("trouble");
  fill(trouble, {
    title: problem.title ?? "Something went wrong.",
    detail: problem.detail ?? "",
    request: `Request ${problem.request_id}`,
  });
  slot(trouble, "detail").hidden = Boolean(errors.length) || !problem.detail;
  slot(trouble, "errors").hidden = !errors.length;
  slot(trouble, "request").hidden = !(problem.status >= 500 && problem.request_id);
  slot(trouble, "errors").append(
    ...errors.map(({ field, message }) => {
      const item = document.createElement("li");
      const name = document.createElement(form.elements[field] ? "a" : "span");
      Object.assign(name, { href: `#${field}`, textContent: field });
      item.append(name, `: ${message}`);
      return item;
    }),
  );
  show(trouble, problem.title);
  showErrors(errors);
  const wrong = form.querySelector('[aria-invalid="true"]');
  if (wrong) wrong.focus();
  else scrollToAnswer();
  return "";
}

function show(content, title) {
  answer.replaceChildren(content);
  document.title = `${title} · imgdetect`;
}

function scrollToAnswer() {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  if (answer.getBoundingClientRect().top > innerHeight * 0.6) {
    answer.scrollIntoView({ behavior: calm ? "auto" : "smooth" });
  }
}

function showErrors(errors) {
  for (const control of form.elements) if (control.name) markField(control.name, "");
  for (const { field, message } of errors) {
    markField(field, message);
    if (byId("more").contains(form.elements[field])) byId("more").open = true;
  }
}

function markField(name, message) {
  const control = form.elements[name];
  if (!control) return;
  if (message) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
  const error = byId(`${name}-error`);
  if (error) error.textContent = message;
}

if (form) {
  listenForPictures();
  form.detector.addEventListener("change", showDefaults);
  showDefaults();
  form.addEventListener("submit", detect);
  form.api_key?.addEventListener("change", listOwnDetectors);
  if (form.api_key?.value) listOwnDetectors(); // a browser may have filled it in
}

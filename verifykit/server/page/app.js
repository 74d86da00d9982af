// Starts the page: the tabs, the models, the key; pasted and dropped pictures.

import * as camera from "./camera.js";
import { startCompare } from "./compare.js";
import { byId, el } from "./dom.js";
import { startEnrol } from "./enrol.js";
import { startIdentify } from "./identify.js";
import { startKeys } from "./keys.js";
import { choose, load, model, models, nouns, whenModelChanges } from "./models.js";
import { startSubjects } from "./subjects.js";
import { tabs } from "./tabs.js";
import { startVerify } from "./verify.js";

const views = {
  enrol: startEnrol(),
  verify: startVerify(),
  identify: startIdentify(),
  compare: startCompare(),
  people: startSubjects(),
};
let shown = null;

function show(name) {
  const before = shown;
  shown = views[name];
  if (before && before !== shown) for (const capture of before.captures) capture.hide();
  if (!shown.captures.length) camera.close();
  for (const capture of shown.captures) capture.show();
  shown.shown?.();
}

function showSwitch() {
  const fieldset = byId("modality");
  fieldset.hidden = models().length < 2;
  if (fieldset.querySelectorAll("input").length === models().length) return;
  const choices = models().map(({ name, modality }) =>
    el(
      "label",
      {},
      el("input", {
        type: "radio",
        name: "model",
        value: name,
        checked: name === model().name,
        onchange: () => choose(name),
      }),
      el("span", {}, nouns(modality).tab),
    ),
  );
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...choices);
}

whenModelChanges(() => {
  showSwitch();
  if (model().modality === "signature") camera.close();
  for (const view of Object.values(views)) view.changed();
});

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || !shown?.captures.length) return;
  event.preventDefault();
  const open = shown.captures.find((capture) => !capture.hasPicture) ?? shown.captures[0];
  open.take(files);
});
// A picture dropped beside its place must not replace the page.
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => event.preventDefault());
}

startKeys(load);
await load();
tabs(document.querySelector('[role="tablist"]'), show).start();

// Starts the page: the tabs, the models, the key; pasted and dropped images.

import * as camera from "./camera.js";
import { startCompare } from "./compare.js";
import { byId, el } from "./dom.js";
import { startEnrol } from "./enrol.js";
import { startIdentify } from "./identify.js";
import { startKeys } from "./keys.js";
import { choiceLabel, choose, hasCamera, load, model, models, whenModelChanges } from "./models.js";
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
  const fieldset = byId("models");
  fieldset.hidden = models().length < 2;
  const shownNames = [...fieldset.querySelectorAll("input")].map(({ value }) => value);
  if (shownNames.join() === models().map(({ name }) => name).join()) return;
  const choices = models().map((one) =>
    el(
      "label",
      {},
      el("input", {
        type: "radio",
        name: "model",
        value: one.name,
        checked: one.name === model().name,
        onchange: () => choose(one.name),
      }),
      el("span", {}, choiceLabel(one)),
    ),
  );
  fieldset.replaceChildren(fieldset.querySelector("legend"), ...choices);
}

whenModelChanges(() => {
  showSwitch();
  if (!hasCamera()) camera.close();
  for (const view of Object.values(views)) view.changed();
});

document.addEventListener("paste", (event) => {
  const files = [...(event.clipboardData?.files ?? [])];
  if (!files.length || !shown?.captures.length) return;
  event.preventDefault();
  const open = shown.captures.find((capture) => !capture.hasImage) ?? shown.captures[0];
  open.take(files);
});
// An image dropped next to its place must not replace the page.
for (const type of ["dragover", "drop"]) {
  document.addEventListener(type, (event) => event.preventDefault());
}

startKeys(load);
await load();
tabs(document.querySelector('[role="tablist"]'), show).start();

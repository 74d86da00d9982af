// What Verify, Identify and Compare share: a form that sends pictures and shows an answer.

import { byId, isWorking, working } from "./dom.js";
import { Capture } from "./capture.js";
import { fillRates, nouns } from "./models.js";
import { refusal, wanting } from "./result.js";

/**
 * Wires a panel. `check(form)` gives a sentence when something is missing; `decide({form, blobs,
 * captures, place})` asks the service and shows its answer; `mend(problem, form)` gives buttons that
 * mend a refusal.
 */
export function deciding(name, { check = () => "", decide, mend = () => [] }) {
  const panel = byId(`panel-${name}`);
  const form = panel.querySelector("form");
  const place = panel.querySelector("[data-answer]");
  const button = form.querySelector("button");
  const captures = [...panel.querySelectorAll("[data-capture]")].map((node) => new Capture(node));

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (isWorking(button)) return;
    const missing = check(form);
    if (missing) {
      wanting(place, missing);
      form.querySelector("input")?.focus();
      return;
    }
    const done = working(button);
    try {
      const blobs = [];
      for (const capture of captures) blobs.push(...(await capture.pictures()));
      if (blobs.length < captures.length) {
        const wanted = captures.length > 1 ? `two ${nouns().many}` : `a ${nouns().one}`;
        wanting(place, `Take or choose ${wanted} first.`);
        return;
      }
      await decide({ form, blobs, captures, place });
    } catch (problem) {
      refusal(place, problem, ...mend(problem, form));
    } finally {
      done();
    }
  });
  // An answer about another picture, name or rate must not stay.
  for (const type of ["picture", "input"]) {
    panel.addEventListener(type, () => place.replaceChildren());
  }
  return {
    captures,
    changed: () => {
      fillRates(form.elements.rate);
      place.replaceChildren();
    },
  };
}

/** The box of a detection, as the level of the answer. */
export const boxOf = (detection, level, label) => ({ box_px: detection.box_px, level, label });

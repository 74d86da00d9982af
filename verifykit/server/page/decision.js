// The common part of Verify, Identify and Compare: a form that sends images and shows an answer.

import { byId, isWorking, working } from "./dom.js";
import { Capture } from "./capture.js";
import { fillRates, texts } from "./models.js";
import { incomplete, refusal } from "./result.js";

/**
 * Wires a panel. `check(form)` returns a sentence if something is missing; `decide({form, blobs,
 * captures, place})` asks the service and shows its answer; `remedies(problem, form)` returns buttons
 * that resolve a refusal.
 */
export function decisionView(name, { check = () => "", decide, remedies = () => [] }) {
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
      incomplete(place, missing);
      form.querySelector("input")?.focus();
      return;
    }
    const done = working(button);
    try {
      const blobs = [];
      for (const capture of captures) blobs.push(...(await capture.images()));
      if (blobs.length < captures.length) {
        const missing = captures.length > 1 ? `two ${texts().many}` : texts().an;
        incomplete(place, `Take or choose ${missing} first.`);
        return;
      }
      await decide({ form, blobs, captures, place });
    } catch (problem) {
      refusal(place, problem, ...remedies(problem, form));
    } finally {
      done();
    }
  });
  // An answer about another image, name or rate must not stay.
  for (const type of ["image", "input"]) {
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

// The models that the service offers, and which of them is chosen; the footer describes it.

import { ask } from "./api.js";
import { byId, el } from "./dom.js";
import { labels, number, oneIn, others } from "./labels.js";

// Until the service has answered, and while the key is not accepted: its default model, whatever that is.
const UNKNOWN = {
  name: "",
  modality: "",
  label: "",
  inputs: ["camera", "image"],
  live_hints: true,
  fmrs: [],
  options: { multi_face: [], quality: [], attack: [] },
};

let known = [UNKNOWN];
let chosen = UNKNOWN;
const listeners = [];

export const model = () => chosen;
export const models = () => known;
export const texts = () => labels(chosen.modality);

/** Whether samples are written on the page. */
export const isWritten = () => chosen.inputs[0] === "pen";

export const hasCamera = () => chosen.inputs.includes("camera");

/** The label of a model in a choice; with its name where another model has the same label. */
export function choiceLabel({ name, label }) {
  const alike = known.filter((one) => one.label === label);
  return alike.length > 1 ? `${label}: ${name}` : label;
}

/** Calls `listener({changed})` when the model is known; `changed` if another kind of input is needed. */
export function whenModelChanges(listener) {
  listeners.push(listener);
}

export function choose(name) {
  const before = chosen;
  chosen = known.find((one) => one.name === name) ?? known[0];
  document.documentElement.dataset.input = chosen.inputs[0];
  for (const node of document.querySelectorAll("[data-text]")) {
    node.textContent = texts()[node.dataset.text];
  }
  for (const node of document.querySelectorAll("[data-multi-face]")) {
    node.hidden = !chosen.options.multi_face.includes(node.dataset.multiFace);
  }
  const changed =
    before === UNKNOWN ? chosen.inputs[0] !== before.inputs[0] : chosen.name !== before.name;
  for (const listener of listeners) listener({ changed });
  showFooter();
}

/** Asks the service for its models; true if it answered. */
export async function load() {
  let answered = true;
  try {
    known = (await ask("/v1/models")).models;
  } catch {
    answered = false; // the listener for refused keys, or the footer, says why
  }
  choose(chosen.name);
  return answered;
}

/** Updates the footer's count after an enrolment or a deletion. */
export async function recount() {
  try {
    known = (await ask("/v1/models")).models;
    chosen = known.find((one) => one.name === chosen.name) ?? known[0];
    showFooter();
  } catch {
    return; // the count stays as it was: what was done has been reported already
  }
}

function showFooter() {
  const { name, spec_digest: digest, licence, gallery } = chosen;
  const facts = digest
    ? [
        ["Model", name],
        ["Digest", el("code", { title: digest }, digest.slice(0, 12))],
        ["Licence", licence],
        ["Enrolled", number(gallery.subject_count)],
      ]
    : [["Model", "unknown: the service cannot be reached, or requires a key"]];
  byId("facts").replaceChildren(
    ...facts.map(([term, value]) => el("div", {}, el("dt", {}, term), el("dd", {}, value))),
  );
}

const isPowerOfTen = (rate) => Math.abs(Math.log10(rate) - Math.round(Math.log10(rate))) < 1e-6;

/** Fills a `<select>` with the rates that the model is calibrated for. */
export function fillRates(select) {
  const usual = chosen.default_fmr;
  const points = chosen.fmrs.filter(
    ({ fmr, reference_count: count }) => count === 1 && (isPowerOfTen(fmr) || fmr === usual),
  );
  const attacks = [...new Set(points.map(({ attack }) => attack))];
  const options = (attack) =>
    points
      .filter((point) => point.attack === attack)
      .sort((a, b) => b.fmr - a.fmr)
      .map(({ fmr }) => el("option", { value: `${fmr} ${attack}` }, oneIn(fmr)));
  const about = attacks.length > 1 ? ` ${others(chosen.modality, chosen.default_attack)}` : "";
  const standard = el("option", { value: "" }, usual ? `${oneIn(usual)}${about} (default)` : "Default");
  const groups =
    attacks.length > 1
      ? attacks.map((attack) =>
          el("optgroup", { label: others(chosen.modality, attack) }, ...options(attack)),
        )
      : attacks.flatMap(options);
  select.replaceChildren(standard, ...groups);
}

/** The query of the rate that was selected. */
export function rateQuery(select) {
  const [fmr, attack] = select.value.split(" ");
  return { fmr, attack };
}

/** Whether a score is beyond the calibration's data, so that its rate reads "at most". */
export function isBeyondData({ score_fmr: rate, attack, reference_count: references }) {
  const points = chosen.fmrs.filter((point) => point.attack === attack);
  const measured = points.map(({ reference_count: count }) => count);
  const count = Math.max(...measured.filter((one) => one <= references));
  return points.some((point) => point.reference_count === count)
    && points.every(({ fmr, reference_count: one }) => one !== count || rate <= fmr);
}

// What the service can compare, and which of it is chosen; the page's footer says what that is.

import { ask } from "./api.js";
import { byId, el } from "./dom.js";
import { number, oneIn, others } from "./words.js";

// A key without the scope `read` may verify, but is not told about the models.
const UNTOLD = ["face", "signature"].map((name) => ({ name, modality: name, fmrs: [] }));
const NOUNS = {
  face: { tab: "Faces", one: "picture", many: "pictures", wanted: 3 },
  signature: { tab: "Signatures", one: "signature", many: "signatures", wanted: 5 },
};

let known = UNTOLD;
let chosen = UNTOLD[0];
const listeners = [];

export const model = () => chosen;
export const models = () => known;
export const nouns = (modality = chosen.modality) => NOUNS[modality] ?? NOUNS.face;

/** Calls `listener({changed})` when the model is known; `changed` if it is another one. */
export function whenModelChanges(listener) {
  listeners.push(listener);
}

export function choose(name) {
  const before = chosen;
  chosen = known.find((one) => one.name === name) ?? known[0];
  document.documentElement.dataset.modality = chosen.modality;
  const changed = chosen.name !== before.name;
  for (const listener of listeners) listener({ changed });
  showFooter();
}

/** Asks the service for its models; true if it told. */
export async function load() {
  let told = true;
  try {
    known = (await ask("/v1/models")).models;
  } catch {
    told = false; // the listener for refused keys, or the footer, says why
    known = UNTOLD;
  }
  choose(chosen.name);
  return told;
}

/** Brings the footer's count up to date after an enrolment or a deletion. */
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
    : [["Model", "not told: the service is not reached, or the key has no scope “read”"]];
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
  const whose = attacks.length > 1 ? ` ${others(chosen.modality, chosen.default_attack)}` : "";
  const usually = el("option", { value: "" }, usual ? `${oneIn(usual)}${whose} (usual)` : "Usual");
  const groups =
    attacks.length > 1
      ? attacks.map((attack) =>
          el("optgroup", { label: others(chosen.modality, attack) }, ...options(attack)),
        )
      : attacks.flatMap(options);
  select.replaceChildren(usually, ...groups);
}

/** The query of the rate that was selected. */
export function rateQuery(select) {
  const [fmr, attack] = select.value.split(" ");
  return { fmr, attack };
}

/** Whether a score lies beyond the calibration's data, so that its rate reads "at most". */
export function isBeyondData({ score_fmr: rate, attack, reference_count: references }) {
  const points = chosen.fmrs.filter((point) => point.attack === attack);
  const measured = points.map(({ reference_count: count }) => count);
  const count = Math.max(...measured.filter((one) => one <= references));
  return points.some((point) => point.reference_count === count)
    && points.every(({ fmr, reference_count: one }) => one !== count || rate <= fmr);
}

// Answers: a sentence, the score on its scale, what the rates mean; and refusals, with what to do.

import { byId, el, showAnswer } from "./dom.js";
import { openKeyDialog } from "./keys.js";
import { isBeyondData, model, texts } from "./models.js";
import { fixed, number, oneIn, others, plural, reasonLabel } from "./labels.js";

const UNUSABLE = 422;

/** Shows an answer in its place, and announces its sentence to screen readers. */
export function answer(place, card, sentence) {
  const hadFocus = place.contains(document.activeElement);
  place.replaceChildren(card);
  if (hadFocus) {
    card.tabIndex = -1; // the button pressed is gone, its answer has the focus
    card.focus({ preventScroll: true });
  }
  byId("announcer").textContent = "";
  requestAnimationFrame(() => (byId("announcer").textContent = sentence));
  showAnswer(card);
}

/** The card of a 1:1 decision; `sentence` is made of text and elements. */
export function decisionCard(decision, sentence) {
  const { match, fmr, warnings } = decision;
  const rate = fmr === null ? "" : `Decided at a false match rate of ${oneIn(fmr)}.`;
  const care = match ? "" : ` ${texts().missed}`;
  return el(
    "article",
    { class: `card ${match ? "is-match" : "is-other"}` },
    el("p", { class: "verdict" }, mark(match), el("span", {}, ...sentence)),
    el("p", {}, rate + care),
    scale(decision),
    meanings(decision),
    warnings.length ? el("p", { class: "small" }, `Weak sample: ${reasonList(warnings)}.`) : null,
    details(decision),
  );
}

const mark = (good) => el("span", { class: "mark", "aria-hidden": "true" }, good ? "✓" : "✕");

const reasonList = (codes) => codes.map((code) => reasonLabel(code).title.toLowerCase()).join(", ");

/** The score and the threshold on a line from about 0 to 1. */
export function scale({ score, threshold, match }) {
  const low = Math.max(-1, Math.min(texts().lowestScore, Math.floor(score * 10) / 10));
  const at = (value) => Math.min(1, Math.max(0, (value - low) / (1 - low)));
  const text = `Score ${fixed(score, 3)}, threshold ${fixed(threshold, 3)}, on a scale that ends at 1`;
  const line = el(
    "div",
    { class: "scale", role: "img", "aria-label": text },
    el("span", { class: "at score" }, el("b", {}, fixed(score, 3)), " score"),
    el("span", { class: "line" }, el("i", { class: "over" }), el("i", { class: "limit" }), el("i", { class: "dot" })),
    el("span", { class: "at threshold" }, "threshold ", el("b", {}, fixed(threshold, 3))),
    el("span", { class: "ends" }, el("span", {}, fixed(low, 1)), el("span", {}, "1.0")),
  );
  line.style.setProperty("--score", at(score));
  line.style.setProperty("--threshold", at(threshold));
  line.classList.toggle("is-match", match ?? score >= threshold);
  return line;
}

function meanings(decision) {
  const { score_fmr: scoreFmr, fmr, attack } = decision;
  const about = others(model().modality, attack);
  const lines = [];
  if (fmr !== null) {
    lines.push(["The threshold", `About ${oneIn(fmr)} ${about} reaches it.`]);
  }
  if (scoreFmr !== null) {
    const most = isBeyondData(decision) ? "At most" : "About";
    lines.push(["This score", `${most} ${oneIn(scoreFmr)} ${about} scores as high.`]);
  }
  return el(
    "dl",
    { class: "meanings" },
    ...lines.map(([term, text]) => el("div", {}, el("dt", {}, term), el("dd", {}, text))),
  );
}

function details(decision) {
  const facts = [
    ["Compared with", plural(decision.reference_count, "reference", "references")],
    ["Score", fixed(decision.score, 4)],
    ["Threshold", fixed(decision.threshold, 4)],
    ["Log-likelihood ratio", decision.llr === null ? "not known" : fixed(decision.llr, 2)],
    ["Model", `${decision.model} ${decision.model_digest.slice(0, 12)}`],
  ];
  return el(
    "details",
    {},
    el("summary", {}, "Details"),
    el("p", { class: "small" }, "The score is a cosine similarity, not a probability."),
    el("dl", {}, ...facts.map(([name, fact]) => el("div", {}, el("dt", {}, name), el("dd", {}, fact)))),
  );
}

/** The card of any other answer: an enrolment, a candidate, a deletion. */
export function plainCard({ good, sentence, level = good ? "is-match" : "is-other" }, ...more) {
  return el(
    "article",
    { class: `card ${level}` },
    el("p", { class: "verdict" }, mark(good), el("span", {}, ...sentence)),
    ...more,
  );
}

/** The card that says which input is missing. */
export function incomplete(place, sentence) {
  const card = el("article", { class: "card is-refused" }, el("p", {}, sentence));
  answer(place, card, sentence);
}

/** The card of a refusal; `actions` are buttons that resolve it. */
export function refusal(place, problem, ...actions) {
  if (!problem.code) throw problem; // not an answer of the service, but a bug in this page
  const { title, hint } = reasonLabel(problem.code, problem);
  const seconds = problem.retryAfter;
  const wait = seconds ? ` Try again in ${plural(seconds, "second", "seconds")}.` : "";
  const needsKey = problem.status === 401 || problem.code === "forbidden";
  const buttons = needsKey
    ? [el("button", { type: "button", class: "quiet", onclick: () => openKeyDialog(problem) }, "Enter a key")]
    : actions;
  const card = el(
    "article",
    { class: "card is-refused" },
    el("p", { class: "verdict" }, el("span", { class: "mark", "aria-hidden": "true" }, "!"), el("span", {}, `${title}.`)),
    el("p", {}, hint + wait),
    problem.status === UNUSABLE ? el("p", { class: "small" }, "No decision was made and nothing was stored.") : null,
    buttons.length ? el("div", { class: "buttons" }, ...buttons) : null,
    problem.detail
      ? el("details", {}, el("summary", {}, "Details from the service"),
          el("p", { class: "small" }, problem.detail),
          el("p", { class: "small" }, "Reason: ", el("code", {}, problem.code),
            ", request: ", el("code", {}, problem.requestId)))
      : null,
  );
  answer(place, card, `${title}. ${hint}${wait}`);
}

/** What a rate of one comparison means in a search among all subjects. */
export function searchMeaning(fmr) {
  const count = model().gallery?.subject_count;
  if (!count || !fmr) return "";
  const rate = -Math.expm1(count * Math.log1p(-fmr));
  return `With ${number(count)} enrolled, about ${oneIn(rate)} searches for a person not enrolled returns a candidate.`;
}

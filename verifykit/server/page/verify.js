// The tab that verifies a claim.

import { ask, pictureForm, subjectPath } from "./api.js";
import { boxOf, deciding } from "./deciding.js";
import { byId, el } from "./dom.js";
import { model, rateQuery } from "./models.js";
import { startsWith } from "./prefix.js";
import { answer, decisionCard } from "./result.js";

const SUGGESTIONS = 8;
const PAUSE_MS = 250;

export function startVerify() {
  const view = deciding("verify", {
    check: (form) => (form.elements.subject.value.trim() ? "" : "Give a name or a number first."),
    decide: async ({ form, blobs, captures, place }) => {
      const subjectId = form.elements.subject.value.trim();
      const decision = await ask(subjectPath(subjectId, "/verify"), {
        method: "POST",
        query: { model: model().name, ...rateQuery(form.elements.rate) },
        form: pictureForm({ image: blobs }),
      });
      const level = decision.match ? "good" : "other";
      captures[0].mark(decision.detections.map((detection) => boxOf(detection, level)));
      const [before, after] = sentence(decision.match);
      const said = [before, el("bdi", {}, subjectId), after];
      answer(place, decisionCard(decision, said), before + subjectId + after);
    },
  });
  suggest(byId("panel-verify").querySelector('[name="subject"]'));
  return view;
}

function sentence(match) {
  if (model().modality === "signature") {
    return match
      ? ["This was signed by ", "."]
      : ["This was not signed by the person enrolled as ", "."];
  }
  return match ? ["This is ", "."] : ["This is not the person enrolled as ", "."];
}

/** Offers names while one is typed; a key without the scope `read` gets none. */
function suggest(input) {
  let timer = 0;
  let mayRead = true;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    const prefix = input.value.trim();
    if (!prefix || !mayRead) return;
    timer = setTimeout(async () => {
      try {
        const { subjects } = await startsWith(prefix, SUGGESTIONS);
        byId("suggestions").replaceChildren(
          ...subjects.map((subject) => el("option", { value: subject.subject_id })),
        );
      } catch (problem) {
        mayRead = problem.status !== 403;
      }
    }, PAUSE_MS);
  });
}

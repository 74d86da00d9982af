// The tab that verifies a claimed identity.

import { ask, imageForm, subjectPath } from "./api.js";
import { boxOf, decisionView } from "./decision.js";
import { byId, el } from "./dom.js";
import { model, rateQuery, texts } from "./models.js";
import { startsWith } from "./prefix.js";
import { answer, decisionCard } from "./result.js";

const SUGGESTIONS = 8;
const PAUSE_MS = 250;

export function startVerify() {
  const view = decisionView("verify", {
    check: (form) => (form.elements.subject.value.trim() ? "" : "Enter a name or a number first."),
    decide: async ({ form, blobs, captures, place }) => {
      const subjectId = form.elements.subject.value.trim();
      const decision = await ask(subjectPath(subjectId, "/verify"), {
        method: "POST",
        query: { model: model().name, ...rateQuery(form.elements.rate) },
        form: imageForm({ image: blobs }),
      });
      const level = decision.match ? "good" : "other";
      captures[0].mark(decision.detections.map((detection) => boxOf(detection, level)));
      const [before, after] = decision.match ? texts().isMatch : texts().isOther;
      const said = [before, el("bdi", {}, subjectId), after];
      answer(place, decisionCard(decision, said), before + subjectId + after);
    },
  });
  suggest(byId("panel-verify").querySelector('[name="subject"]'));
  return view;
}

/** Suggests names while one is typed, unless the key lacks the scope `read`. */
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

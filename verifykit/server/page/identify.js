// The tab that identifies.

import { ask, imageForm } from "./api.js";
import { boxOf, decisionView } from "./decision.js";
import { el } from "./dom.js";
import { model, rateQuery, texts } from "./models.js";
import { answer, plainCard, scale, searchMeaning } from "./result.js";
import { oneIn, reasonLabel } from "./labels.js";

export function startIdentify() {
  return decisionView("identify", {
    decide: async ({ form, blobs, captures, place }) => {
      const everyone = form.elements.everyone.checked && takesEveryone();
      const { faces } = await ask("/v1/identify", {
        method: "POST",
        query: {
          model: model().name,
          limit: 5,
          ...rateQuery(form.elements.rate),
          ...(everyone ? { multi_face: "all" } : {}),
        },
        form: imageForm({ image: blobs }),
      });
      const numbered = faces.length > 1;
      captures[0].mark(
        faces
          .filter(({ detection }) => detection)
          .map(({ detection, candidates }, index) =>
            boxOf(detection, candidates.length ? "good" : "other", numbered ? `${index + 1}` : ""),
          ),
      );
      const cards = faces.map((face, index) => faceCard(face, numbered ? index + 1 : 0));
      const sentences = faces.map((face, index) =>
        (numbered ? `Face ${index + 1}: ` : "") + said(face).join(""));
      answer(place, el("div", { class: "cards" }, ...cards), sentences.join(" "));
    },
    remedies: ({ code }, form) =>
      code === "several_faces" && takesEveryone() ? [everyoneButton(form)] : [],
  });
}

const takesEveryone = () => model().options.multi_face.includes("all");

function everyoneButton(form) {
  const identifyAll = () => {
    form.elements.everyone.checked = true;
    form.requestSubmit();
  };
  return el("button", { type: "button", class: "primary", onclick: identifyAll }, "Identify everyone");
}

function said({ candidates: [best] }) {
  const { isMatch: [before, after], isUnknown } = texts();
  return best ? [before, best.subject_id, after] : [isUnknown, "", ""];
}

function faceCard(face, order) {
  const { candidates, fmr, reasons } = face;
  const [before, who, after] = said(face);
  const sentence = [order ? `${order}. ` : "", before, el("bdi", {}, who), after];
  const rate = fmr === null ? "" : `Decided at a false match rate of ${oneIn(fmr)} for one comparison.`;
  const note = candidates[0]?.metadata.note;
  const weak = reasons.map((code) => reasonLabel(code).title.toLowerCase()).join(", ");
  return plainCard(
    { good: candidates.length > 0, sentence },
    note ? el("p", { class: "note" }, String(note)) : null,
    el("p", {}, `${rate} ${searchMeaning(fmr)}`),
    candidates.length ? el("ol", { class: "candidates" }, ...candidates.map(candidateRow)) : null,
    weak ? el("p", { class: "small" }, `Weak sample: ${weak}.`) : null,
  );
}

const candidateRow = (candidate) =>
  el("li", {}, el("p", { class: "name" }, el("bdi", {}, candidate.subject_id)), scale(candidate));

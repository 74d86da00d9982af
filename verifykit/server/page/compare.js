// The tab that compares two pictures.

import { ask, pictureForm } from "./api.js";
import { boxOf, deciding } from "./deciding.js";
import { model, rateQuery } from "./models.js";
import { answer, decisionCard } from "./result.js";

const SENTENCES = {
  face: ["These show two different people.", "Both show the same person."],
  signature: ["These were signed by two different people.", "Both were signed by the same person."],
};

export function startCompare() {
  return deciding("compare", {
    decide: async ({ form, blobs: [probe, reference], captures, place }) => {
      const decision = await ask("/v1/compare", {
        method: "POST",
        query: { model: model().name, ...rateQuery(form.elements.rate) },
        form: pictureForm({ probe, reference }),
      });
      const level = decision.match ? "good" : "other";
      decision.detections.forEach((detection, index) => captures[index].mark([boxOf(detection, level)]));
      const sentence = (SENTENCES[model().modality] ?? SENTENCES.face)[Number(decision.match)];
      answer(place, decisionCard(decision, [sentence]), sentence);
    },
  });
}

// The tab that compares two images.

import { ask, imageForm } from "./api.js";
import { boxOf, decisionView } from "./decision.js";
import { model, rateQuery, texts } from "./models.js";
import { answer, decisionCard } from "./result.js";

export function startCompare() {
  return decisionView("compare", {
    decide: async ({ form, blobs: [probe, reference], captures, place }) => {
      const decision = await ask("/v1/compare", {
        method: "POST",
        query: { model: model().name, ...rateQuery(form.elements.rate) },
        form: imageForm({ probe, reference }),
      });
      const level = decision.match ? "good" : "other";
      decision.detections.forEach((detection, index) => captures[index].mark([boxOf(detection, level)]));
      const sentence = decision.match ? texts().areSame : texts().areDifferent;
      answer(place, decisionCard(decision, [sentence]), sentence);
    },
  });
}

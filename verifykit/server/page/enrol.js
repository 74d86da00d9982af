// The tab that enrols.

import { ask, freshKey, imageForm, subjectPath } from "./api.js";
import { Capture } from "./capture.js";
import { byId, el, isWorking, part, working } from "./dom.js";
import { model, recount, texts } from "./models.js";
import { answer, incomplete, plainCard, refusal } from "./result.js";
import { plural, reasonLabel } from "./labels.js";

export function startEnrol() {
  const panel = byId("panel-enrol");
  const form = panel.querySelector("form");
  const place = panel.querySelector("[data-answer]");
  const button = form.querySelector("button");
  const capture = new Capture(panel.querySelector("[data-capture]"), { several: true });
  let attempt = null; // a repeated attempt with the same content must enrol only once

  async function enrol(existing) {
    if (isWorking(button)) return;
    const subjectId = form.elements.subject.value.trim();
    if (!subjectId) {
      incomplete(place, "Enter a name or a number first.");
      form.elements.subject.focus();
      return;
    }
    const done = working(button);
    try {
      const blobs = await capture.images();
      if (!blobs.length) {
        incomplete(place, `Take or choose at least one ${texts().one} first.`);
        return;
      }
      const report = await send(subjectId, blobs, existing);
      report.refused.forEach(({ image, reason }) => capture.refuse(orderOf(image), reason));
      showReport(report);
      recount();
    } catch (problem) {
      const add = el(
        "button",
        { type: "button", class: "primary", onclick: () => enrol("append") },
        `Add ${texts().many} to this person`,
      );
      refusal(place, problem, ...(problem.code === "subject_exists" ? [add] : []));
    } finally {
      done();
    }
  }

  async function send(subjectId, blobs, existing) {
    const note = form.elements.note.value.trim();
    const content = [model().name, subjectId, note, existing, ...blobs];
    const same = attempt?.content.length === content.length;
    if (!same || !content.every((one, index) => one === attempt.content[index])) {
      attempt = { content, key: freshKey() };
    }
    const body = imageForm({ image: blobs });
    if (note) body.append("metadata", JSON.stringify({ note }));
    try {
      return await ask(subjectPath(subjectId), {
        method: "PUT",
        query: { model: model().name, on_existing: existing },
        headers: { "Idempotency-Key": attempt.key },
        form: body,
      });
    } catch (problem) {
      if (problem.status >= 400 && problem.status < 500) attempt = null; // answered: nothing was done
      throw problem;
    }
  }

  function showReport(report) {
    attempt = null;
    const { accepted, refused, warnings, template_count: count } = report;
    const sentence = [el("bdi", {}, report.subject_id), " is enrolled."];
    const refusals = refused.map(({ image, reason }) =>
      el("li", {}, `${label(image)}: ${reasonLabel(reason).title}. ${reasonLabel(reason).hint}`),
    );
    const next = el("button", { type: "button", class: "quiet", onclick: clear }, "Enrol another person");
    const card = plainCard(
      { good: true, sentence },
      el("p", {}, `${plural(accepted.length, `${texts().one} was`, `${texts().many} were`)} accepted; `
        + `${plural(count, "template is", "templates are")} stored.`),
      refused.length ? el("p", {}, `${plural(refused.length, "was", "were")} refused:`) : null,
      refused.length ? el("ul", {}, ...refusals) : null,
      warnings.length ? el("p", {}, "Check:") : null,
      warnings.length ? el("ul", {}, ...warnings.map((text) => el("li", {}, capital(text)))) : null,
      el("div", { class: "buttons" }, next),
    );
    answer(place, card, `${report.subject_id} is enrolled.`);
  }

  function clear() {
    form.reset();
    capture.clear();
    place.replaceChildren();
    form.elements.subject.focus();
  }

  for (const type of ["image", "input"]) {
    panel.addEventListener(type, () => place.replaceChildren());
  }
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    enrol();
  });
  return { captures: [capture], changed: () => place.replaceChildren() };
}

const orderOf = (image) => Number(/(\d+)(\.\w+)?$/.exec(image)?.[1] ?? 0) - 1;

const capital = (text) => text[0].toUpperCase() + text.slice(1);

const label = (image) =>
  orderOf(image) < 0 ? image : `${capital(texts().one)} ${orderOf(image) + 1}`;

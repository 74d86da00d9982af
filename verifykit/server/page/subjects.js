// The tab that lists, finds and deletes subjects.

import { ask, subjectPath } from "./api.js";
import { byId, el, part } from "./dom.js";
import { model, recount } from "./models.js";
import { startsWith } from "./prefix.js";
import { answer, plainCard, refusal } from "./result.js";
import { number, plural } from "./labels.js";

const PAGE = 50;
const PAUSE_MS = 250;

export function startSubjects() {
  const panel = byId("panel-people");
  const search = panel.querySelector('[name="prefix"]');
  const list = byId("people-list");
  const more = byId("people-more");
  const problemPlace = byId("people-problem");
  const dialog = byId("delete-dialog");
  let next = null;
  let turn = 0; // a late answer to an older search is dropped
  let timer = 0;
  let selected = null;

  async function load({ onward = false } = {}) {
    const mine = ++turn;
    try {
      const page = await startsWith(search.value, PAGE, onward ? next : undefined);
      if (mine !== turn) return;
      const rows = page.subjects.map(row);
      if (onward) list.append(...rows);
      else list.replaceChildren(...rows);
      if (onward) rows[0]?.querySelector("button").focus();
      next = page.next;
      more.hidden = next === null;
      problemPlace.replaceChildren();
      count();
    } catch (problem) {
      if (mine !== turn) return;
      list.replaceChildren();
      more.hidden = true;
      byId("people-count").textContent = "";
      refusal(problemPlace, problem);
    }
  }

  function count() {
    const shown = number(list.children.length) + (next === null ? "" : " or more");
    byId("people-count").textContent = search.value
      ? `${shown === "0" ? "No one" : shown} found with a name that begins with “${search.value}”.`
      : shown === "0"
        ? "No one is enrolled yet."
        : `${number(model().gallery?.subject_count ?? list.children.length)} enrolled.`;
  }

  function row({ subject_id: id, template_count: templates, metadata }) {
    const known = Object.entries(metadata ?? {});
    const note = known.map(([name, value]) =>
      name === "note" ? String(value) : `${name}: ${typeof value === "string" ? value : JSON.stringify(value)}`,
    );
    return el(
      "li",
      {},
      el(
        "div",
        { class: "who" },
        el("p", { class: "name" }, el("bdi", {}, id)),
        el("p", { class: "small" }, [plural(templates, "template", "templates"), ...note].join(" · ")),
      ),
      el(
        "button",
        { type: "button", class: "danger quiet", "aria-label": `Delete ${id}`, onclick: () => confirm(id, templates) },
        "Delete",
      ),
    );
  }

  function confirm(id, templates) {
    selected = id;
    part(dialog, "who").textContent = id;
    part(dialog, "what").textContent =
      `${plural(templates, "template", "templates")} and the note are erased. This cannot be undone.`;
    dialog.showModal();
  }

  async function remove() {
    const id = selected;
    dialog.close();
    try {
      const { removed_templates: removed } = await ask(subjectPath(id), {
        method: "DELETE",
        query: { model: model().name },
      });
      await recount();
      await load();
      const sentence = [el("bdi", {}, id), " is deleted."];
      const card = plainCard(
        { good: true, sentence, level: "is-plain" },
        el("p", {}, `${plural(removed, "template was", "templates were")} erased.`),
      );
      answer(problemPlace, card, `${id} is deleted.`);
    } catch (problem) {
      refusal(problemPlace, problem);
    }
    search.focus();
  }

  panel.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(load, PAUSE_MS);
  });
  more.addEventListener("click", () => load({ onward: true }));
  part(dialog, "cancel").addEventListener("click", () => dialog.close());
  part(dialog, "delete").addEventListener("click", remove);
  return {
    captures: [],
    changed: () => {
      search.value = "";
      problemPlace.replaceChildren();
      if (!panel.hidden) load();
    },
    shown: () => {
      problemPlace.replaceChildren();
      load();
    },
  };
}

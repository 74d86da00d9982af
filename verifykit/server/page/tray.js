// The pictures that were taken for one enrolment, each with what is wrong about it.

import { el } from "./dom.js";
import { nouns } from "./models.js";
import { reasonWords } from "./words.js";

export class Tray {
  #list;
  #items = [];
  #onChange;

  constructor(list, onChange) {
    this.#list = list;
    this.#onChange = onChange;
  }

  get blobs() {
    return this.#items.map(({ blob }) => blob);
  }

  /** Adds a picture; gives back what notes the service's reasons against it. */
  add(blob) {
    const item = { blob, url: URL.createObjectURL(blob), reason: "" };
    this.#items.push(item);
    this.#draw();
    return (reason) => {
      item.reason = reason;
      if (this.#items.includes(item)) this.#draw();
    };
  }

  /** Notes against the picture of this number, from 0, why it was refused. */
  refuse(index, reason) {
    if (!this.#items[index]) return;
    this.#items[index].reason = reason;
    this.#draw();
  }

  clear() {
    for (const { url } of this.#items) URL.revokeObjectURL(url);
    this.#items = [];
    this.#draw();
  }

  #remove(item) {
    URL.revokeObjectURL(item.url);
    const index = this.#items.indexOf(item);
    this.#items.splice(index, 1);
    this.#draw();
    const left = this.#list.querySelectorAll("button");
    const tool = this.#list.parentElement.querySelector(".tools button:not([hidden], :disabled)");
    (left[Math.min(index, left.length - 1)] ?? tool)?.focus();
  }

  #draw() {
    this.#list.replaceChildren(
      ...this.#items.map((item, index) => {
        const name = `${nouns().one} ${index + 1}`;
        const trouble = item.reason ? reasonWords(item.reason).title : "";
        return el(
          "li",
          { class: item.reason ? "is-weak" : "" },
          el("img", { src: item.url, alt: `${name}${trouble ? `: ${trouble}` : ""}` }),
          el(
            "button",
            { type: "button", "aria-label": `Remove ${name}`, onclick: () => this.#remove(item) },
            "×",
          ),
          trouble ? el("span", { class: "trouble" }, trouble) : null,
        );
      }),
    );
    this.#onChange();
  }
}

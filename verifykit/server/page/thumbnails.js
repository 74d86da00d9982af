// The images that were taken for one enrolment, each with the reason against it.

import { el } from "./dom.js";
import { texts } from "./models.js";
import { reasonLabel } from "./labels.js";

export class Thumbnails {
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

  /** Adds an image; returns a function that notes the service's reason against it. */
  add(blob) {
    const item = { blob, url: URL.createObjectURL(blob), reason: "" };
    this.#items.push(item);
    this.#draw();
    return (reason) => {
      item.reason = reason;
      if (this.#items.includes(item)) this.#draw();
    };
  }

  /** Notes why the image of this number, from 0, was refused. */
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
        const name = `${texts().one} ${index + 1}`;
        const trouble = item.reason ? reasonLabel(item.reason).title : "";
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

// Building and finding elements. Text goes in as text, never as HTML: subject ids come from people.

/** Makes an element: `el("p", {class: "note", onclick: f}, "text", child)`. */
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const SVG = "http://www.w3.org/2000/svg";

/** The same for SVG. */
export function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

export const byId = (id) => document.getElementById(id);

/** The part of a component that carries `data-part="name"`. */
export const part = (root, name) => root.querySelector(`[data-part="${name}"]`);

/** A copy of a `<template>`'s only element. */
export const copyOf = (id) => byId(id).content.firstElementChild.cloneNode(true);

/** Marks a button as working, so that it is not pressed twice; returns a function that ends that. */
export function working(button) {
  button.setAttribute("aria-disabled", "true");
  button.classList.add("is-working");
  return () => {
    button.removeAttribute("aria-disabled");
    button.classList.remove("is-working");
  };
}

export const isWorking = (button) => button.getAttribute("aria-disabled") === "true";

/** Scrolls a new answer into view on a phone, where it is below the image. */
export function showAnswer(node) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  node.scrollIntoView({ block: "nearest", behavior: calm ? "auto" : "smooth" });
}

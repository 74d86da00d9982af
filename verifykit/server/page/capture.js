// One source of images: camera, file, drop and paste, or a pen on the page.

import * as camera from "./camera.js";
import { copyOf, el, part } from "./dom.js";
import { inspect, watch } from "./live.js";
import { hasCamera, isWritten, model, texts, whenModelChanges } from "./models.js";
import { overlay } from "./boxes.js";
import { Paper } from "./pen.js";
import { Thumbnails } from "./thumbnails.js";
import { reasonLabel } from "./labels.js";

const TOOLS = {
  live: ["shoot", "cameras", "stop"],
  pen: ["undo", "clear", "scan"],
  image: ["again"],
  empty: [],
};
const SPOKEN_EVERY_MS = 2500;
let holder = null; // which capture shows the camera; there is one camera

export class Capture {
  #parts = {};
  #paper;
  #thumbnails;
  #several;
  #state = "empty";
  #blob = null;
  #unwatch = () => {};
  #spokenAt = 0;

  /** Fills `place`; with `several` it collects images as thumbnails. */
  constructor(place, { several = false } = {}) {
    const root = copyOf("capture-template");
    for (const node of root.querySelectorAll("[data-part]")) this.#parts[node.dataset.part] = node;
    this.#several = several;
    this.#parts.root = root;
    const title = place.dataset.capture;
    root.setAttribute("aria-label", title ? `${title} image` : "Image");
    if (title) Object.assign(this.#parts.title, { textContent: title, hidden: false });
    this.#parts.file.multiple = several;
    this.#paper = new Paper(this.#parts.paper, () => this.#changed());
    this.#thumbnails = new Thumbnails(this.#parts.thumbnails, () => this.#showTools());
    this.#wire();
    place.replaceWith(root);
    whenModelChanges(({ changed }) => {
      if (changed) this.clear();
      if (this.#state === "live") this.#watch(); // another key or model may allow it now
    });
    this.#rest();
  }

  get hasImage() {
    return this.#blob !== null || this.#thumbnails.blobs.length > 0 || !this.#paper.isBlank;
  }

  /** The images to send: those taken, else what the camera or the paper shows now. */
  async images() {
    if (this.#state === "live" && !this.hasImage) await this.#shoot();
    if (this.#state === "pen" && !this.#paper.isBlank) {
      if (!this.#several) return [await this.#paper.png()];
      await this.#addInk();
    }
    return this.#several ? this.#thumbnails.blobs : this.#blob ? [this.#blob] : [];
  }

  /** Its tab is shown: the camera stays on if it was on in another tab. */
  show() {
    if (this.#state === "empty" && camera.isOn() && !holder) this.#goLive();
  }

  /** Its tab is hidden: it stops watching. */
  hide() {
    this.#leaveLive();
  }

  /** Draws boxes on the image that is shown: `[{box_px, level, label}]`. */
  mark(boxes) {
    const { naturalWidth: width, naturalHeight: height } = this.#parts.image;
    if (this.#state === "image" && width) this.#drawBoxes(width, height, boxes);
  }

  refuse(index, reason) {
    this.#thumbnails.refuse(index, reason);
  }

  clear() {
    this.#thumbnails.clear();
    this.#paper.clear();
    this.#again();
  }

  /** Takes image files: all of them, or the first. */
  take(files) {
    for (const file of this.#several ? files : [...files].slice(0, 1)) this.#put(file);
  }

  #wire() {
    const on = (name, type, listener) => this.#parts[name].addEventListener(type, listener);
    on("camera", "click", async () => {
      await this.#goLive();
      if (this.#state === "live") this.#parts.shoot.focus({ preventScroll: true });
    });
    on("cameras", "change", () => this.#goLive(this.#parts.cameras.value));
    on("stop", "click", () => {
      this.#leaveLive();
      camera.close();
      this.#parts.camera.focus();
    });
    on("shoot", "click", () => this.#shoot());
    on("again", "click", () => {
      this.#again();
      this.#parts.root.querySelector("button:not([hidden])")?.focus();
    });
    on("choose", "click", () => this.#parts.file.click());
    on("scan", "click", () => this.#parts.file.click());
    on("undo", "click", () => this.#paper.undo());
    on("clear", "click", () => this.#paper.clear());
    on("add", "click", () => this.#addInk());
    on("file", "change", () => {
      this.take(this.#parts.file.files);
      this.#parts.file.value = ""; // so that the same file can be chosen again
    });
    on("stage", "dragover", (event) => {
      event.preventDefault();
      this.#parts.stage.classList.add("is-over");
    });
    on("stage", "dragleave", () => this.#parts.stage.classList.remove("is-over"));
    on("stage", "drop", (event) => {
      event.preventDefault();
      this.#parts.stage.classList.remove("is-over");
      this.take(event.dataTransfer.files);
    });
  }

  async #goLive(deviceId) {
    if (holder && holder !== this) holder.#leaveLive();
    holder = this;
    const { video, trouble, cameras } = this.#parts;
    trouble.textContent = "";
    this.#unwatch();
    try {
      video.srcObject = await camera.open(deviceId, () => holder?.#leaveLive());
    } catch ({ title, hint }) {
      this.#leaveLive();
      trouble.replaceChildren(el("strong", {}, title), ` ${hint}`);
      return;
    }
    if (holder !== this) return; // another place took it, or this one was left, in the meantime
    video.classList.toggle("is-mirrored", camera.isMirrored());
    this.#parts.boxes.classList.toggle("is-mirrored", camera.isMirrored());
    this.#setState("live");
    await video.play().catch(() => {}); // another camera was chosen before this one began
    const choices = await camera.choices();
    cameras.replaceChildren(
      ...choices.map(({ id, label, open }) => el("option", { value: id, selected: open }, label)),
    );
    this.#showTools();
    if (this.#state === "live") this.#watch();
  }

  #watch() {
    this.#unwatch();
    if (!model().live_hints) return;
    this.#unwatch = watch(this.#parts.video, (sight) => this.#saw(sight));
  }

  #leaveLive() {
    this.#unwatch();
    this.#unwatch = () => {};
    this.#parts.video.srcObject = null;
    if (holder === this) holder = null;
    if (this.#state === "live") this.#rest();
  }

  #saw({ report, hint }) {
    const { hint: pill } = this.#parts;
    pill.textContent = hint.text;
    pill.dataset.level = hint.level;
    pill.hidden = false;
    const boxes = (report?.samples ?? [])
      .filter(({ detection }) => detection)
      .map(({ detection }) => ({ box_px: detection.box_px, level: hint.level }));
    if (report) this.#drawBoxes(report.width_px, report.height_px, boxes);
    // Four updates a second are too many for a screen reader.
    if (performance.now() - this.#spokenAt < SPOKEN_EVERY_MS) return;
    this.#spokenAt = performance.now();
    this.#say(hint.text);
  }

  async #shoot() {
    const { video, stage } = this.#parts;
    stage.classList.remove("is-flashing");
    const blob = await camera.frame(video);
    if (!blob) return;
    if (this.#several) requestAnimationFrame(() => stage.classList.add("is-flashing"));
    await this.#put(blob);
  }

  async #addInk() {
    const written = this.#paper.png();
    this.#paper.clear(); // at once: the next signature may already be under way
    const blob = await written;
    if (blob) await this.#put(blob);
  }

  async #put(blob) {
    const note = this.#several ? this.#thumbnails.add(blob) : await this.#display(blob);
    this.#changed();
    this.#look(blob, note);
  }

  /** Shows one image in place of camera or paper; returns a function that notes reasons under it. */
  async #display(blob) {
    const { image } = this.#parts;
    const wasFocused = this.#parts.root.contains(document.activeElement);
    this.#leaveLive();
    this.#blob = blob;
    URL.revokeObjectURL(image.src);
    image.src = URL.createObjectURL(blob);
    image.alt = `The ${texts().one} to be sent`;
    await image.decode().catch(() => {
      image.alt = "This browser cannot show the file; the service may still read it.";
    });
    this.#setState("image");
    if (wasFocused) this.#parts.again.focus({ preventScroll: true });
    return (reason, report) => {
      if (this.#blob !== blob) return;
      const level = reason ? "bad" : "good";
      const found = report.samples.filter(({ detection }) => detection);
      if (found.length) this.mark(found.map(({ detection }) => ({ ...detection, level })));
      const { title, hint } = reasonLabel(reason);
      this.#say(reason ? `${title}. ${hint}` : texts().usable);
    };
  }

  async #look(blob, note) {
    try {
      const report = await inspect(blob);
      note(report.reasons[0] ?? "", report);
    } catch (problem) {
      // Only a preview: the verb itself reports other problems.
      if (problem.status === 422) note(problem.code, { samples: [] });
    }
  }

  #again() {
    this.#blob = null;
    this.#changed();
    this.#parts.trouble.textContent = "";
    if (this.#state === "live" && hasCamera()) return;
    this.#leaveLive();
    this.#rest();
    if (this.#parts.root.checkVisibility()) this.show();
  }

  #rest() {
    this.#say("");
    this.#setState(isWritten() ? "pen" : "empty");
  }

  #setState(state) {
    this.#state = state;
    const { root, start, camera: startCamera, video, image, paper, boxes, hint } = this.#parts;
    root.dataset.state = state;
    boxes.replaceChildren();
    if (state !== "live") boxes.classList.remove("is-mirrored");
    hint.hidden = true;
    start.hidden = state !== "empty";
    video.hidden = state !== "live";
    startCamera.hidden = !hasCamera();
    image.hidden = state !== "image";
    paper.hidden = state !== "pen";
    this.#showTools();
  }

  #showTools() {
    const { cameras, add, tools, undo, clear } = this.#parts;
    const shown = [...TOOLS[this.#state], ...(this.#several && this.#state === "pen" ? ["add"] : [])];
    for (const tool of tools.children) tool.hidden = !shown.includes(tool.dataset.part);
    if (cameras.options.length < 2) cameras.hidden = true;
    for (const button of [add, undo, clear]) button.disabled = this.#paper.isBlank;
  }

  /** Tells the form that an answer about another image is out of date. */
  #changed() {
    this.#showTools();
    this.#parts.root.dispatchEvent(new CustomEvent("image", { bubbles: true }));
  }

  #drawBoxes(width, height, boxes) {
    this.#parts.boxes.replaceChildren(overlay(width, height, boxes));
  }

  #say(text) {
    if (this.#parts.seen.textContent !== text) this.#parts.seen.textContent = text;
  }
}

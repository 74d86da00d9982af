// Boxes over an image or a video, in the image's own pixels.

import { svg } from "./dom.js";

const CORNER_SHARE = 0.12;

/** An overlay for an image of `width` x `height`; each box is `{box_px, level, label}`. */
export function overlay(width, height, boxes) {
  const drawing = svg("svg", { viewBox: `0 0 ${width} ${height}`, focusable: "false" });
  for (const { box_px: [left, top, w, h], level, label } of boxes) {
    const corner = CORNER_SHARE * Math.min(w, h);
    const shape = { x: left, y: top, width: w, height: h, rx: corner };
    drawing.append(svg("rect", { class: "halo", ...shape }));
    drawing.append(svg("rect", { class: `box ${level ?? ""}`, ...shape }));
    if (label) {
      const size = Math.max(height / 18, h / 7);
      const place = { x: left + w / 2, y: Math.min(height - size / 3, top + h + size * 1.1) };
      drawing.append(svg("text", { ...place, "font-size": size, "text-anchor": "middle" }, label));
    }
  }
  return drawing;
}

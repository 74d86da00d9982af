// Inspects the video before a photo is taken: about four small frames a second, one at a time.

import { ask, imageForm } from "./api.js";
import { frame } from "./camera.js";
import { model } from "./models.js";
import { liveHint } from "./labels.js";

const EVERY_MS = 250;
const SIDE_PX = 480;
const AFTER_TROUBLE_MS = 3000;

/** What the service finds in an image; nothing is stored or decided. */
export function inspect(blob, signal) {
  const form = imageForm({ image: blob });
  return ask("/v1/inspect", { method: "POST", query: { model: model().name }, form, signal });
}

/** Watches `video` and calls `onSight({report, hint})`; returns a function that stops it. */
export function watch(video, onSight) {
  const stop = new AbortController();
  let box = null;
  let timer = 0;

  async function look() {
    const started = performance.now();
    let pause = EVERY_MS;
    const blob = document.hidden ? null : await frame(video, SIDE_PX);
    try {
      if (blob && !stop.signal.aborted) {
        const report = await inspect(blob, stop.signal);
        const hint = liveHint(report, box);
        box = report.samples[0]?.detection?.box_px ?? null;
        if (!stop.signal.aborted) onSight({ report, hint });
      }
    } catch (problem) {
      if (stop.signal.aborted) return;
      if (problem.status === 401 || problem.status === 403) return; // needs another key first
      pause = Math.max(AFTER_TROUBLE_MS, problem.retryAfter * 1000);
      onSight({ report: null, hint: { level: "advice", text: "No hints at the moment" } });
    }
    if (stop.signal.aborted) return;
    timer = setTimeout(look, Math.max(0, pause - (performance.now() - started)));
  }

  look();
  return () => {
    stop.abort();
    clearTimeout(timer);
  };
}

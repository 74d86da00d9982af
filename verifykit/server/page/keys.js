// The API key: entered in a dialog, kept for this browser tab.

import { keepKey, key, whenKeyIsRefused } from "./api.js";
import { byId, part } from "./dom.js";

const WHY = {
  plain: "Required only if the service uses keys.",
  401: "This service requires a key. The key in this tab is missing, wrong or expired.",
  403: "The key is valid, but its scopes do not allow this. Use another key, or ask the operator for one.",
};

const dialog = byId("key-dialog");

/** Opens the dialog; `problem` says why, if the service refused. */
export function openKeyDialog(problem) {
  part(dialog, "why").textContent = WHY[problem?.status] ?? WHY.plain;
  if (dialog.open) return; // a second refusal must not replace what is being typed
  dialog.querySelector("input").value = key();
  dialog.showModal();
}

/** Wires the button and the dialog; `onChange` runs when another key is in use. */
export function startKeys(onChange) {
  byId("open-key").addEventListener("click", () => openKeyDialog());
  part(dialog, "cancel").addEventListener("click", () => dialog.close());
  dialog.querySelector("form").addEventListener("submit", () => {
    keepKey(dialog.querySelector("input").value.trim());
    onChange();
  });
  // A 403 is shown as an answer, with a button of its own; without any key nothing works.
  whenKeyIsRefused((problem) => problem.status === 401 && openKeyDialog(problem));
}

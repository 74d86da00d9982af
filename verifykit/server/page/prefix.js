// Finding subjects by the beginning of their id, in a list that is paged by id.

import { ask } from "./api.js";
import { model } from "./models.js";

const LAST = String.fromCodePoint(0x10ffff);

/** What comes just before every text that begins with `prefix`, in code point order. */
export function justBefore(prefix) {
  if (!prefix) return "";
  const points = [...prefix];
  const last = points.pop().codePointAt(0);
  const lower = last === 0xe000 ? 0xd7ff : last - 1; // no text holds half a surrogate pair
  // No id contains a control character, and the service refuses them.
  return points.join("") + (lower < 0x20 ? "" : String.fromCodePoint(lower) + LAST);
}

/** A page of subjects whose id begins with `prefix`; `after` continues an earlier page. */
export async function startsWith(prefix, limit, after = justBefore(prefix)) {
  const page = await ask("/v1/subjects", { query: { model: model().name, after, limit } });
  const subjects = page.subjects.filter(({ subject_id: id }) => id.startsWith(prefix));
  const ended = subjects.length < page.subjects.length && subjects.length < limit;
  return { subjects, next: ended ? null : page.next };
}

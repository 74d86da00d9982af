// Every request to the service goes through here, with the API key and with one kind of error.

const STORE = "verifykit.key";
let onRefusedKey = () => {};

/** A problem document of the service, or no answer at all (`code` is "no_answer"). */
export class Problem extends Error {
  constructor({ code, title, detail = "", hint = "", status = 0, retryAfter = 0, requestId = "" }) {
    super(title);
    Object.assign(this, { code, title, detail, hint, status, retryAfter, requestId });
  }
}

export const key = () => sessionStorage.getItem(STORE) ?? "";

export function keepKey(value) {
  if (value) sessionStorage.setItem(STORE, value);
  else sessionStorage.removeItem(STORE);
}

/** Calls `listener(problem)` whenever the service refuses the key (401) or its scopes (403). */
export function whenKeyIsRefused(listener) {
  onRefusedKey = listener;
}

/** Sends a request; returns the JSON of a 2xx answer and throws a Problem for anything else. */
export async function ask(path, { method = "GET", query = {}, form, headers = {}, signal } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== "");
  const search = given.length ? `?${new URLSearchParams(given)}` : "";
  const sent = new Headers(headers);
  if (key()) sent.set("Authorization", `Bearer ${key()}`);
  let response;
  try {
    response = await fetch(path + search, { method, headers: sent, body: form, signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem({ code: "no_answer", title: "The service does not respond" });
  }
  let body = {};
  try {
    body = await response.json();
  } catch {
    body = {}; // a proxy's page, or an answer cut short
  }
  if (response.ok) return body;
  const problem = new Problem({
    code: body.code ?? `http_${response.status}`,
    title: body.title ?? `The service responded with status ${response.status}`,
    detail: body.detail,
    hint: body.hint,
    status: response.status,
    requestId: body.request_id,
    retryAfter: Number(response.headers.get("Retry-After")) || 0,
  });
  if (response.status === 401 || problem.code === "forbidden") onRefusedKey(problem);
  throw problem;
}

/** The path of a subject. "." and ".." are folders in a web address, also if they are encoded. */
export function subjectPath(subjectId, verb = "") {
  if (subjectId === "." || subjectId === "..") {
    throw new Problem({
      code: "bad_request",
      title: "This name cannot be used in a web address",
      hint: "Use another name, or the command line.",
    });
  }
  return `/v1/subjects/${encodeURIComponent(subjectId)}${verb}`;
}

/** A form with images under the names that the service expects: `{image: [blob, blob]}`. */
export function imageForm(fields) {
  const form = new FormData();
  for (const [name, blobs] of Object.entries(fields)) {
    [blobs].flat().forEach((blob, index) => form.append(name, blob, fileName(blob, index)));
  }
  return form;
}

function fileName(blob, index) {
  const kind = { "image/png": "png", "image/webp": "webp" }[blob.type] ?? "jpg";
  return `image-${index + 1}.${kind}`;
}

/** A new idempotency key for one enrolment; `crypto.randomUUID` is missing on plain HTTP. */
export function freshKey() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

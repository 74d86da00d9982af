// What codes and rates are called, for people.

const REASONS = {
  no_face: ["No face was found", "Show the whole face, from the front and in good light."],
  several_faces: ["There is more than one face", "Only one person may be in the picture."],
  face_too_small: ["The face is too small", "Come closer, or use a larger picture."],
  clipped: ["It is cut off at the edge", "Move it to the middle of the picture."],
  extreme_pose: ["The face is turned away", "Look straight at the camera and keep the head upright."],
  too_dark: ["The picture is too dark", "Turn towards a lamp or a window."],
  too_bright: ["The picture is too bright", "Step out of the direct light."],
  too_blurred: ["The picture is blurred", "Hold still, wipe the lens, and try again."],
  blank: ["There is nothing on the paper", "Sign first, or scan with more contrast."],
  too_dense: ["There is too much on the paper", "Show the signature alone: no text, stamp or photograph."],
  too_little_ink: ["There is too little ink", "Give the whole signature, not a dot or a line."],
  too_small: ["The signature is too small", "Scan at a higher resolution, or write larger."],
  unreadable: ["This is not a picture that can be read", "Use a JPEG, PNG or WebP file."],
  subject_not_found: ["Nobody is enrolled under this name", "Check the spelling, or enrol first."],
  subject_exists: ["Somebody is already enrolled under this name", "Add to them, or choose another name."],
  unauthorized: ["This service wants an API key", "Enter the key that you were given."],
  forbidden: ["This key may not do that", "Ask for a key with the scope that is needed."],
  rate_limited: ["Too many requests", "Wait a moment, then try again."],
  too_many_failed_verifications: [
    "Too many failed attempts for this person",
    "Verification of this person is paused. Wait, then try again.",
  ],
  queue_full: ["The service is busy", "Wait a moment, then try again."],
  gallery_unavailable: ["The gallery cannot be reached", "Try again soon; tell the operator if it lasts."],
  storage_full: ["The disk is full", "Nothing was stored. Tell the operator."],
  body_too_large: ["The picture is too large to send", "Use a smaller file."],
  not_calibrated: ["The model cannot decide at this rate", "Choose a rate that is less strict."],
  no_answer: ["The service does not answer", "Is it running, and is the network there? Then try again."],
  internal: ["Something went wrong in the service", "Try again; tell the operator the request id."],
};

/** `{title, hint}` for a reason or problem code; for others the service's own words. */
export function reasonWords(code, fallback = {}) {
  const [title, hint] = REASONS[code] ?? [];
  return { title: title ?? fallback.title ?? code, hint: hint ?? fallback.hint ?? "" };
}

// Short, for over the video.
const LIVE = {
  no_face: "No face in sight",
  several_faces: "One person only",
  face_too_small: "Come closer",
  clipped: "Move to the middle",
  extreme_pose: "Look straight",
  too_dark: "More light",
  too_bright: "Less light",
  too_blurred: "Hold still",
};
const LOOK_ASIDE_DEG = 28;
const DIM_LUMA = 65;
const SMALL_SHARE = 0.16; // of the frame's height
const MOVED_SHARE = 0.12; // of the face's height, from one frame to the next

/** What to say over the video: `{level: "bad" | "advice" | "good", text}`. */
export function liveHint(report, previousBox) {
  const [reason] = report.reasons;
  if (reason) return { level: "bad", text: LIVE[reason] ?? reasonWords(reason).title };
  const [sample] = report.samples;
  if (!sample?.detection) return { level: "bad", text: LIVE.no_face };
  const [left, top, , height] = sample.detection.box_px;
  const quality = sample.quality;
  const moved = previousBox
    ? Math.hypot(left - previousBox[0], top - previousBox[1]) / height
    : 0;
  if (height < SMALL_SHARE * report.height_px) return advice(LIVE.face_too_small);
  if (quality.brightness < DIM_LUMA) return advice(LIVE.too_dark);
  if (Math.abs(quality.yaw_deg) > LOOK_ASIDE_DEG) return advice(LIVE.extreme_pose);
  if (moved > MOVED_SHARE) return advice(LIVE.too_blurred);
  return { level: "good", text: "Good: take the picture" };
}

const advice = (text) => ({ level: "advice", text });

export const number = (value) => value.toLocaleString("en");

/** "1 in 10,000" for 1e-4, to two figures; "53 in 100" for what is no small rate. */
export function oneIn(rate) {
  if (rate > 0.11) return `${Math.round(100 * rate)} in 100`;
  return `1 in ${number(Number((1 / rate).toPrecision(2)))}`;
}

/** A score with a minus sign of its own width. */
export const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

/** Whose comparisons a rate is about. */
export function others(modality, attack) {
  if (modality !== "signature") return "comparisons of different people";
  return attack === "skilled_forgery" ? "practised forgeries" : "other people’s signatures";
}

export const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

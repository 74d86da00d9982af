// The texts of the page: reasons, rates, and what depends on the modality of the model.

const REASONS = {
  no_face: ["No face was found", "Show the whole face, from the front and in good light."],
  several_faces: ["There is more than one face", "Only one person may be in the image."],
  face_too_small: ["The face is too small", "Come closer, or use a larger image."],
  clipped: ["It is cut off at the edge", "Move it to the middle of the image."],
  extreme_pose: ["The face is turned away", "Look straight at the camera and keep the head upright."],
  covered: ["The face is covered", "Take off sunglasses or mask, and keep hands away from the face."],
  turned: ["The image is not upright", "Rotate the image, or hold the camera upright."],
  smaller_faces: ["There are smaller faces in the background", "The largest face was used."],
  not_detected: ["The place of the face was given", "No detector has confirmed that it is a face."],
  more_faces: ["There are more faces than were examined", "Crop the image, or raise the limit."],
  too_dark: ["The image is too dark", "Turn towards a lamp or a window."],
  too_bright: ["The image is too bright", "Step out of the direct light."],
  too_blurred: ["The image is blurred", "Hold still, wipe the lens, and try again."],
  blank: ["There is nothing on the paper", "Sign first, or scan with more contrast."],
  too_dense: ["There is too much on the paper", "Show only the signature: no text, stamp or photograph."],
  too_little_ink: ["There is too little ink", "Provide the whole signature, not a dot or a line."],
  too_small: ["The signature is too small", "Scan at a higher resolution, or write larger."],
  unreadable: ["This file cannot be read as an image", "Use a JPEG, PNG or WebP file."],
  subject_not_found: ["No one is enrolled under this name", "Check the spelling, or enrol first."],
  subject_exists: ["This name is already enrolled", "Add to this person, or choose another name."],
  unauthorized: ["This service requires an API key", "Enter the key that you were given."],
  forbidden: ["This key does not allow this action", "Ask the operator for a key with the required scope."],
  rate_limited: ["Too many requests", "Wait a moment, then try again."],
  too_many_failed_verifications: [
    "Too many failed attempts for this person",
    "Verification of this person is paused. Wait, then try again.",
  ],
  queue_full: ["The service is busy", "Wait a moment, then try again."],
  gallery_unavailable: ["The gallery cannot be reached", "Try again in a minute. If it persists, tell the operator."],
  storage_full: ["The disk is full", "Nothing was stored. Tell the operator."],
  body_too_large: ["The image is too large to send", "Use a smaller file."],
  not_calibrated: ["The model cannot decide at this rate", "Choose a rate that is less strict."],
  no_answer: ["The service does not respond", "Check that it is running and that the network works. Then try again."],
  internal: ["An error occurred in the service", "Try again; tell the operator the request id."],
};

/** `{title, hint}` for a reason or problem code; for others the service's own text. */
export function reasonLabel(code, fallback = {}) {
  const [title, hint] = REASONS[code] ?? [];
  return { title: title ?? fallback.title ?? code, hint: hint ?? fallback.hint ?? "" };
}

// Texts by modality. A modality without an entry, or without a text in it, gets those of OTHER.
const OTHER = {
  one: "image",
  an: "an image",
  many: "images",
  liveness: "A copy of a sample is compared like the sample.",
  enrol: "Two or three images, taken at different times, give more reliable results than one.",
  verify: "Is this the person who was enrolled under a name?",
  identify: "Which of the enrolled people is this, if any?",
  compare: "Do they show the same person? Nothing is stored.",
  people: "The people who are enrolled.",
  isMatch: ["This is ", "."],
  isOther: ["This is not the person enrolled as ", "."],
  isUnknown: "No enrolled person matches.",
  areSame: "Both show the same person.",
  areDifferent: "These show two different people.",
  usable: "The image can be used.",
  missed: "The right person can also be missed: if you are sure, use another image.",
  others: {},
  anyOthers: "comparisons of different people",
  lowestScore: -1,
};
const MODALITIES = {
  face: {
    liveness: "A photograph of a person is compared like the person.",
    people: "The people who are enrolled by face.",
    usable: "A face was found.",
    missed:
      "The right person can also be missed, in weak light or turned away: if you are sure, take another photo.",
    lowestScore: -0.2, // scores below are rare
  },
  signature: {
    one: "signature",
    an: "a signature",
    many: "signatures",
    liveness: "A copy of a signature is compared like the signature.",
    enrol: "Five signatures, written one after another, give more reliable results than one.",
    verify: "Was this signed by the person who was enrolled under a name?",
    identify: "Which of the enrolled people signed this, if any?",
    compare: "Were they signed by the same person? Nothing is stored.",
    people: "The people who are enrolled by signature.",
    isMatch: ["This was signed by ", "."],
    isOther: ["This was not signed by the person enrolled as ", "."],
    isUnknown: "No enrolled person signs like this.",
    areSame: "Both were signed by the same person.",
    areDifferent: "These were signed by two different people.",
    usable: "A signature was found.",
    missed: "Signatures of one person also vary: if you are sure, sign again.",
    others: { skilled_forgery: "practised forgeries" },
    anyOthers: "other people’s signatures",
    lowestScore: 0,
  },
};

/** The texts of a modality. */
export const labels = (modality) => ({ ...OTHER, ...MODALITIES[modality] });

/** The comparisons that a rate is about. */
export function others(modality, attack) {
  const { others: named, anyOthers } = labels(modality);
  return named[attack] ?? anyOthers;
}

// Short, for over the video.
const LIVE = {
  no_face: "No face found",
  several_faces: "One person only",
  face_too_small: "Come closer",
  clipped: "Move to the middle",
  extreme_pose: "Look straight",
  turned: "Hold it upright",
  covered: "Uncover the face",
  too_dark: "More light",
  too_bright: "Less light",
  too_blurred: "Hold still",
};
const LOOK_ASIDE_DEG = 28;
const DIM_LUMA = 65;
const SMALL_SHARE = 0.16; // of the frame's height
const MOVED_SHARE = 0.12; // of the face's height, from one frame to the next

/** What to show over the video: `{level: "bad" | "advice" | "good", text}`. */
export function liveHint(report, previousBox) {
  const [reason] = report.reasons;
  if (reason) return { level: "bad", text: LIVE[reason] ?? reasonLabel(reason).title };
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
  return { level: "good", text: "Good: take the photo" };
}

const advice = (text) => ({ level: "advice", text });

export const number = (value) => value.toLocaleString("en");

/** "1 in 10,000" for 1e-4, to two figures; "53 in 100" for a rate that is not small. */
export function oneIn(rate) {
  if (rate > 0.11) return `${Math.round(100 * rate)} in 100`;
  return `1 in ${number(Number((1 / rate).toPrecision(2)))}`;
}

/** A score, with a minus sign as wide as a digit. */
export const fixed = (value, digits) => value.toFixed(digits).replace("-", "\u2212");

export const plural = (count, one, many) => `${number(count)} ${count === 1 ? one : many}`;

// The camera: requested only when the user starts it, and one for the whole page.

const REFUSALS = {
  NotAllowedError: [
    "Camera access was not allowed",
    "Allow it for this page in the browser’s address bar, then try again. Or choose an image.",
  ],
  NotFoundError: ["No camera was found", "Connect one and try again, or choose an image."],
  NotReadableError: [
    "The camera is in use",
    "Close the other program or tab that uses it, then try again.",
  ],
  OverconstrainedError: ["This camera is no longer available", "Choose another one, or choose an image."],
};

let stream = null;
let deviceId = "";

/** Whether it is on: other tabs of the page can then use it at once. */
export const isOn = () => stream !== null;

/** Opens the camera that was chosen last; throws `{title, hint}`. Calls `onEnd()` when it is disconnected. */
export async function open(id, onEnd) {
  const requested = id ?? deviceId;
  if (!navigator.mediaDevices?.getUserMedia) {
    throw {
      title: "The browser does not allow this page to use a camera",
      hint: "Camera access needs HTTPS, or a browser on the computer that runs the service. Choose an image instead.",
    };
  }
  if (stream && requested === deviceId) return stream;
  close();
  const which = requested ? { deviceId: { exact: requested } } : { facingMode: "user" };
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { ...which, width: { ideal: 1280 }, height: { ideal: 960 } },
    });
  } catch (error) {
    const [title, hint] = REFUSALS[error.name] ?? [
      "The camera did not start",
      "Try again, or choose an image.",
    ];
    throw { title, hint };
  }
  const [track] = stream.getVideoTracks();
  deviceId = track.getSettings().deviceId ?? requested;
  track.addEventListener("ended", () => {
    close();
    onEnd();
  });
  return stream;
}

export function close() {
  for (const track of stream?.getTracks() ?? []) track.stop();
  stream = null;
}

/** The cameras, `{id, label}`, and which is open; labels are known once one was allowed. */
export async function choices() {
  const devices = await navigator.mediaDevices.enumerateDevices();
  return devices
    .filter(({ kind }) => kind === "videoinput")
    .map((device, index) => ({
      id: device.deviceId,
      label: device.label || `Camera ${index + 1}`,
      open: device.deviceId === deviceId,
    }));
}

/** Every camera is mirrored but the one at the back of a phone. */
export function isMirrored() {
  return stream?.getVideoTracks()[0].getSettings().facingMode !== "environment";
}

/** The frame that is shown now, as a JPEG no larger than `side` pixels, or as large as it is. */
export function frame(video, side = Infinity) {
  const { videoWidth: width, videoHeight: height } = video;
  if (!width) return Promise.resolve(null);
  const scale = Math.min(1, side / Math.max(width, height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const quality = side < Infinity ? 0.8 : 0.95;
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

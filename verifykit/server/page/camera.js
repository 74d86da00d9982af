// The camera: asked for only when a person asks for it, one for the whole page.

const REFUSALS = {
  NotAllowedError: [
    "The camera was not allowed",
    "Allow it for this page in the browser’s address bar, then try again. Or choose a picture.",
  ],
  NotFoundError: ["No camera was found", "Connect one and try again, or choose a picture."],
  NotReadableError: [
    "The camera is in use",
    "Close the other program or tab that uses it, then try again.",
  ],
  OverconstrainedError: ["That camera is gone", "Choose another one, or choose a picture."],
};

let stream = null;
let deviceId = "";

/** Whether it runs: other tabs of the page then need not ask again. */
export const isOn = () => stream !== null;

/** Opens the camera that was chosen last; throws `{title, hint}`. `onEnd()` tells of one pulled out. */
export async function open(wanted, onEnd) {
  wanted ??= deviceId;
  if (!navigator.mediaDevices?.getUserMedia) {
    throw {
      title: "The browser gives this page no camera",
      hint: "It does so only over HTTPS, or on the computer that runs the service. Choose a picture.",
    };
  }
  if (stream && wanted === deviceId) return stream;
  close();
  const which = wanted ? { deviceId: { exact: wanted } } : { facingMode: "user" };
  try {
    stream = await navigator.mediaDevices.getUserMedia({
      audio: false,
      video: { ...which, width: { ideal: 1280 }, height: { ideal: 960 } },
    });
  } catch (error) {
    const [title, hint] = REFUSALS[error.name] ?? [
      "The camera did not start",
      "Try again, or choose a picture.",
    ];
    throw { title, hint };
  }
  const [track] = stream.getVideoTracks();
  deviceId = track.getSettings().deviceId ?? wanted;
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

/** A mirror is expected of every camera but the one at the back of a phone. */
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

// Camera, screen and microphone. Errors are for the user.

const SOUND = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const RATE = { ideal: 10, max: 15 };

/** Camera and, if it can be had, microphone. `camera`: a device's id, or null for the one that looks away from the user. */
export async function openCamera(width = 640, camera = null) {
  if (!navigator.mediaDevices) throw new Error("Browsers give the camera only to https pages and to localhost.");
  const video = picture(width, camera);
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: SOUND });
  } catch (first) {
    try {
      return await navigator.mediaDevices.getUserMedia({ video }); // a camera without a microphone will do
    } catch (second) {
      throw new Error(why(second.name) || `The camera cannot be opened: ${second.message || first.message}`);
    }
  }
}

/** The camera after `track`'s, without sound; null if there is no other. `track` is stopped: phones open one at a time. */
export async function openNextCamera(track, width = 640) {
  const cameras = await listCameras();
  const present = cameras.findIndex(({ deviceId }) => deviceId === track.getSettings().deviceId);
  const next = cameras[(present + 1) % cameras.length];
  if (cameras.length < 2 || !next) return null;
  track.onended = null;
  track.stop();
  return (await navigator.mediaDevices.getUserMedia({ video: picture(width, next.deviceId) })).getVideoTracks()[0];
}

/** The cameras there are; their ids are known only once one has been allowed. */
export async function listCameras() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  return devices.filter(({ kind }) => kind === "videoinput");
}

/** A screen, window or tab, with the microphone if it can be had. */
export async function openScreen() {
  let stream;
  try {
    stream = await navigator.mediaDevices.getDisplayMedia({ video: { frameRate: RATE }, audio: false });
  } catch (error) {
    throw new Error(error.name === "NotAllowedError" ? "No screen was chosen." : `The screen cannot be shared: ${error.message}`);
  }
  const sound = await openMicrophone();
  return new MediaStream([...stream.getTracks(), ...(sound?.getTracks() ?? [])]);
}

export const canShareScreen = () => Boolean(navigator.mediaDevices?.getDisplayMedia);

/** The microphone alone, or null. */
export async function openMicrophone() {
  try {
    return await navigator.mediaDevices.getUserMedia({ audio: SOUND });
  } catch {
    return null;
  }
}

/** Let go of a stream (or null). */
export function stop(stream) {
  for (const track of stream?.getTracks() ?? []) track.stop();
}

function picture(width, camera) {
  const which = camera ? { deviceId: { exact: camera } } : { facingMode: "environment" };
  return { width: { ideal: width }, height: { ideal: (width * 3) / 4 }, frameRate: RATE, ...which };
}

function why(name) {
  return {
    NotAllowedError: "The camera is blocked. Allow it in the browser's address bar, or choose a recording.",
    NotFoundError: "No camera was found. Connect one, or choose a recording.",
    NotReadableError: "The camera is in use by another program.",
  }[name];
}

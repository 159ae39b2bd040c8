// What can be watched, and how it gets onto the screen: this device's camera or screen, a recording, a camera of the
// server. Of the last the page gets small pictures; drawn on a canvas they are a stream like any other.

import { canShareScreen, openCamera, openScreen } from "./media.js";
import { $, make } from "./view.js";

const SCREEN = "/screen"; // no recording has such a name
const CAMERA = "/camera/"; // nor one that begins like this

export class Sources {
  constructor(config) {
    this.config = config;
    this.canvas = null; // what a camera of the server shows
    $("screen").hidden = !canShareScreen();
    $("source").append(...config.cameras.map(({ name, title }) => option(CAMERA + name, title)));
    if (config.demos.length) {
      const recordings = Object.assign(make("optgroup"), { label: "Recordings" });
      recordings.append(...config.demos.map(({ name, title }) => option(name, title)));
      $("source").append(recordings);
    }
  }

  get demo() {
    return this.config.demos.find((demo) => demo.name === $("source").value) || null;
  }

  /** Of the server. */
  get camera() {
    return this.config.cameras.find(({ name }) => CAMERA + name === $("source").value) || null;
  }

  get screen() {
    return $("source").value === SCREEN;
  }

  /** Whether the server has the pictures from elsewhere, not from this device. */
  get elsewhere() {
    return this.demo !== null || this.camera !== null;
  }

  /** For people. */
  get title() {
    return (this.demo ?? this.camera)?.title ?? (this.screen ? "screen" : "camera");
  }

  /** Get it ready: the stream that is to be sent to the server, or null for what that has itself. Errors are for the user. */
  async open(width) {
    this.canvas = null;
    if (this.demo) await openDemo(this.demo);
    else if (this.camera) await this.openCanvas();
    else return this.screen ? openScreen() : openCamera(width);
    return null;
  }

  async openCanvas() {
    this.canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
    this.canvas.getContext("2d").fillRect(0, 0, 320, 240); // without a picture a stream does not play
    await show(this.canvas.captureStream());
  }

  /** The server's camera shows this. */
  async picture(url) {
    const { canvas } = this;
    const picture = new Image();
    picture.src = url;
    await picture.decode();
    if (!canvas || canvas !== this.canvas) return;
    const { naturalWidth: width, naturalHeight: height } = picture;
    if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
    canvas.getContext("2d").drawImage(picture, 0, 0);
  }

  /** The session is at `t`; so is the recording, if that is what is watched. */
  seek(t) {
    if (this.demo) $("video").currentTime = t;
  }

  close() {
    this.canvas = null;
    const video = $("video");
    video.pause();
    video.oncanplay = video.onerror = null;
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
  }
}

/** Where a recording is. */
export function address(demo) {
  return demo.url ?? `/aura/demos/${encodeURIComponent(demo.name)}.mp4`;
}

/** A live picture on the screen. */
export async function show(stream) {
  $("video").srcObject = stream;
  await $("video").play();
}

async function openDemo(demo) {
  const video = $("video");
  video.srcObject = null;
  video.src = address(demo);
  if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return;
  await new Promise((resolve, reject) => {
    video.oncanplay = resolve;
    video.onerror = () => reject(new Error("Your browser cannot show this recording."));
  });
}

function option(value, text) {
  return Object.assign(make("option", "", text), { value });
}

// The last half minute of pictures as the page saw them, small, so that the seconds before a reply can be shown again.

const WIDTH = 240;
const EVERY_MS = 500;
const KEPT = 60;

export class Frames {
  constructor(video, now) {
    this.video = video;
    this.now = now; // stream time in seconds, or null
    this.ring = [];
    setInterval(() => this.take(), EVERY_MS);
  }

  clear() {
    this.ring.length = 0;
  }

  take() {
    const t = this.now();
    const { videoWidth: width, videoHeight: height } = this.video;
    if (t === null || !width || document.hidden) return;
    const canvas = this.ring.length >= KEPT ? this.ring.shift().canvas : document.createElement("canvas");
    canvas.width = WIDTH;
    canvas.height = Math.round((WIDTH * height) / width);
    canvas.getContext("2d").drawImage(this.video, 0, 0, canvas.width, canvas.height);
    this.ring.push({ t, canvas });
  }

  /** The pictures of the `seconds` before stream time `t`, oldest first: `t` and `url` (a data URL) of each. */
  before(t, seconds) {
    const seen = this.ring.filter((frame) => frame.t <= t + 0.05 && frame.t > t - seconds);
    return seen.map((frame) => ({ t: frame.t, url: frame.canvas.toDataURL("image/jpeg", 0.7) }));
  }
}

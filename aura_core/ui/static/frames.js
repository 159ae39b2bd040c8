// The last half minute of pictures, small, so that a reply can show what it was based on.

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

  /** The two pictures of the second that ended at stream time `t`, oldest first, as data URLs (none, one or two). */
  before(t) {
    const seen = this.ring.filter((frame) => frame.t <= t + 0.05 && frame.t > t - 2);
    return seen.slice(-2).map(({ canvas }) => canvas.toDataURL("image/jpeg", 0.8));
  }
}

// Where WebRTC cannot connect: pictures as JPEG, sound as samples, messages, all over one WebSocket on the same origin.
// The same interface as `Link`.

import { Refused } from "./seat.js";

const CONNECT_MS = 10000;
const EVERY_MS = 500; // the server looks at two pictures a second
const WIDTH = 640;
const MAX_UNSENT = 400000;
const PICTURE = 1;
const SOUND = 2;
const SPEAKER_RATE = 24000;
const LEAD = 0.08; // seconds of sound in hand before it is played
const FAILED = "The connection could not be made, neither by WebRTC nor by WebSocket. Is the server running, and does a proxy in between let WebSockets through?";

export class SocketLink {
  constructor(token, handlers) {
    this.token = token;
    this.handlers = handlers;
    this.closed = false;
    this.playing = new Set();
    this.until = 0;
  }

  get isOpen() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  async open(stream) {
    this.context = new AudioContext();
    this.speaker = this.context.createMediaStreamDestination();
    for (const kind of ["click", "keydown"]) document.addEventListener(kind, () => this.closed || this.context.resume(), { once: true });
    await this.replace(stream);
    this.handlers.onSound(this.speaker.stream);
    const url = new URL("/aura/socket", location.href);
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    await new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(FAILED)), CONNECT_MS);
      this.ready = () => (clearTimeout(timer), resolve());
      this.refuse = () => (clearTimeout(timer), reject(new Refused("The server did not let you in.")));
      this.socket.onopen = () => this.send({ type: "hello", token: this.token, rate: this.context.sampleRate });
      this.socket.onmessage = ({ data }) => this.received(data);
      this.socket.onclose = () => {
        clearTimeout(timer);
        reject(new Error(FAILED));
        this.lost();
      };
    }).catch((error) => {
      this.close();
      throw error;
    });
    this.timer = setInterval(() => this.show(), EVERY_MS);
  }

  /** Send these tracks from now on; null sends none. */
  async replace(stream) {
    this.microphone?.disconnect();
    this.microphone = null;
    this.video = null;
    if (stream?.getVideoTracks().length) {
      this.video = Object.assign(document.createElement("video"), { muted: true, playsInline: true, srcObject: stream });
      await this.video.play().catch(() => {});
    }
    if (stream?.getAudioTracks().length && this.context.audioWorklet) {
      await this.context.audioWorklet.addModule("/aura/static/microphone.js");
      const worklet = new AudioWorkletNode(this.context, "microphone", { numberOfOutputs: 0 });
      worklet.port.onmessage = ({ data }) => this.sendBytes(SOUND, new Uint8Array(data));
      this.microphone = this.context.createMediaStreamSource(new MediaStream(stream.getAudioTracks()));
      this.microphone.connect(worklet);
    }
  }

  show() {
    if (!this.video?.videoWidth || this.socket.bufferedAmount > MAX_UNSENT) return;
    this.canvas ??= document.createElement("canvas");
    const { videoWidth: width, videoHeight: height } = this.video;
    const scale = Math.min(1, WIDTH / Math.max(width, height));
    this.canvas.width = Math.round(width * scale);
    this.canvas.height = Math.round(height * scale);
    this.canvas.getContext("2d").drawImage(this.video, 0, 0, this.canvas.width, this.canvas.height);
    this.canvas.toBlob(async (blob) => blob && this.sendBytes(PICTURE, new Uint8Array(await blob.arrayBuffer())), "image/jpeg", 0.8);
  }

  sendBytes(kind, bytes) {
    if (!this.isOpen || this.socket.bufferedAmount > MAX_UNSENT) return;
    const whole = new Uint8Array(bytes.length + 1);
    whole[0] = kind;
    whole.set(bytes, 1);
    this.socket.send(whole);
  }

  /** True if the message went out. */
  send(message) {
    if (!this.isOpen) return false;
    this.socket.send(JSON.stringify(message));
    return true;
  }

  received(data) {
    if (this.closed) return;
    if (typeof data !== "string") return this.play(new Int16Array(data));
    const message = JSON.parse(data);
    if (message.type === "ready") this.ready();
    if (message.type === "refused") this.refuse();
    else if (message.type === "drop") this.drop();
    else this.handlers.onMessage(message);
  }

  play(samples) {
    if (!samples.length) return;
    const buffer = this.context.createBuffer(1, samples.length, SPEAKER_RATE);
    buffer.copyToChannel(Float32Array.from(samples, (sample) => sample / 32768), 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.speaker);
    source.onended = () => this.playing.delete(source);
    this.playing.add(source);
    const now = this.context.currentTime;
    const at = this.until < now ? now + LEAD : this.until;
    source.start(at);
    this.until = at + buffer.duration;
  }

  drop() {
    for (const source of this.playing) source.stop();
    this.playing.clear();
    this.until = 0;
  }

  lost() {
    if (this.closed) return;
    this.close();
    this.handlers.onLost();
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    clearInterval(this.timer);
    this.socket?.close();
    this.context?.close();
    if (this.video) this.video.srcObject = null;
  }
}

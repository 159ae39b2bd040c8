// WebRTC for pictures, sound and messages.
// A link ends with `close`, with the page, or by itself (`onLost`).

import { NO_ANSWER, Refused } from "./seat.js";

const CONNECT_MS = 20000;
const ICE_MS = 10000; // from the answer on
const UPLOADED_PER_SECOND = 5; // pictures; the server looks at two
export const NO_CONNECTION =
  "The connection could not be made. Browsers need a network for it, even to this same computer (Wi-Fi without internet will do); to reach a server elsewhere, it may need a TURN server.";
export const BROKEN = "The connection broke while it was being made.";

export class Link {
  /** `onMessage(object)`, `onSound(MediaStream)`, `onLost()`, `onWobble(boolean)` are called as things happen. */
  constructor(iceServers, token, handlers) {
    this.id = randomId();
    this.token = token;
    this.handlers = handlers;
    this.closed = false;
    if (!window.RTCPeerConnection) throw new Error(NO_CONNECTION);
    this.pc = new RTCPeerConnection({ iceServers });
  }

  get isOpen() {
    return this.channel?.readyState === "open";
  }

  /** Connect, sending `stream`'s tracks (may be null). Resolves when the server is ready. */
  async open(stream) {
    const { pc } = this;
    const ready = new Promise((resolve, reject) => {
      this.ready = resolve;
      this.fail = reject;
    });
    ready.catch(() => {});
    // Both ways and both kinds, always: the server can speak without a microphone here, and tracks can come later.
    this.audio = pc.addTransceiver("audio", { direction: "sendrecv" });
    this.video = pc.addTransceiver("video", { direction: "sendrecv" });
    await this.replace(stream);
    pc.ontrack = ({ track }) => {
      if (track.kind === "audio") this.handlers.onSound(new MediaStream([track]));
    };
    pc.onconnectionstatechange = () => this.changed();
    this.channel = pc.createDataChannel("aura");
    this.channel.onmessage = ({ data }) => this.received(data);
    this.channel.onclose = () => this.lost();

    const candidates = [];
    let answered = false;
    pc.onicecandidate = ({ candidate }) => {
      if (!candidate) return;
      if (answered) this.sendCandidate(candidate);
      else candidates.push(candidate); // the server would not know the connection yet
    };
    let timer = 0;
    try {
      await pc.setLocalDescription(await pc.createOffer());
      const answer = await this.post({ type: "offer", sdp: pc.localDescription.sdp });
      if (answer.status === "failed") throw new Error("The server refused the connection.");
      if (this.closed) throw new Error("closed");
      await pc.setRemoteDescription(answer);
      answered = true;
      timer = setTimeout(() => this.fail(new Error(NO_CONNECTION)), ICE_MS);
      for (const candidate of candidates) this.sendCandidate(candidate);
      await ready;
      this.established = true;
      await this.limitPictures();
    } catch (error) {
      this.close();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** Send these tracks from now on; null sends none. */
  async replace(stream) {
    const [picture] = stream ? stream.getVideoTracks() : [];
    const [sound] = stream ? stream.getAudioTracks() : [];
    await this.video.sender.replaceTrack(picture || null);
    await this.audio.sender.replaceTrack(sound || null);
  }

  /** The picture here stays smooth; fewer go out, which saves both sides work. */
  async limitPictures() {
    const { sender } = this.video;
    const parameters = sender.getParameters();
    for (const encoding of parameters.encodings ?? []) encoding.maxFramerate = UPLOADED_PER_SECOND;
    await sender.setParameters(parameters).catch(() => {}); // not every browser can
  }

  /** True if the message went out. */
  send(message) {
    if (!this.isOpen) return false;
    this.channel.send(JSON.stringify(message));
    return true;
  }

  close() {
    if (this.closed) return;
    this.closed = true;
    this.fail?.(new Error("closed"));
    navigator.sendBeacon(`/webrtc/bye?id=${this.id}`);
    this.pc.close();
  }

  lost() {
    if (this.closed) return;
    if (!this.established) this.fail(new Error(BROKEN));
    this.close();
    this.handlers.onLost();
  }

  changed() {
    const state = this.pc.connectionState;
    if (state === "failed" && !this.established) this.fail(new Error(NO_CONNECTION));
    else if (state === "failed" || state === "closed") this.lost();
    else this.handlers.onWobble(state === "disconnected");
  }

  received(data) {
    const message = JSON.parse(data);
    if (message.type === "ready") this.ready();
    else if (message.type === "refused") this.fail(new Refused("The server did not let you in."));
    else if (message.type !== "log" && !this.closed) this.handlers.onMessage(message); // "log": FastRTC's echo
  }

  sendCandidate(candidate) {
    this.post({ type: "ice-candidate", candidate: candidate.toJSON() }).catch(() => {}); // one of several; others do
  }

  async post(body) {
    const response = await fetch("/webrtc/offer", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Aura-Token": this.token },
      body: JSON.stringify({ ...body, webrtc_id: this.id }),
      signal: AbortSignal.timeout(CONNECT_MS),
    }).catch(() => {
      throw new Error(NO_ANSWER);
    });
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    return response.json();
  }
}

function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

// The page: what the user does goes to the server, what the server says goes on the screen.

import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Frames } from "./frames.js";
import { openCamera, openMicrophone } from "./link.js";
import { Refused, Seat, inLine } from "./seat.js";
import { Upload } from "./upload.js";
import {
  $, Captions, Requests, Strip, Timeline, announce, built, describe, make, note, showFrames, showQuiet, showState, showTransport,
} from "./view.js";

const RETRIES_MS = [500, 1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000]; // a seat is kept for a minute
const LAST_WORDS_MS = 20000;

class Page {
  constructor(config) {
    this.config = config;
    this.seat = new Seat();
    this.link = null;
    this.stream = null; // camera and microphone
    this.wanted = false; // the user wants to watch
    this.startedAt = null; // performance.now() at stream time 0
    this.state = "watching"; // the server's
    this.playing = false;
    this.held = false; // push to talk
    this.micOn = config.hears;
    this.soundOn = true;
    this.lastWord = 0;
    this.waiting = []; // questions typed before the connection stood
    this.captions = new Captions();
    this.strip = new Strip();
    this.requests = new Requests((request) => this.send({ type: "stop", request }));
    this.timeline = new Timeline(showFrames);
    this.frames = new Frames($("video"), () => this.now());
    describe(config);
    new Controls(this);
    if (this.config.max_upload) new Upload(this);
    this.show();
  }

  now() {
    return this.startedAt === null ? null : (performance.now() - this.startedAt) / 1000;
  }

  /** When a message's time was; one that comes again says it itself. */
  clock({ t, at }) {
    return at ? new Date(at * 1000) : new Date(this.startedWall + t * 1000);
  }

  get demo() {
    return this.config.demos.find((demo) => demo.name === $("source").value) || null;
  }

  // --- watching

  /** Watch; `again` goes on with what the server kept for this tab. */
  async start(again = false) {
    this.halt();
    const wish = (this.wish = {}); // a later start or stop makes this one void
    this.wanted = true;
    note("");
    showState("connecting");
    this.buttons();
    try {
      if (this.demo) {
        await this.openDemo();
      } else {
        this.setStream(await openCamera());
        if (wish !== this.wish) return;
        $("video").srcObject = this.stream;
        await $("video").play();
      }
      if (wish === this.wish) await this.connect(again);
    } catch (error) {
      if (wish === this.wish) this.giveUp(error.message);
    }
  }

  async openDemo() {
    const video = $("video");
    video.srcObject = null;
    video.src = this.demo.url ?? `/aura/demos/${encodeURIComponent(this.demo.name)}.mp4`;
    if (video.readyState >= HTMLMediaElement.HAVE_FUTURE_DATA) return;
    await new Promise((resolve, reject) => {
      video.oncanplay = resolve;
      video.onerror = () => reject(new Error("Your browser cannot show this recording."));
    });
  }

  /** True if the session that the server kept goes on. */
  async connect(again = false) {
    const wish = this.wish;
    const link = new Connection(this.seat, {
      onMessage: (message) => this.link === link && this.receive(message),
      onSound: (sound) => {
        $("audio").srcObject = sound;
        this.playSound();
      },
      onLost: () => this.link === link && this.reconnect(),
      onMoved: () => this.link === link && this.giveUp("This session goes on in another tab."),
      onPlain: (plain) => showTransport(plain),
      onWait: (place) => {
        showState("waiting");
        note(inLine(place));
      },
      onWobble: (wobbling) => {
        this.wobbling = wobbling;
        this.show();
      },
    });
    this.link = link;
    try {
      await link.open(this.stream);
    } catch (error) {
      if (wish === this.wish && this.link === link) this.link = null;
      throw error;
    }
    if (wish !== this.wish) {
      link.close();
      return false;
    }
    this.attempt = 0;
    note("");
    if (again && link.resumed) link.resume();
    else {
      const unasked = this.seat.forgetUnsure().filter(({ type }) => type === "ask"); // of a session that is no more
      if (again) this.waiting.push(...unasked);
      this.send({ type: "watch", demo: this.demo?.name ?? null });
    }
    this.seat.keep({ source: $("source").value });
    return link.resumed;
  }

  /** The connection broke by itself: try again, with longer and longer pauses. */
  async reconnect() {
    const wish = this.wish;
    this.link = null;
    this.startedAt = null;
    $("video").pause();
    while (this.wanted && wish === this.wish) {
      const pause = RETRIES_MS[this.attempt ?? 0];
      if (pause === undefined) return this.giveUp("The connection to the server was lost.");
      this.attempt = (this.attempt ?? 0) + 1;
      showState("reconnecting");
      await new Promise((resolve) => setTimeout(resolve, pause));
      if (wish !== this.wish) return;
      try {
        const kept = await this.connect(true);
        if (!kept && wish === this.wish) note("The connection was lost and made again. What came before is no longer known to AURA.");
        return;
      } catch (error) {
        if (error instanceof Refused) return this.giveUp(error.message);
      }
    }
  }

  /** For good: the server forgets the session. */
  stop() {
    this.halt();
    this.seat.leave();
  }

  /** For now: the server keeps the session for a while. */
  halt() {
    this.wanted = false;
    this.wish = null;
    this.attempt = 0;
    this.startedAt = null;
    this.playing = this.listening = this.wobbling = false;
    const link = this.link;
    this.link = null;
    link?.close();
    this.setStream(null);
    const video = $("video");
    video.pause();
    video.oncanplay = video.onerror = null;
    video.srcObject = null;
    video.removeAttribute("src");
    video.load();
    this.captions.clear();
    this.show();
    this.buttons();
  }

  giveUp(text) {
    this.waiting.length = 0;
    this.stop();
    note(text);
    announce(text, true);
  }

  setStream(stream) {
    this.stream?.getTracks().forEach((track) => track.stop());
    this.stream = stream;
    for (const track of stream?.getVideoTracks() ?? []) track.onended = () => note("The camera was disconnected.");
    this.setMicrophone();
  }

  // --- from the server

  receive(message) {
    const { t } = message;
    switch (message.type) {
      case "started":
        return this.started();
      case "resumed":
        return this.resumed(message);
      case "state":
        this.state = message.state;
        return this.show();
      case "playing":
        this.playing = message.playing;
        return this.show();
      case "listening":
        this.listening = message.listening;
        return this.show();
      case "unheard":
        return this.captions.question(message.text ? `(not understood: ${message.text})` : "(not understood)");
      case "delta":
        this.captions.reply(message.chunk, message.text);
        return undefined;
      case "question":
        this.captions.question(message.text);
        return this.timeline.add({ kind: "question", t, clock: this.clock(message), text: message.text });
      case "reply":
        return this.replied(message);
      case "silent":
        $("look").textContent = `${Math.round(message.step_ms)} ms`;
        return this.strip.add("silent", t);
      case "skipped":
        return this.strip.add("skipped", t);
      case "request_added":
        return this.requests.add(message, this.clock(message));
      case "request_fired":
        return this.requests.fired(message);
      case "request_ended":
        if (message.why === "full") note("Eight things are watched for at most; the oldest was dropped.");
        return this.requests.end(message.request);
      case "error":
        note(message.text);
        if (t !== undefined) this.timeline.add({ kind: "error", t, clock: this.clock(message), text: message.text });
        return undefined;
      case "end":
        return this.ended();
      default:
        return undefined; // a newer server's
    }
  }

  started() {
    this.startedAt = performance.now();
    this.startedWall = Date.now();
    this.lastWord = 0;
    this.state = "watching";
    this.over = this.listening = false;
    this.strip.clear();
    this.frames.clear();
    this.timeline.clear();
    this.requests.clear();
    this.captions.clear();
    if (this.demo) $("video").currentTime = 0;
    $("video").play().catch(() => note("The browser does not start the picture by itself; click it."));
    for (const question of this.waiting.splice(0)) this.send(question);
    this.show();
    this.buttons();
  }

  /** The session goes on where it stood; after a reload all that was said comes again, otherwise what was missed. */
  resumed({ t, seen }) {
    if (!seen) this.started();
    this.startedAt = performance.now() - t * 1000;
    this.startedWall = Date.now() - t * 1000;
    this.lastWord = t;
    if (this.demo) $("video").currentTime = t;
    for (const question of this.waiting.splice(0)) this.send(question);
    $("video").play().catch(() => note("The browser does not start the picture by itself; click it."));
    this.show();
    this.buttons();
  }

  replied(message) {
    const { t, text, kind, interrupted } = message;
    this.lastWord = t;
    this.strip.add("spoke", t);
    $("look").textContent = `${Math.round(message.step_ms)} ms`;
    $("first").textContent = `${Math.round(message.ttft_ms)} ms`;
    if (text) this.captions.reply(message.chunk, text, true);
    this.timeline.add({ kind, t, clock: this.clock(message), text, interrupted, frames: this.frames.before(t) });
    announce(text, kind === "alert");
  }

  ended() {
    if (!this.demo) return;
    this.over = true;
    this.show();
    this.buttons();
    const link = this.link; // it has the last words to say, and then makes room
    setTimeout(() => this.over && this.link === link && (link.close(), this.seat.leave()), LAST_WORDS_MS);
  }

  // --- from the user

  /** True if it went out. */
  send(message) {
    return this.link?.send(message) ?? false;
  }

  ask(text, standing) {
    const message = { type: "ask", text, standing: standing || null };
    this.captions.clear();
    if (this.startedAt !== null && !this.over && this.send(message)) return;
    this.waiting.push(message);
    if (!this.wanted || this.over) this.start();
  }

  hush() {
    this.send({ type: "hush" });
  }

  setMicrophone() {
    const on = this.micOn || this.held;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = on;
    if (!on) this.listening = false;
    // A recording is watched without the microphone until it is asked for.
    const open = this.wanted ? this.stream?.getAudioTracks().length > 0 : !this.demo;
    this.hearing = on && open;
    $("mic").setAttribute("aria-pressed", String(this.hearing));
  }

  async openMicrophone() {
    if (this.stream?.getAudioTracks().length || !this.link) return;
    const sound = await openMicrophone();
    if (!sound) return note("The microphone cannot be opened.");
    const pictures = this.stream?.getVideoTracks() ?? [];
    this.stream = new MediaStream([...pictures, ...sound.getAudioTracks()]);
    await this.link?.replace(this.stream);
    this.setMicrophone();
  }

  toggleMicrophone() {
    this.micOn = !this.hearing;
    this.setMicrophone();
    if (this.micOn) this.openMicrophone();
  }

  playSound() {
    $("audio").muted = !this.soundOn;
    $("sound").setAttribute("aria-pressed", String(this.soundOn));
    if ($("audio").srcObject) $("audio").play().catch(() => note("The browser blocks sound; click “Voice” to allow it."));
  }

  save() {
    const link = make("a");
    link.href = URL.createObjectURL(new Blob([`${this.timeline.text()}\n`], { type: "text/plain" }));
    link.download = `aura-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.txt`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // --- on the screen

  show() {
    if (!this.wanted) showState("off");
    else if (this.over) showState("ended");
    else if (this.wobbling) showState("reconnecting");
    else if (this.startedAt === null) showState("connecting");
    else if (this.listening) showState("listening");
    else if (this.playing) showState("speaking");
    else showState(this.state === "closed" ? "ended" : this.state);
    const now = this.now();
    showQuiet(this.state === "watching" && !this.playing && now !== null && !this.over ? Math.floor(now - this.lastWord) : null);
  }

  buttons() {
    const demo = this.demo !== null;
    this.setMicrophone();
    $("empty").hidden = this.wanted;
    $("start").textContent = this.wanted ? (this.over ? "Play again" : "Stop") : "Start";
    $("begin").textContent = demo ? "Play the recording" : "Start the camera";
    const script = this.demo?.script ?? [];
    $("hint").textContent = demo
      ? `${this.demo.title}. ${script.length ? `${script.length} question${script.length > 1 ? "s are" : " is"} asked in it; ask your own as well.` : "Ask what you like."}`
      : "AURA watches, stays silent, and speaks up when there is something to say.";
    for (const id of ["hush", "clear"]) $(id).disabled = !this.wanted;
  }
}

await built();
document.getElementById("aura").closest(".prose")?.classList.remove("prose"); // Gradio's text styles, not ours
try {
  const response = await fetch("/aura/config");
  const page = new Page(await response.json());
  if (await page.seat.isKept()) {
    $("source").value = page.seat.source;
    page.start(true);
  }
} catch (error) {
  note(`The page could not start: ${error.message}`);
}

// The page: what the user does goes to the server, what the server says goes on the screen.

import { Connection } from "./connection.js";
import { Controls } from "./controls.js";
import { Data } from "./data.js";
import { Frames } from "./frames.js";
import { describe, showButtons } from "./front.js";
import { Gauges } from "./gauges.js";
import { stop } from "./media.js";
import { showMoment } from "./moment.js";
import { Requests } from "./requests.js";
import { Refused, Seat, inLine, sessionName } from "./seat.js";
import { Senses } from "./senses.js";
import { Settings } from "./settings.js";
import { Sources, address, show } from "./sources.js";
import { Timeline } from "./timeline.js";
import { Upload } from "./upload.js";
import { $, Captions, Strip, announce, built, note, showQuiet, showState, showTransport } from "./view.js";

const RETRIES_MS = [500, 1000, 2000, 4000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000, 5000]; // a seat is kept for a minute
const LAST_WORDS_MS = 20000;
const SECONDS_BEFORE = 10; // of pictures that a reply keeps

class Page extends Senses {
  constructor(config) {
    super();
    this.config = config;
    this.sources = new Sources(config);
    this.seat = new Seat();
    this.link = null;
    this.wanted = false; // the user wants to watch
    this.startedAt = null; // performance.now() at stream time 0
    this.state = "watching"; // the server's
    this.playing = false;
    this.settings = new Settings(config.offer, config, (name) => this.changed(name));
    this.micOn = config.hears && this.settings.get("handsFree");
    this.lastWord = 0;
    this.waiting = []; // questions typed before the connection stood
    this.captions = new Captions();
    this.strip = new Strip();
    this.gauges = new Gauges();
    this.timeline = new Timeline(showMoment, ({ chunk, mark }) => this.send({ type: "mark", chunk, mark }));
    this.requests = new Requests(
      (request) => this.send({ type: "stop", request }),
      (request) => this.timeline.jump(this.timeline.newestOf(request)),
    );
    this.frames = new Frames($("video"), () => this.now());
    this.data = new Data(this);
    describe(config);
    this.changed("captions");
    new Controls(this);
    if (this.config.max_upload) new Upload(this);
    this.show();
    this.buttons();
  }

  now() {
    return this.startedAt === null ? null : (performance.now() - this.startedAt) / 1000;
  }

  /** When a message's time was; one that comes again says it itself. */
  clock({ t, at }, later = 0) {
    return new Date((at ? at * 1000 : this.startedWall + t * 1000) + later * 1000);
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
      const stream = await this.sources.open(this.settings.width);
      if (wish !== this.wish) return stop(stream);
      if (stream) {
        this.setStream(stream);
        await show(stream);
      }
      if (wish === this.wish) await this.connect(again);
    } catch (error) {
      if (wish === this.wish) this.giveUp(error.message);
    }
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
      this.send({
        type: "watch",
        demo: this.sources.demo?.name ?? null,
        camera: this.sources.camera?.name ?? null,
        session: sessionName(),
        settings: this.settings.wish(),
        record: this.data.wanted,
      });
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
    this.requests.clear(); // nobody watches for them any more; what was said stays to be read
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
    this.sources.close();
    this.captions.clear();
    this.data.ended();
    this.show();
    this.buttons();
  }

  giveUp(text) {
    this.waiting.length = 0;
    this.stop();
    $("trouble").hidden = false;
    note(text);
    announce(text, true);
  }

  // --- from the server

  receive(message) {
    const { t } = message;
    switch (message.type) {
      case "started":
        return this.started(message);
      case "resumed":
        return this.resumed(message);
      case "state":
        this.state = message.state;
        return this.show();
      case "restored":
        return note("Going on from before: what was said and asked is remembered.");
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
        return this.timeline.add({ kind: "question", t, clock: this.clock(message), text: message.text, request: message.request });
      case "reply":
        return this.replied(message);
      case "silent":
        $("look").textContent = `${Math.round(message.step_ms)} ms`;
        return this.second("silent", t);
      case "skipped":
        return this.second("skipped", t);
      case "frame":
        return this.timeline.frame(message.chunk, message.url);
      case "picture":
        return this.sources.picture(message.url);
      case "gauges":
        return this.gauges.show(message, this.window);
      case "unwatched":
        return this.giveUp(message.text);
      case "unrecorded":
        return this.data.ended();
      case "request_added":
        return this.requests.add(message, this.clock(message), this.clock(message, this.lifetime));
      case "request_fired":
        return this.requests.fired(message, this.clock(message));
      case "request_ended":
        if (message.why === "full") note("Eight things are watched for at most; the oldest was dropped.");
        return this.requests.end(message.request);
      case "note":
        return note(message.text);
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

  /** What the server tells of the session that is watched now. */
  begun({ recording, window, lifetime }) {
    this.window = window;
    this.lifetime = lifetime;
    this.data.started(recording);
  }

  started(message) {
    this.begun(message);
    this.gauges.clear();
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
    this.sources.seek(0);
    $("video").play().catch(() => note("The browser does not start the picture by itself; click it."));
    for (const question of this.waiting.splice(0)) this.send(question);
    this.show();
    this.buttons();
  }

  /** What became of a second. */
  second(kind, t) {
    this.strip.add(kind, t);
    this.gauges.count(kind);
    // The heart beats with the seconds that are looked at. An animation would draw sixty times as often, all day.
    $("icon").classList.toggle("aura-beat");
  }

  /** The session goes on where it stood; after a reload all that was said comes again, otherwise what was missed. */
  resumed(message) {
    const { t } = message;
    if (!message.seen) this.started(message);
    this.startedAt = performance.now() - t * 1000;
    this.startedWall = Date.now() - t * 1000;
    this.lastWord = t;
    this.sources.seek(t);
    for (const question of this.waiting.splice(0)) this.send(question);
    $("video").play().catch(() => note("The browser does not start the picture by itself; click it."));
    this.show();
    this.buttons();
  }

  replied(message) {
    const { t, text, kind, interrupted, request, chunk } = message;
    this.lastWord = t;
    this.second("spoke", t);
    $("look").textContent = `${Math.round(message.step_ms)} ms`;
    $("first").textContent = `${Math.round(message.ttft_ms)} ms`;
    if (text) this.captions.reply(message.chunk, text, true);
    const { demo } = this.sources;
    const again = demo ? { video: address(demo) } : { before: this.frames.before(t, SECONDS_BEFORE) };
    this.timeline.add({ kind, t, clock: this.clock(message), text, interrupted, request, chunk, ...again });
    announce(text, kind === "alert");
  }

  ended() {
    if (!this.sources.elsewhere) return;
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

  /** A setting that takes effect at once was changed. */
  changed(name) {
    if (name === "quieter" && this.startedAt !== null) this.send({ type: "tune", quieter: this.settings.get("quieter") });
    if (name === "handsFree") this.turnMicrophone(this.settings.get("handsFree"));
    if (name === "captions") $("captions").hidden = !this.settings.get("captions");
  }

  /** All that this tab holds of what happened. */
  forget() {
    this.settings.forget();
    this.changed("captions");
    for (const part of [this.timeline, this.requests, this.strip, this.frames, this.gauges]) part.clear();
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
    this.setMicrophone();
    showButtons(this);
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

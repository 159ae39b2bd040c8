// What is on the screen. Text of users and models only ever becomes a text node, never markup.

const STATES = {
  off: ["Not watching", "○"],
  connecting: ["Connecting", "◌"],
  waiting: ["Waiting in line", "⋯"],
  watching: ["Watching", "◉"],
  listening: ["Listening", "●"],
  thinking: ["Thinking", "◔"],
  speaking: ["Speaking", "♪"],
  reconnecting: ["Reconnecting", "↻"],
  behind: ["Falling behind", "⧖"],
  ended: ["Recording ended", "■"],
};
const IDEAS = ["What do you see?", "How many objects do you see?", "Tell me when a cat appears.", "Tell me every time you see a star."];
const KINDS = { question: "You", answer: "Answer", ack: "Noted", alert: "Alert", error: "Problem" };
const SECONDS = 60;
const MAX_ITEMS = 200;

export const $ = (id) => document.getElementById(`aura-${id}`);

/** A new element with classes and text. */
export function make(tag, classes = "", text = "") {
  const node = document.createElement(tag);
  node.className = classes;
  node.textContent = text;
  return node;
}

export function streamTime(t) {
  const seconds = Math.max(0, Math.floor(t));
  return `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, "0")}`;
}

export function showState(name) {
  const [text, icon] = STATES[name];
  document.getElementById("aura").dataset.state = name;
  $("state").textContent = text;
  $("icon").textContent = icon;
}

/** "quiet for 42 s" beside the state; null hides it. */
export function showQuiet(seconds) {
  $("quiet").textContent = seconds === null || seconds < 3 ? "" : `quiet for ${seconds < 100 ? `${seconds} s` : `${Math.round(seconds / 60)} min`}`;
}

export function note(text) {
  $("note").textContent = text;
}

/** Say it to a screen reader; alerts at once. */
export function announce(text, urgent = false) {
  $(urgent ? "assertive" : "polite").textContent = text;
}

export class Captions {
  constructor() {
    this.chunk = null;
  }

  /** What the user asked. */
  question(text) {
    this.chunk = null;
    this.asked = true;
    $("said").textContent = text;
    $("caption").textContent = "";
    this.fade(6000);
  }

  /** A piece of the reply on `chunk`, or with `whole` all of it. */
  reply(chunk, text, whole = false) {
    if (chunk !== this.chunk) {
      if (!this.asked) $("said").textContent = ""; // an alert stands alone
      this.asked = false;
    }
    if (whole || chunk !== this.chunk) $("caption").textContent = text;
    else $("caption").textContent += text;
    this.chunk = chunk;
    this.fade(4000 + 70 * $("caption").textContent.length);
  }

  fade(ms) {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.clear(), ms);
  }

  clear() {
    this.chunk = null;
    this.asked = false;
    $("said").textContent = $("caption").textContent = "";
  }
}

/** One mark a second for the last minute: silent, spoke, skipped; told apart by height and pattern, not by color only. */
export class Strip {
  constructor() {
    this.clear();
  }

  clear() {
    this.marks = [];
    $("strip").replaceChildren(...Array.from({ length: SECONDS }, () => make("i")));
    this.describe();
  }

  add(kind, t) {
    this.marks = [...this.marks, kind].slice(-SECONDS);
    const mark = make("i", `aura-${kind}`);
    mark.title = `${streamTime(t)} ${kind}`;
    $("strip").firstElementChild.remove();
    $("strip").append(mark);
    if (kind !== "silent" || this.marks.length % 10 === 0) this.describe();
  }

  describe() {
    const count = (kind) => this.marks.filter((mark) => mark === kind).length;
    $("strip").setAttribute("aria-label", `Last minute: ${count("silent")} seconds silent, ${count("spoke")} spoke, ${count("skipped")} skipped`);
  }
}

/** What was said, newest first. */
export class Timeline {
  constructor(onFrames) {
    this.onFrames = onFrames;
    this.clear();
  }

  clear() {
    this.items = [];
    $("timeline").replaceChildren();
    $("ideas").hidden = false;
  }

  /** `item`: kind, t, clock (Date), text, frames (data URLs), interrupted. */
  add(item) {
    this.items = [...this.items, item].slice(-MAX_ITEMS);
    $("ideas").hidden = true;
    const row = make("li", `aura-item aura-${item.kind}`);
    const words = make("div", "aura-words");
    const head = make("div", "aura-head");
    const when = make("time", "", item.clock.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" }));
    when.dateTime = item.clock.toISOString();
    head.append(make("span", "aura-kind", KINDS[item.kind]), when, make("span", "", streamTime(item.t)));
    if (item.interrupted) head.append(make("span", "", "cut short"));
    words.append(head, make("p", "", item.text || "(nothing was heard)"));
    row.append(words);
    if (item.frames?.length) {
      const button = make("button", "aura-thumb");
      button.type = "button";
      button.setAttribute("aria-label", "Show the frames this was based on");
      const picture = new Image();
      picture.src = item.frames.at(-1);
      picture.alt = "";
      button.append(picture);
      button.onclick = () => this.onFrames(item);
      row.append(button);
    }
    $("timeline").prepend(row);
    while ($("timeline").childElementCount > MAX_ITEMS) $("timeline").lastElementChild.remove();
  }

  /** The transcript as plain text. */
  text() {
    return this.items.map((item) => `${item.clock.toLocaleTimeString()}  ${streamTime(item.t)}  ${KINDS[item.kind]}: ${item.text}`).join("\n");
  }
}

export function showFrames(item) {
  $("frames-text").textContent = item.text;
  $("frames-row").replaceChildren(
    ...item.frames.map((url) => {
      const picture = new Image();
      picture.src = url;
      picture.alt = "A frame of the second this was said about";
      return picture;
    }),
  );
  $("frames").showModal();
}

/** Standing requests: since when, how often, a button to stop. */
export class Requests {
  constructor(onStop) {
    this.onStop = onStop;
    this.clear();
  }

  clear() {
    this.rows = new Map();
    $("requests").replaceChildren();
    this.hint();
  }

  add({ request, text, every }, clock) {
    this.end(request);
    const row = make("li");
    const words = make("div", "aura-words");
    const since = clock.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });
    const head = make("div", "aura-head");
    const count = make("span", "aura-count", "not yet");
    head.append(make("span", "", every ? "every time" : "once"), make("span", "", `since ${since}`), count);
    words.append(make("p", "", text), head);
    const stop = make("button", "aura-quiet-button", "Stop");
    stop.type = "button";
    stop.setAttribute("aria-label", `Stop watching for: ${text}`);
    stop.onclick = () => this.onStop(request);
    row.append(words, stop);
    this.rows.set(request, { row, count });
    $("requests").append(row);
    this.hint();
  }

  fired({ request, count }) {
    const entry = this.rows.get(request);
    if (entry) entry.count.textContent = count === 1 ? "seen once" : `seen ${count} times`;
  }

  end(request) {
    this.rows.get(request)?.row.remove();
    this.rows.delete(request);
    this.hint();
  }

  hint() {
    $("no-requests").hidden = this.rows.size > 0;
  }
}

/** What is there, from the server's configuration. */
export function describe(config) {
  const { profile, model, speech, hears, speaks, demos } = config;
  $("about").textContent = [profile, model].filter(Boolean).join(" · ");
  $("speech").textContent = speech;
  $("mic").hidden = !hears;
  $("sound").hidden = !speaks;
  for (const demo of demos) {
    const option = make("option", "", `Recording: ${demo.title}`);
    option.value = demo.name;
    $("source").append(option);
  }
  for (const text of IDEAS) {
    const button = make("button", "aura-idea", text);
    button.type = "button";
    button.onclick = () => {
      $("text").value = text;
      $("text").focus();
    };
    $("ideas").append(button);
  }
}

/** Gradio builds the page's elements some time after this script has loaded. */
export function built() {
  return new Promise((resolve) => {
    const look = () => document.getElementById("aura") && resolve();
    new MutationObserver((_, observer) => document.getElementById("aura") && (observer.disconnect(), resolve())).observe(document.documentElement, {
      childList: true,
      subtree: true,
    });
    look();
  });
}

/** Say when the connection is not the usual one. */
export function showTransport(plain) {
  document.getElementById("aura").dataset.transport = plain ? "http" : "webrtc";
  $("transport").textContent = plain ? "over HTTP: WebRTC cannot connect from here" : "";
}

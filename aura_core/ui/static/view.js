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
const SECONDS = 60;

/** A button of ours. */
export function button(classes, text, onclick) {
  const node = make("button", classes, text);
  node.type = "button";
  node.onclick = onclick;
  return node;
}

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

/** Ask before something that cannot be taken back. */
export function sure(text, yes) {
  const dialog = $("sure");
  $("sure-text").textContent = text;
  $("sure-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "yes");
  });
}

export function timeOfDay(date, seconds = true) {
  return date.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", ...(seconds && { second: "2-digit" }) });
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

// This tab's seat at the server: waited for in line, kept over a reload or a lost network, given up at the end.
// Also what makes nothing said get lost: the number of the last message that came, and the messages not known to have
// arrived.

const KEY = "aura-seat";
const ASK_AGAIN_MS = 2000;
const TIMEOUT_MS = 10000;
export const NO_ANSWER = "The server does not answer."; // in place of the browser's own words, which are not for people

export class Refused extends Error {}

/** What this tab calls its camera's session; a server that keeps sessions goes on from the one of this name. */
export function sessionName() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  const name = sessionStorage.getItem("aura-session") ?? Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  sessionStorage.setItem("aura-session", name);
  return name;
}

export class Seat {
  constructor() {
    const kept = JSON.parse(sessionStorage.getItem(KEY) ?? "{}");
    this.token = kept.token ?? null;
    this.source = kept.source ?? ""; // what was being watched: a recording's name, or nothing for the camera
    this.plain = kept.plain ?? false; // WebRTC was found not to connect from here
    this.own = kept.own ?? null; // a video that was brought
    this.seen = 0;
    this.unsure = new Map(); // id -> message
  }

  keep(values) {
    Object.assign(this, values);
    const { token, source, plain, own } = this;
    sessionStorage.setItem(KEY, JSON.stringify({ token, source, plain, own }));
  }

  /** Whether the server still keeps a seat for this tab, from before it was loaded again. */
  async isKept() {
    if (!this.token || (await this.elsewhere())) return false;
    const { state, resumed } = await this.post({ token: this.token, known: true });
    if (state === "unknown") this.keep({ token: null });
    return state === "waiting" || resumed === true;
  }

  /** Ask until let in; `onWait({position, wait_s})` is called meanwhile, and `wanted()` false ends it. */
  async take(onWait, wanted) {
    for (;;) {
      const answer = await this.post({ token: this.token });
      if (!wanted()) {
        if (answer.token !== this.token) navigator.sendBeacon("/aura/leave", answer.token);
        throw new Error("closed");
      }
      if (answer.token !== this.token) this.seen = 0;
      this.keep({ token: answer.token });
      this.hold();
      if (answer.state === "in") return answer;
      onWait(answer);
      await new Promise((resolve) => setTimeout(resolve, ASK_AGAIN_MS));
      if (!wanted()) throw new Error("closed");
    }
  }

  /** Give it up. */
  leave() {
    if (this.token) navigator.sendBeacon("/aura/leave", this.token);
    this.keep({ token: null });
    this.seen = 0;
    this.unsure.clear();
  }

  /** `message` with an id by which the server tells that it has taken it. */
  register(message) {
    const id = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
    this.unsure.set(id, { ...message, id });
    return this.unsure.get(id);
  }

  /** The messages not known to have arrived, which from now on nobody repeats. */
  forgetUnsure() {
    const messages = [...this.unsure.values()];
    this.unsure.clear();
    return messages;
  }

  /** True if the message is for the page. */
  got(message) {
    if (message.seq) this.seen = message.seq;
    if (message.type === "taken") this.unsure.delete(message.id);
    return message.type !== "taken";
  }

  /** A tab that is duplicated takes its seat's token along: the first tab keeps the seat. */
  async elsewhere() {
    if (!navigator.locks) return false;
    const isHeld = async () => (await navigator.locks.query()).held.some(({ name }) => name === this.lockName);
    let taken = await isHeld();
    for (let i = 0; i < 5 && taken; i++) {
      await new Promise((resolve) => setTimeout(resolve, 100)); // the page before this one may not be quite gone
      taken = await isHeld();
    }
    if (taken) this.keep({ token: null });
    return taken;
  }

  hold() {
    if (this.held === this.lockName) return;
    this.held = this.lockName;
    navigator.locks?.request(this.lockName, { ifAvailable: true }, (lock) => lock && new Promise(() => {}));
  }

  get lockName() {
    return `aura-seat-${this.token}`;
  }

  async post(body) {
    const response = await fetch("/aura/place", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).catch(() => {
      throw new Error(NO_ANSWER);
    });
    if (response.status === 503) throw new Refused((await response.json()).detail);
    if (!response.ok) throw new Error(`The server answered ${response.status}.`);
    return response.json();
  }
}

/** "You are number 2 in line, about 3 minutes." */
export function inLine({ position, wait_s }) {
  const minutes = Math.max(1, Math.round(wait_s / 60));
  return `All places are taken. You are number ${position} in line; it may take about ${minutes} minute${minutes > 1 ? "s" : ""}. You are let in by yourself.`;
}

// What AURA watches for: since when, how often it was seen, when last, until when, and a button to stop.

import { $, button, make, timeOfDay } from "./view.js";

export class Requests {
  /** `onStop(request)`, `onSeen(request)`: the user wants to see when it was seen last. */
  constructor(onStop, onSeen) {
    this.onStop = onStop;
    this.onSeen = onSeen;
    this.clear();
  }

  clear() {
    this.rows = new Map();
    $("requests").replaceChildren();
    this.hint();
  }

  /** `since` and `until` are Dates. */
  add({ request, text, every }, since, until) {
    this.end(request);
    const row = make("li");
    const words = make("div", "aura-words");
    const head = make("div", "aura-head");
    const count = make("span", "aura-count", "not seen yet");
    const last = button("aura-link", "", () => this.onSeen(request));
    last.hidden = true;
    const ends = make("span", "", `until ${moment(until)}`);
    head.append(make("span", "", every ? "every time" : "once"), make("span", "", `since ${timeOfDay(since, false)}`), count, last, ends);
    words.append(make("p", "", text), head);
    const stop = button("aura-quiet-button", "Stop", () => this.onStop(request));
    stop.setAttribute("aria-label", `Stop watching for: ${text}`);
    row.append(words, stop);
    this.rows.set(request, { row, count, last });
    $("requests").append(row);
    this.hint();
  }

  /** Seen at `when`, a Date. */
  fired({ request, count }, when) {
    const entry = this.rows.get(request);
    if (!entry) return;
    entry.count.textContent = count === 1 ? "seen once" : `seen ${count} times`;
    entry.last.textContent = `last ${timeOfDay(when)}`;
    entry.last.hidden = false;
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

/** With its day, if that is not today. */
function moment(date) {
  const today = date.toDateString() === new Date().toDateString();
  return `${today ? "" : `${date.toLocaleDateString([], { weekday: "short" })} `}${timeOfDay(date, false)}`;
}

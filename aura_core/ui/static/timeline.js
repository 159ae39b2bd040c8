// What was said, newest first: each with its time, the frames it was based on, and what the user thinks of it.

import { $, button, make, streamTime, timeOfDay } from "./view.js";

export const KINDS = { question: "You", answer: "Answer", ack: "Noted", alert: "Alert", error: "Problem" };
export const MARKS = { useful: "Useful", wrong: "Wrong", late: "Late" };
const SHOWN = 200;
const KEPT = 5000; // for the transcript
const PICTURED = 60; // the newest items keep their pictures

export class Timeline {
  /** `onMoment(item)`: its pictures are wanted. `onMark(item)`: `item.mark` has changed. */
  constructor(onMoment, onMark) {
    this.onMoment = onMoment;
    this.onMark = onMark;
    this.clear();
  }

  clear() {
    this.items = [];
    $("timeline").replaceChildren();
    $("ideas").hidden = false;
  }

  /** `item`: kind, t, clock (Date), text, interrupted; of a reply also request, chunk, and what `showMoment` takes. */
  add(item) {
    item.mark = null;
    item.frames = [];
    this.items = [...this.items, item].slice(-KEPT);
    const old = this.items.at(-PICTURED - 1);
    if (old) old.before = [];
    $("ideas").hidden = true;
    const row = (item.row = make("li", `aura-item aura-${item.kind}`));
    row.tabIndex = -1;
    const words = make("div", "aura-words");
    const head = make("div", "aura-head");
    const when = make("time", "", timeOfDay(item.clock));
    when.dateTime = item.clock.toISOString();
    head.append(make("span", "aura-kind", KINDS[item.kind]), when, make("span", "", streamTime(item.t)));
    if (item.interrupted) head.append(make("span", "", "cut short"));
    const asked = this.question(item);
    if (asked) {
      const why = button("aura-link", "why?", () => this.jump(asked));
      why.title = asked.text;
      why.setAttribute("aria-label", `It was asked: ${asked.text}`);
      head.append(why);
    }
    words.append(head, make("p", "", item.text || "(nothing was heard)"));
    if (item.chunk !== undefined) words.append(this.marks(item));
    row.append(words);
    $("timeline").prepend(row);
    const gone = this.items.at(-SHOWN - 1); // of this one only the words are kept
    gone?.row?.remove();
    if (gone) gone.row = null;
  }

  /** A picture that the model saw when it spoke on `chunk`. */
  frame(chunk, url) {
    const item = this.items.findLast((other) => other.chunk === chunk);
    if (!item?.row) return;
    item.frames.push(url);
    const old = this.items.filter((other) => other.frames.length).at(-PICTURED - 1);
    if (old) old.frames = [];
    item.row.querySelector(".aura-thumb")?.remove();
    const thumb = button("aura-thumb", "", () => this.onMoment(item));
    thumb.setAttribute("aria-label", `What the model saw at ${streamTime(item.t)}`);
    const picture = new Image();
    picture.src = url;
    picture.alt = "";
    thumb.append(picture);
    item.row.append(thumb);
  }

  /** The newest reply on a standing request. */
  newestOf(request) {
    return this.items.findLast((item) => item.chunk !== undefined && item.request === request);
  }

  /** Bring an item into view, if it is still shown. */
  jump(item) {
    if (!item?.row) return;
    item.row.scrollIntoView({ block: "nearest" });
    item.row.focus();
    for (const row of $("timeline").querySelectorAll(".aura-found")) row.classList.remove("aura-found");
    item.row.classList.add("aura-found");
  }

  question(item) {
    return item.chunk === undefined || !item.request ? undefined : this.items.find((other) => other.kind === "question" && other.request === item.request);
  }

  marks(item) {
    const group = make("div", "aura-marks");
    group.setAttribute("role", "group");
    group.setAttribute("aria-label", "What do you think of it?");
    const show = () => {
      for (const node of group.children) node.setAttribute("aria-pressed", String(node.dataset.mark === item.mark));
    };
    for (const [mark, text] of Object.entries(MARKS)) {
      const node = button("", text, () => {
        item.mark = item.mark === mark ? null : mark;
        show();
        this.onMark(item);
      });
      node.dataset.mark = mark;
      group.append(node);
    }
    show();
    return group;
  }
}

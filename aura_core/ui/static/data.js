// What is kept of the user: the recording that is being made, those that were, the transcript; and how to be rid of it.

import { asJson, asText, download } from "./transcript.js";
import { $, announce, button, make, note, sure, timeOfDay } from "./view.js";

const STORE = "aura.recordings";

export class Data {
  constructor(page) {
    this.page = page;
    this.wanted = page.config.records; // record the next session
    this.running = null; // the recording's name, while one is being made
    this.kept = this.load();
    $("record").disabled = page.config.records;
    if (page.config.records) $("record").title = "Every session is recorded on this server";
    else $("data-until").textContent = ", for an hour at most";
    $("record").onclick = () => this.toggle();
    $("save").onclick = () => this.open();
    $("transcript-text").onclick = () => download(asText(page.timeline.items), "text/plain", "txt");
    $("transcript-json").onclick = () => download(asJson(page.timeline.items, this.about()), "application/json", "json");
    $("delete").onclick = () => this.deleteAll();
    this.show();
  }

  about() {
    const { profile, model } = this.page.config;
    return { profile, model, source: this.page.sources.title, settings: this.page.settings.wish(), recording: this.running !== null };
  }

  /** The server has begun a session, recorded under this name (null: not recorded). */
  started(name) {
    this.running = name;
    if (name && !this.kept.some((recording) => recording.name === name)) this.remember([...this.kept, { name, at: Date.now() }]);
    this.show();
  }

  ended() {
    this.running = null;
    this.show();
  }

  /** A recording can be run again only from its session's beginning, so beginning one starts over. */
  async toggle() {
    const { page } = this;
    const on = !this.wanted;
    const loses = on && page.startedAt !== null && page.timeline.items.length > 0;
    if (loses && !(await sure("A recording begins with a new session: AURA forgets what was said and what it watches for.", "Start over and record"))) return;
    this.wanted = on;
    page.send({ type: "record", on });
    this.show();
  }

  open() {
    this.list();
    $("data").showModal();
  }

  async deleteAll() {
    if (!(await sure("The recordings of this browser, the transcript, the pictures and your settings are deleted; the session ends.", "Delete"))) return;
    $("data").close();
    this.page.stop();
    this.page.forget();
    this.wanted = this.page.config.records;
    const failed = [];
    for (const recording of this.kept) if (!(await remove(recording))) failed.push(recording);
    this.remember(failed);
    this.ended();
    const text = failed.length ? "Some recordings could not be deleted: the server does not answer. Try again." : "All of it is deleted.";
    note(text);
    announce(text);
  }

  list() {
    $("no-recordings").hidden = this.kept.length > 0;
    $("recordings").replaceChildren(
      ...this.kept.map((recording) => {
        const row = make("li");
        const running = recording.name === this.running;
        const when = `${new Date(recording.at).toLocaleDateString()} ${timeOfDay(new Date(recording.at))}`;
        row.append(make("span", "aura-words", running ? `${when}, being made` : when));
        const link = make("a", "aura-link", "Download");
        link.href = address(recording);
        link.download = "";
        link.setAttribute("aria-label", `Download the recording of ${when}`);
        const gone = button("aura-quiet-button", "Delete", async () => {
          if (!(await remove(recording))) return note("It could not be deleted: the server does not answer.");
          this.remember(this.kept.filter((other) => other !== recording));
          return this.list();
        });
        gone.setAttribute("aria-label", `Delete the recording of ${when}`);
        row.append(link, gone);
        return row;
      }),
    );
  }

  show() {
    $("record").setAttribute("aria-pressed", String(this.wanted));
    $("sign").hidden = this.running === null;
    if ($("data").open) this.list();
  }

  load() {
    try {
      const kept = JSON.parse(localStorage.getItem(STORE)) ?? [];
      return kept.filter(({ name, at }) => typeof name === "string" && typeof at === "number");
    } catch {
      return []; // spoiled, or kept from us
    }
  }

  remember(recordings) {
    this.kept = recordings.slice(-100);
    try {
      localStorage.setItem(STORE, JSON.stringify(this.kept));
    } catch {
      // a browser that keeps nothing: they can be had until the page is closed
    }
  }
}

const address = ({ name }) => `/aura/recordings/${encodeURIComponent(name)}`;

/** False if the server could not be asked; one that has it no longer is as good as one that deletes it. */
async function remove(recording) {
  try {
    return (await fetch(address(recording), { method: "DELETE" })).ok;
  } catch {
    return false;
  }
}

// The figures: what the model costs, second by second, as the server measures it; and what became of each second.

import { $, make } from "./view.js";

const KEPT = 120; // of each: two minutes
// key of the server's message, what it is called, what it is
const TIMES = [
  ["step_ms", "Look at a second", "From the second's end to the decision, reply included"],
  ["ttft_ms", "First token (TTFT)", "From the second's end to the first token, silent or not"],
  ["first_sound_ms", "First sound", "From a question to the first sound of its answer"],
  ["hearing_ms", "Hearing", "From the end of a spoken question to its being asked"],
  ["queue_ms", "Queue", "Waiting while the model decides for others"],
];

const ONCE = new Set(["first_sound_ms", "hearing_ms"]);

export class Gauges {
  constructor() {
    this.rows = new Map();
    const table = make("table");
    const head = make("tr");
    head.append(...["", "now", "median", "95 %"].map((text) => make("th", "", text)));
    table.append(head);
    for (const [key, name, title] of TIMES) {
      const row = make("tr");
      const label = make("th", "", name);
      label.scope = "row";
      row.title = title;
      const cells = [make("td"), make("td"), make("td")];
      row.append(label, ...cells);
      table.append(row);
      this.rows.set(key, cells);
    }
    this.rest = make("p", "aura-dim");
    $("gauges").replaceChildren(table, this.rest);
    this.clear();
  }

  clear() {
    this.seen = Object.fromEntries(TIMES.map(([key]) => [key, []]));
    this.counts = { silent: 0, spoke: 0, skipped: 0 };
    for (const cells of this.rows.values()) for (const cell of cells) cell.textContent = "–";
    this.rest.textContent = "Nothing measured yet.";
  }

  /** A second has become `kind`: silent, spoke or skipped. */
  count(kind) {
    this.counts[kind] += 1;
  }

  /** The server's message; `full`: seconds that the window holds at most. */
  show(message, full) {
    for (const [key, cells] of this.rows) {
      const value = message[key];
      // what is measured with a question only is told again every second
      if (value === null || (ONCE.has(key) && value === this.seen[key].at(-1))) continue;
      const seen = (this.seen[key] = [...this.seen[key], value].slice(-KEPT));
      const sorted = [...seen].sort((a, b) => a - b);
      const at = (share) => sorted[Math.ceil(share * sorted.length) - 1];
      [value, at(0.5), at(0.95)].forEach((ms, i) => (cells[i].textContent = time(ms)));
    }
    const { cached, prompt, window, history, skipped, memory_mb: memory } = message;
    const share = prompt ? ` (${Math.round((100 * cached) / prompt)} %)` : "";
    const { silent, spoke } = this.counts;
    const rest = [
      `cache ${cached} of ${prompt} tokens${share}`,
      `window ${window} of ${full} s, ${history} questions remembered`,
      `seconds: ${silent} silent, ${spoke} spoke, ${skipped} dropped`,
      `server memory ${memory} MB`,
    ];
    this.rest.replaceChildren(...rest.map((text) => make("span", "", text)));
  }
}

function time(ms) {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

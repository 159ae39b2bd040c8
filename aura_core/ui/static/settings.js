// What the user has set: kept in this browser, sent with every session, within what the server offers.

import { $, make } from "./view.js";

const STORE = "aura.settings";
const USUAL = { quieter: 0, voice: null, width: null, n: null, n_extra: null, m: null, handsFree: true, captions: true, letters: true };
const SIZES = ["n", "n_extra", "m"];

export class Settings {
  /** `offer`: see `/aura/config`. `onChange(name)`: one that takes effect at once. */
  constructor(offer, { hears }, onChange) {
    this.offer = offer;
    this.onChange = onChange;
    this.values = this.load();
    this.hide("quieter", !offer.quieter);
    this.hide("voice", Object.keys(offer.voices).length < 2);
    this.hide("width", !offer.widths.length);
    this.hide("handsFree", !hears);
    for (const [name, text] of Object.entries(offer.voices)) $("voice").append(option(name, text));
    for (const width of offer.widths) $("width").append(option(width, `${width} × ${(width * 3) / 4}`));
    $("quieter").min = -offer.quieter;
    $("quieter").max = offer.quieter;
    $("quieter").oninput = () => this.set("quieter", 0 - Number($("quieter").value)); // to the right it speaks more
    $("captions-on").onchange = () => this.set("captions", $("captions-on").checked);
    $("letters").onchange = () => this.set("letters", $("letters").checked);
    $("hands").onchange = () => this.set("handsFree", $("hands").value === "free");
    $("voice").onchange = () => this.set("voice", $("voice").value);
    $("width").onchange = () => this.set("width", Number($("width").value));
    for (const name of SIZES) {
      $(name).max = offer[name];
      $(name).onchange = () => this.set(name, within(Math.round(Number($(name).value)), 1, offer[name]));
    }
    $("reset").onclick = () => {
      this.forget();
      for (const name of Object.keys(USUAL)) this.onChange(name);
    };
    this.show();
  }

  get(name) {
    return this.values[name];
  }

  /** What the server needs to know for a new session. */
  wish() {
    const { quieter, voice, n, n_extra, m } = this.values;
    return { quieter, voice, n, n_extra, m };
  }

  get width() {
    return this.values.width ?? 640;
  }

  set(name, value) {
    this.values[name] = value;
    try {
      localStorage.setItem(STORE, JSON.stringify(this.values));
    } catch {
      // a browser that keeps nothing: they hold until the page is closed
    }
    this.show();
    this.onChange(name);
  }

  forget() {
    localStorage.removeItem(STORE);
    this.values = { ...USUAL };
    this.show();
  }

  /** What was kept, without what this server does not offer. */
  load() {
    let kept = {};
    try {
      kept = JSON.parse(localStorage.getItem(STORE)) ?? {};
    } catch {
      // spoiled, or kept from us: as if there were none
    }
    const { offer } = this;
    const values = { ...USUAL };
    for (const name of Object.keys(USUAL)) if (typeof kept[name] === typeof USUAL[name] || USUAL[name] === null) values[name] = kept[name] ?? USUAL[name];
    values.quieter = within(values.quieter, -offer.quieter, offer.quieter);
    if (!(values.voice in offer.voices)) values.voice = null;
    if (!offer.widths.includes(values.width)) values.width = null;
    for (const name of SIZES) values[name] = Number.isInteger(values[name]) ? within(values[name], 1, offer[name]) : null;
    return values;
  }

  show() {
    const { quieter, voice, handsFree, captions, letters } = this.values;
    $("quieter").value = -quieter;
    const said = quieter === 0 ? "as the model was trained" : quieter > 0 ? `quieter by ${quieter}` : `more eager by ${-quieter}`;
    $("quieter-value").textContent = said;
    $("quieter").setAttribute("aria-valuetext", said);
    $("captions-on").checked = captions;
    $("letters").checked = letters;
    $("hands").value = handsFree ? "free" : "push";
    $("voice").value = voice ?? Object.keys(this.offer.voices)[0] ?? "";
    $("width").value = this.width;
    for (const name of SIZES) $(name).value = this.values[name] ?? this.offer[name];
  }

  hide(name, hidden) {
    document.querySelector(`.aura-setting[data-for="${name}"]`).hidden = hidden;
  }
}

const within = (value, least, most) => Math.min(most, Math.max(least, value));

function option(value, text) {
  const node = make("option", "", text);
  node.value = value;
  return node;
}

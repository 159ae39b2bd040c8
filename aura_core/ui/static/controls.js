// The user's hands: buttons, the question's form, the keyboard, push to talk.

import { showChecks } from "./preflight.js";
import { $, make, note } from "./view.js";

const KEYS = [
  ["/", "type a question"],
  ["Esc", "stop talking"],
  ["Space", "hold to talk"],
  ["M", "microphone on or off"],
  ["V", "voice on or off"],
  ["C", "next camera"],
  ["D", "figures"],
  ["S", "settings"],
  ["?", "this help"],
];

export class Controls {
  constructor(page) {
    this.page = page;
    $("begin").onclick = () => page.start();
    $("start").onclick = () => (page.wanted && !page.over ? page.stop() : page.start());
    $("source").onchange = () => (page.wanted ? page.start() : page.buttons());
    $("hush").onclick = () => page.hush();
    $("clear").onclick = () => page.send({ type: "clear" });
    $("mic").onclick = () => page.turnMicrophone(!page.hearing);
    $("flip").onclick = () => page.flip();
    $("video").onclick = () => page.wanted && $("video").play();
    $("sound").onclick = () => page.toggleSound();
    $("figures").onclick = () => toggleFigures();
    $("settings-open").onclick = () => $("settings").showModal();
    $("help-open").onclick = () => $("help").showModal();
    for (const id of ["check-open", "check-again", "trouble"]) $(id).onclick = () => showChecks(page.config, page.link);
    for (const [key, text] of KEYS) $("help-keys").append(make("dt", "", key), make("dd", "", text));
    $("form").onsubmit = (event) => {
      event.preventDefault();
      const text = $("text").value.trim();
      if (!text) return;
      note("");
      page.ask(text, $("standing").checked);
      $("text").value = "";
      $("standing").checked = false;
    };
    this.talkButton($("talk"));
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keyup", (event) => event.code === "Space" && this.talk(false));
    window.addEventListener("blur", () => this.talk(false));
    window.addEventListener("pagehide", () => page.halt()); // the seat is kept: it may be a reload
    setInterval(() => page.show(), 1000);
  }

  key(event) {
    const { page } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector(".aura dialog[open]")) return;
    const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select") != null;
    if (event.key === "Escape") {
      page.hush();
      if (typing) event.target.blur();
    } else if (event.code === "Space" && !typing && !event.target.closest?.("button, input, a, [tabindex='0']")) {
      event.preventDefault();
      if (!event.repeat) this.talk(true);
    } else if (!typing && !event.repeat && page.settings.get("letters")) {
      this.letter(event);
    }
  }

  letter(event) {
    const action = {
      "/": () => $("text").focus(),
      m: () => $("mic").click(),
      v: () => $("sound").click(),
      c: () => $("flip").hidden || $("flip").click(),
      d: () => $("figures").click(),
      s: () => $("settings-open").click(),
      "?": () => $("help-open").click(),
    }[event.key.toLowerCase()];
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Held by finger, mouse or key. */
  talkButton(node) {
    node.onpointerdown = (event) => {
      node.setPointerCapture(event.pointerId);
      this.talk(true);
    };
    node.onpointerup = node.onpointercancel = node.onblur = () => this.talk(false);
    node.oncontextmenu = (event) => event.preventDefault(); // a long press is none
    node.onkeydown = ({ key, repeat }) => !repeat && [" ", "Enter"].includes(key) && this.talk(true);
    node.onkeyup = ({ key }) => [" ", "Enter"].includes(key) && this.talk(false);
  }

  /** Push to talk. Who begins to talk has heard enough. */
  talk(held) {
    const { page } = this;
    if (page.held === held || !page.config.hears) return;
    page.held = held;
    $("talk").setAttribute("aria-pressed", String(held));
    if (held && page.playing) page.hush();
    page.setMicrophone();
    if (held) page.openMicrophone();
  }
}

function toggleFigures() {
  const hidden = !$("gauges").hidden;
  $("gauges").hidden = hidden;
  $("figures").setAttribute("aria-expanded", String(!hidden));
}

// The user's hands: buttons, the question's form, the keyboard, push to talk.

import { $, note } from "./view.js";

export class Controls {
  constructor(page) {
    this.page = page;
    $("begin").onclick = () => page.start();
    $("start").onclick = () => (page.wanted && !page.over ? page.stop() : page.start());
    $("source").onchange = () => (page.wanted ? page.start() : page.buttons());
    $("hush").onclick = () => page.hush();
    $("clear").onclick = () => page.send({ type: "clear" });
    $("save").onclick = () => page.save();
    $("mic").onclick = () => page.toggleMicrophone();
    $("video").onclick = () => page.wanted && $("video").play();
    $("sound").onclick = () => {
      page.soundOn = !page.soundOn;
      page.playSound();
    };
    $("form").onsubmit = (event) => {
      event.preventDefault();
      const text = $("text").value.trim();
      if (!text) return;
      note("");
      page.ask(text, $("standing").checked);
      $("text").value = "";
      $("standing").checked = false;
    };
    document.addEventListener("keydown", (event) => this.key(event));
    document.addEventListener("keyup", (event) => event.code === "Space" && this.talk(false));
    window.addEventListener("blur", () => this.talk(false));
    window.addEventListener("pagehide", () => page.halt()); // the seat is kept: it may be a reload
    setInterval(() => page.show(), 1000);
  }

  key(event) {
    const { page } = this;
    if (event.ctrlKey || event.metaKey || event.altKey || $("frames").open) return;
    const typing = event.target.closest?.("input[type=text], textarea, select") != null;
    if (event.key === "Escape") {
      page.hush();
      if (typing) event.target.blur();
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      $("text").focus();
    } else if (event.code === "Space" && !typing && !event.target.closest?.("button, input, [tabindex]")) {
      event.preventDefault();
      if (!event.repeat) this.talk(true);
    }
  }

  /** Push to talk. */
  talk(held) {
    const { page } = this;
    if (page.held === held || !page.config.hears) return;
    page.held = held;
    page.setMicrophone();
    if (held) page.openMicrophone();
  }
}

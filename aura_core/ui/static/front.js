// What the page offers: sources, ideas to begin with, and which buttons make sense at the moment.

import { canShareScreen, listCameras } from "./media.js";
import { $, button, make } from "./view.js";

const IDEAS = ["What do you see?", "How many objects do you see?", "Tell me when a cat appears.", "Tell me every time you see a star."];

/** Fill in, once, what the server has told. */
export function describe({ profile, model, speech, hears, speaks, demos }) {
  $("about").textContent = [profile, model].filter(Boolean).join(" · ");
  $("speech").textContent = speech;
  $("mic").hidden = $("talk").hidden = !hears;
  $("screen").hidden = !canShareScreen();
  $("sound").hidden = !speaks;
  for (const demo of demos) {
    const option = make("option", "", `Recording: ${demo.title}`);
    option.value = demo.name;
    $("source").append(option);
  }
  for (const text of IDEAS) {
    const idea = button("aura-idea", text, () => {
      $("text").value = text;
      $("text").focus();
    });
    $("ideas").append(idea);
  }
}

export function showButtons({ demo, screen, wanted, over }) {
  $("empty").hidden = wanted;
  $("start").textContent = wanted ? (over ? "Play again" : "Stop") : "Start";
  $("begin").textContent = demo ? "Play the recording" : screen ? "Share the screen" : "Start the camera";
  $("hint").textContent = demo ? demoHint(demo) : "AURA watches, stays silent, and speaks up when there is something to say.";
  for (const id of ["hush", "clear"]) $(id).disabled = !wanted;
  if (wanted) $("trouble").hidden = true;
  $("flip").hidden = true;
  if (wanted && !demo && !screen) offerFlip();
}

/** Where a recording is. */
export function address(demo) {
  return demo.url ?? `/aura/demos/${encodeURIComponent(demo.name)}.mp4`;
}

function demoHint({ title, script }) {
  const asked = script.length ? `${script.length} question${script.length > 1 ? "s are" : " is"} asked in it; ask your own as well.` : "Ask what you like.";
  return `${title}. ${asked}`;
}

async function offerFlip() {
  $("flip").hidden = (await listCameras()).length < 2;
}

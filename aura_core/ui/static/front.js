// What the page offers: ideas to begin with, and which buttons make sense at the moment.

import { listCameras } from "./media.js";
import { $, button } from "./view.js";

const IDEAS = ["What do you see?", "How many objects do you see?", "Tell me when a cat appears.", "Tell me every time you see a star."];

/** Fill in, once, what the server has told. */
export function describe({ profile, model, speech, hears, speaks }) {
  $("about").textContent = [profile, model].filter(Boolean).join(" · ");
  $("speech").textContent = speech;
  $("mic").hidden = $("talk").hidden = !hears;
  $("sound").hidden = !speaks;
  for (const text of IDEAS) {
    const idea = button("aura-idea", text, () => {
      $("text").value = text;
      $("text").focus();
    });
    $("ideas").append(idea);
  }
}

export function showButtons({ sources, wanted, over }) {
  const { camera, demo, screen, elsewhere } = sources;
  $("empty").hidden = wanted;
  $("start").textContent = wanted ? (over ? "Play again" : "Stop") : "Start";
  $("begin").textContent = demo ? "Play the recording" : screen ? "Share the screen" : "Start the camera";
  $("hint").textContent = demo ? demoHint(demo) : camera ? `${camera.title}. It is the server's: who may open this page may watch it.` : "AURA watches, stays silent, and speaks up when there is something to say.";
  for (const id of ["hush", "clear"]) $(id).disabled = !wanted;
  if (wanted) $("trouble").hidden = true;
  $("flip").hidden = true;
  if (wanted && !elsewhere && !screen) offerFlip();
}

function demoHint({ title, script }) {
  const asked = script.length ? `${script.length} question${script.length > 1 ? "s are" : " is"} asked in it; ask your own as well.` : "Ask what you like.";
  return `${title}. ${asked}`;
}

async function offerFlip() {
  $("flip").hidden = (await listCameras()).length < 2;
}

// One moment, again: what the model saw when it spoke, and the seconds before, as the page or the recording has them.

import { $, make, streamTime, timeOfDay } from "./view.js";

const BEFORE = 5; // seconds of a recording before the moment

/** `item`: of the timeline; with `video`, the address of the recording, or `before`, pictures of the camera. */
export function showMoment(item) {
  $("moment-title").textContent = `${timeOfDay(item.clock)} (${streamTime(item.t)})`;
  $("moment-text").textContent = item.text;
  $("moment-frames").replaceChildren(...item.frames.map((url, i) => image(url, `Frame ${i + 1} of ${item.frames.length} that the model saw`)));
  $("moment-about").textContent = item.frames.length ? "What the model saw: the two frames of the newest second." : "The pictures of this moment are no longer kept.";
  $("moment-before").replaceChildren(...(item.video ? [player(item)] : flipBook(item)));
  $("moment").onclose = () => $("moment-before").replaceChildren(); // nothing plays on unseen
  $("moment").showModal();
}

function player({ t, video }) {
  const node = make("video");
  node.src = `${video}#t=${Math.max(0, t - BEFORE).toFixed(1)}`;
  node.controls = node.muted = node.playsInline = true;
  node.setAttribute("aria-label", "The recording, from a few seconds before");
  return node;
}

function flipBook({ t, before }) {
  if (!before?.length) return [];
  const slider = make("input");
  slider.type = "range";
  slider.max = String(before.length - 1);
  slider.value = slider.max;
  slider.setAttribute("aria-label", "The seconds before");
  const shown = image("", "");
  const when = make("p", "aura-dim");
  const turn = () => {
    const page = before[Number(slider.value)];
    shown.src = page.url;
    shown.alt = `The camera at ${streamTime(page.t)}`;
    when.textContent = `The seconds before: ${streamTime(page.t)}, ${Math.max(0, t - page.t).toFixed(1)} s before it spoke.`;
    slider.setAttribute("aria-valuetext", streamTime(page.t));
  };
  slider.oninput = turn;
  turn();
  return [shown, slider, when];
}

function image(url, alt) {
  const picture = new Image();
  picture.src = url;
  picture.alt = alt;
  return picture;
}

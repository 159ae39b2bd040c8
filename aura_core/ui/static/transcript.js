// What was said, as a file: plain text for people, JSON with the user's marks for programs.

import { make, streamTime, timeOfDay } from "./view.js";
import { KINDS } from "./timeline.js";

export function asText(items) {
  return `${items.map((item) => `${timeOfDay(item.clock)}  ${streamTime(item.t)}  ${KINDS[item.kind]}: ${item.text}${item.mark ? `  [${item.mark}]` : ""}`).join("\n")}\n`;
}

/** `about`: what ran; see `/aura/config`. */
export function asJson(items, about) {
  const lines = items.map(({ t, kind, text, request, chunk, interrupted, mark, clock }) => ({ t, clock: clock.toISOString(), kind, text, request, chunk, interrupted, mark }));
  return `${JSON.stringify({ ...about, lines }, null, 1)}\n`;
}

export function download(text, type, ending) {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = `aura-${new Date().toISOString().slice(0, 19).replaceAll(":", "-")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

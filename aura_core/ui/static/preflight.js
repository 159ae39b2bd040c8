// Before anything goes wrong, or after it did: what works and what does not, in plain words, and how to mend it.

import { listCameras } from "./media.js";
import { $, make } from "./view.js";

const GATHER_MS = 3000;
const SERVER_MS = 5000;
const ICONS = { good: "✓", maybe: "!", bad: "✗" };
const BAR = "Click the icon left of the address, allow it, and load the page again.";

/** Show the dialog and fill it, one answer after the other. */
export async function showChecks(config, link) {
  if (!$("check").open) $("check").showModal();
  $("checks").replaceChildren();
  for (const check of [secure, camera, microphone, server, network]) {
    const [grade, text, mend] = await check(config, link);
    const row = make("li", `aura-${grade}`);
    const words = make("div", "aura-words");
    words.append(make("p", "", text));
    if (mend) words.append(make("p", "aura-dim", mend));
    const icon = make("span", "aura-grade", ICONS[grade]);
    icon.setAttribute("aria-hidden", "true");
    row.append(icon, words);
    $("checks").append(row);
  }
  $("checks").dataset.done = "true";
}

function secure() {
  if (window.isSecureContext && navigator.mediaDevices) return ["good", "This page may use the camera and the microphone."];
  return [
    "bad",
    "Your browser gives the camera and the microphone only to https pages and to localhost; this page is neither.",
    `Open it as http://localhost:${location.port || 80} on the computer it runs on, or have it served with a certificate (https). Recordings and typed questions work without.`,
  ];
}

async function camera() {
  if (!navigator.mediaDevices) return ["bad", "The camera cannot be used here.", "See above."];
  if ((await permission("camera")) === "denied") return ["bad", "The camera is blocked for this page.", BAR];
  if ((await listCameras()).length === 0) return ["bad", "No camera was found.", "Connect one, or choose a recording or your screen under “Watch”."];
  return ["good", "There is a camera."];
}

async function microphone({ hears }) {
  if (!hears) return ["maybe", "This server does not listen.", "Type your questions. Whoever runs it can start it with speech."];
  if (!navigator.mediaDevices) return ["bad", "The microphone cannot be used here.", "See above. Typed questions work."];
  if ((await permission("microphone")) === "denied") return ["bad", "The microphone is blocked for this page.", `${BAR} Typed questions work without.`];
  const devices = await navigator.mediaDevices.enumerateDevices();
  if (!devices.some(({ kind }) => kind === "audioinput")) return ["bad", "No microphone was found.", "Connect one. Typed questions work without."];
  return ["good", "There is a microphone."];
}

async function server() {
  try {
    const response = await fetch("/aura/config", { signal: AbortSignal.timeout(SERVER_MS) });
    if (response.ok) return ["good", "The server answers."];
    return ["bad", `The server answers with an error (${response.status}).`, "Load the page again; if that does not help, whoever runs the server finds the reason in its log."];
  } catch {
    return ["bad", "The server does not answer.", "Is it still running? Is this device still in its network?"];
  }
}

/** Whether WebRTC gets as far as naming an address of this device, which is what blockers prevent. */
async function network(config, link) {
  if (link) return ["good", "Pictures and sound reach the server."];
  if (!window.RTCPeerConnection) {
    return ["bad", "This browser has no WebRTC, or an extension has switched it off.", "Allow it for this page (look for “WebRTC” in your privacy extension), or use another browser."];
  }
  const pc = new RTCPeerConnection({ iceServers: config.ice_servers ?? [] });
  try {
    const found = new Promise((resolve) => {
      pc.onicecandidate = ({ candidate }) => candidate?.candidate && resolve(true);
      setTimeout(() => resolve(false), GATHER_MS);
    });
    pc.createDataChannel("check");
    await pc.setLocalDescription();
    if (await found) return ["good", "WebRTC, which carries pictures and sound, is not blocked in this browser."];
  } catch (error) {
    return ["bad", `WebRTC, which carries pictures and sound, fails: ${error.message}`, "Use another browser."];
  } finally {
    pc.close();
  }
  return [
    "bad",
    "WebRTC, which carries pictures and sound, is blocked: your browser finds no way out.",
    "It needs a network, even to this same computer (Wi-Fi without internet will do). A VPN or a privacy extension may block it; allow it for this page. To a server elsewhere a TURN server may be needed.",
  ];
}

async function permission(name) {
  try {
    return (await navigator.permissions.query({ name })).state;
  } catch {
    return "prompt"; // this browser does not tell
  }
}

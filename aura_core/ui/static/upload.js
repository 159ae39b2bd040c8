// A video of one's own in place of the camera: chosen, sent, and then watched like the other recordings.

import { inLine } from "./seat.js";
import { $, make, note, showState } from "./view.js";

const CHOOSE = "+";

export class Upload {
  constructor(page) {
    this.page = page;
    this.option = make("option", "", "Your own video …");
    this.option.value = CHOOSE;
    $("source").append(this.option);
    this.input = Object.assign(make("input"), { type: "file", accept: "video/*", hidden: true });
    this.input.id = "aura-file";
    $("source").after(this.input);
    this.input.onchange = () => this.chosen();
    let before = $("source").value;
    $("source").parentElement.addEventListener(
      "change",
      (event) => {
        if ($("source").value === CHOOSE) {
          event.stopPropagation(); // nothing to watch yet
          $("source").value = before;
          this.input.click();
        }
        before = $("source").value;
      },
      true,
    );
    if (page.seat.own) this.offer(page.seat.own);
  }

  /** Among the recordings from now on. */
  offer(demo) {
    const { config } = this.page;
    config.demos = [...config.demos.filter(({ url }) => !url), demo];
    this.own?.remove();
    this.own = make("option", "", demo.title);
    this.own.value = demo.name;
    this.option.before(this.own);
    this.page.seat.keep({ own: demo });
  }

  async chosen() {
    const { page } = this;
    const [file] = this.input.files;
    this.input.value = "";
    if (!file) return;
    if (file.size > page.config.max_upload) return note(`The video is too large: at most ${page.config.max_upload >> 20} MB are taken.`);
    page.halt();
    let left = false;
    addEventListener("pagehide", () => (left = true), { once: true });
    try {
      const { token } = await page.seat.take(
        (place) => {
          showState("waiting");
          note(inLine(place));
        },
        () => !left && !page.wanted,
      );
      this.offer({ ...(await send(file, token)), title: file.name });
    } catch (error) {
      page.show();
      if (error.message !== "closed") note(error.message);
      return;
    }
    note("");
    $("source").value = this.own.value;
    page.start();
  }
}

/** Send the file, telling how far it is. */
function send(file, token) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", "/aura/upload");
    request.setRequestHeader("X-Aura-Token", token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => note(`Sending the video: ${Math.round((100 * loaded) / total)} %`);
    request.onerror = () => reject(new Error("The video could not be sent."));
    request.onload = () => (request.status === 200 ? resolve(request.response) : reject(new Error(request.response?.detail ?? `The server answered ${request.status}.`)));
    request.send(file);
  });
}

// What the page sees, hears and says with: camera or screen, microphone, loudspeaker.

import { openMicrophone, openNextCamera, stop } from "./media.js";
import { $, note } from "./view.js";

/** The base of the page, which has `config`, `settings`, `sources`, `link` and `wanted`. */
export class Senses {
  stream = null; // camera or screen, and microphone
  micOn = false;
  held = false; // push to talk
  soundOn = true;

  setStream(stream) {
    stop(this.stream);
    this.stream = stream;
    for (const track of stream?.getVideoTracks() ?? []) this.attend(track);
    if (stream && this.config.hears && !stream.getAudioTracks().length) note("There is no microphone, or it is blocked: type your questions.");
    this.setMicrophone();
  }

  attend(track) {
    track.onended = () => (this.sources.screen ? this.giveUp("The screen is no longer shared.") : note("The camera was disconnected."));
  }

  setMicrophone() {
    const on = this.micOn || this.held;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = on;
    if (!on) this.listening = false;
    // What comes from elsewhere is watched without the microphone until it is asked for.
    const open = this.wanted ? this.stream?.getAudioTracks().length > 0 : !this.sources.elsewhere;
    this.hearing = on && open;
    $("mic").setAttribute("aria-pressed", String(this.hearing));
  }

  async openMicrophone() {
    if (this.stream?.getAudioTracks().length || !this.link) return;
    const sound = await openMicrophone();
    if (!sound) return note("The microphone cannot be opened.");
    const pictures = this.stream?.getVideoTracks() ?? [];
    this.stream = new MediaStream([...pictures, ...sound.getAudioTracks()]);
    await this.link?.replace(this.stream);
    this.setMicrophone();
  }

  turnMicrophone(on) {
    this.micOn = on;
    this.setMicrophone();
    if (this.micOn) this.openMicrophone();
  }

  /** The next camera, on devices with several. */
  async flip() {
    const [picture] = this.stream?.getVideoTracks() ?? [];
    if (!picture || this.sources.screen) return;
    try {
      const next = await openNextCamera(picture, this.settings.width);
      if (!next) return;
      this.stream = new MediaStream([next, ...this.stream.getAudioTracks()]);
      this.attend(next);
      $("video").srcObject = this.stream;
      await $("video").play();
      await this.link?.replace(this.stream);
    } catch (error) {
      this.giveUp(`The other camera cannot be opened: ${error.message}`);
    }
  }

  toggleSound() {
    this.soundOn = !this.soundOn;
    this.playSound();
  }

  playSound() {
    $("audio").muted = !this.soundOn;
    $("sound").setAttribute("aria-pressed", String(this.soundOn));
    if ($("audio").srcObject) $("audio").play().catch(() => note("The browser blocks sound; click “Voice” to allow it."));
  }
}

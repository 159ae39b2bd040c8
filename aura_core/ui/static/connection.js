// One connection to the server, by whatever transport works: first a seat, then WebRTC, and where that cannot connect,
// plain HTTP. It says a word every few seconds, and takes a server that says nothing for gone.

import { BROKEN, Link, NO_CONNECTION } from "./link.js";
import { SocketLink } from "./socket.js";

const PING_MS = 2000;
const MAX_QUIET_MS = 8000;

export class Connection {
  /** `handlers`: those of `Link`, and `onWait(place in line)`, `onPlain(boolean)`. */
  constructor(seat, handlers) {
    this.seat = seat;
    this.handlers = handlers;
    this.closed = false;
    this.link = null;
    this.resumed = false; // there is a session to go on with
  }

  async open(stream) {
    const seat = await this.seat.take(this.handlers.onWait, () => !this.closed);
    this.resumed = seat.resumed;
    if (!seat.webrtc) this.seat.keep({ plain: true }); // the server knows that it cannot connect
    if (!this.seat.plain) {
      try {
        await this.connectTwice(() => new Link(seat.ice_servers, seat.token, this.inner()), stream);
      } catch (error) {
        if (this.closed || error.message !== NO_CONNECTION) throw error;
        this.seat.keep({ plain: true });
      }
    }
    if (this.seat.plain) {
      const link = new SocketLink(seat.token, this.inner());
      try {
        await this.connect(link, stream);
      } catch (error) {
        this.seat.keep({ plain: false }); // neither works: next time WebRTC first
        throw error;
      }
    }
    this.established = true;
    this.handlers.onPlain(this.seat.plain);
    this.heard = performance.now();
    this.timer = setInterval(() => this.ping(), PING_MS);
  }

  async connect(link, stream) {
    this.link = link;
    await link.open(stream);
    if (this.closed) {
      link.close();
      throw new Error("closed");
    }
  }

  /** Once more where it breaks in the making: the network may only have changed under it. */
  async connectTwice(link, stream) {
    try {
      await this.connect(link(), stream);
    } catch (error) {
      if (this.closed || error.message !== BROKEN) throw error;
      await this.connect(link(), stream);
    }
  }

  inner() {
    const { onSound, onWobble } = this.handlers;
    return { onSound, onWobble, onMessage: (message) => this.received(message), onLost: () => this.lost() };
  }

  received(message) {
    this.heard = performance.now();
    if (message.type === "pong" || message.type === "ready" || this.closed) return;
    if (message.type === "moved") {
      this.seat.keep({ token: null });
      this.handlers.onMoved();
    } else if (this.seat.got(message)) {
      this.handlers.onMessage(message);
    }
  }

  /** Send a message; false if it cannot go out. What can be repeated is, after a lost connection. */
  send(message) {
    const lasting = message.type === "ask" || message.type === "stop";
    const open = this.link?.isOpen ?? false;
    if (!open && !lasting) return false;
    const registered = lasting ? this.seat.register(message) : message;
    if (open) this.link.send(registered);
    return true;
  }

  /** Go on with the session that the server kept. */
  resume() {
    this.link.send({ type: "resume", seen: this.seat.seen });
    for (const message of this.seat.unsure.values()) this.link.send(message);
  }

  async replace(stream) {
    await this.link?.replace(stream);
  }

  ping() {
    if (performance.now() - this.heard > MAX_QUIET_MS) this.lost();
    else this.link?.send({ type: "ping" });
  }

  lost() {
    if (this.closed || !this.established) return; // while it is being made, `open` tells
    this.close();
    this.handlers.onLost();
  }

  /** Hang up; the seat stays. */
  close() {
    this.closed = true;
    clearInterval(this.timer);
    this.link?.close();
  }
}


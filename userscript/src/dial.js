/**
 * Keeps a session connected: which link, when again, and which ends are final.
 *
 * A hub somewhere else: the socket first; where the page's policy or a proxy does not let one through,
 * polling, and that is remembered for the hub. A hub on this very computer: polling first, because the
 * browser would ask the person before it opens a socket there; the socket if that was granted, or when the
 * person asks for it.
 *
 * Waiting between attempts is a plain timer, late by up to a minute in a hidden tab: `nudge` makes up for it.
 *
 * @typedef {import("./link.js").Ended} Ended
 * @typedef {import("./link.js").Link} Link
 * @typedef {import("./credentials.js").Hub} Hub
 * @typedef {import("./clock.js").Clock} Clock
 * @typedef {object} DialPace seconds between connections
 * @property {number} first_s the ceiling of the first pause: a hub waits 5 s for a link that dropped
 * @property {number} longest_s
 * @property {number} held_s the same while an answer is in hand: the hub waits half a minute for it
 * @property {number} steady_s a connection that lasted so long was a good one: pauses start short again
 * @property {number} restart_s how far apart workers come back to a hub that restarts
 * @property {number} protocol_error_s
 * @property {number} forbidden_s how long a socket that the page forbids is not tried again
 * @property {number} refused_s how long a socket that does not open is not tried again
 * @property {number} asked_s how long a socket may take to open while the browser asks the person
 * @property {number} socket_failures so many must fail in a row before polling is tried; a number, not
 *   seconds
 *
 * @typedef {object} DialState
 * @property {"socket" | "poll" | null} link the link in use, or the one being tried
 * @property {boolean} connected
 * @property {boolean} wanted it stays connected, or comes back
 * @property {string | null} reason why it is not connected
 * @property {string | null} ended the name of the close code (in lower case, such as "replaced") after which
 *   it must not come back by itself
 * @property {number | null} again_at the clock's ms of the next attempt
 * @property {boolean} canSpeedUp `preferSocket` may help
 */

import { ended } from "./link.js";
import { Close, PROTOCOL_ERROR_PAUSE_S, isFinal } from "./protocol.js";

const { entries, freeze } = Object;
const { max, min, random } = Math;
const LocalPromise = Promise;

/** @type {DialPace} */
export const DIAL_PACE = freeze({
  first_s: 0.25,
  longest_s: 30,
  held_s: 3,
  steady_s: 5,
  restart_s: 5,
  protocol_error_s: PROTOCOL_ERROR_PAUSE_S,
  forbidden_s: 86_400,
  refused_s: 600,
  asked_s: 60,
  socket_failures: 2,
});

const LOOPBACK_PERMISSION = "loopback-network";
const ENDS_SESSION = freeze([Close.PROTOCOL_ERROR, Close.SESSION_GONE, Close.TOO_SLOW, Close.TOO_BIG]);
/** Ends of a socket after which it is certain that none will open here. */
const FORBIDDEN = freeze(["csp", "mixed_content"]);

/** @param {number} from @param {number} to */
const between = (from, to) => from + random() * (to - from);

/** @param {number} code */
function nameOf(code) {
  const found = entries(Close).find(([, known]) => known === code);
  return found === undefined ? `closed_${code}` : found[0].toLowerCase();
}

/** What is known of hubs, for as long as the page lives. */
function forAWhile() {
  const values = new Map();
  return { get: (name) => values.get(name), set: (name, value) => values.set(name, value) };
}

/** Connects a session again and again. */
export class Dial {
  #session;
  #socket;
  #poll;
  #credentials;
  #clock;
  #permissions;
  #memory;
  #pace;
  #onChange;
  #isWanted = false;
  /** Ends when it has stopped. @type {Promise<void> | null} */
  #running = null;
  /** The link in use. @type {Link | null} */
  #link = null;
  /** How the link before this one ended. @type {Ended | null} */
  #last = null;
  #failures = 0;
  /** So many sockets in a row did not open. */
  #socketFailures = 0;
  /** How the last of them ended, until that is remembered. @type {Ended | null} */
  #socketFailure = null;
  #isPreferred = false;
  #isOpening = false;
  /** While polling: when the socket is tried again. */
  #socketTimer;
  /** The same as is remembered, in case that nothing is. */
  #asideUntil = 0;
  /** While waiting: ends it. @type {(() => void) | null} */
  #wake = null;
  /** @type {number | null} */
  #againAt = null;
  /** The hub asked us to stay away until then. */
  #notBefore = 0;

  /**
   * @param {object} options
   * @param {import("./session.js").Session} options.session
   * @param {import("./socket_link.js").SocketLink | null} options.socket
   * @param {import("./poll_link.js").PollLink | null} options.poll one of the two may be missing
   * @param {import("./credentials.js").Credentials} options.credentials
   * @param {Clock} options.clock
   * @param {Permissions} [options.permissions] `navigator.permissions`
   * @param {{get: (name: string) => any, set: (name: string, value: number) => void}} [options.memory] keeps
   *   numbers by name, for longer than the page lives
   * @param {DialPace} [options.pace]
   * @param {() => void} [options.onChange] `state` has changed
   */
  constructor({
    session,
    socket,
    poll,
    credentials,
    clock,
    permissions,
    memory = forAWhile(),
    pace = DIAL_PACE,
    onChange = () => {},
  }) {
    if (socket === null && poll === null) throw new TypeError("a dial needs a link");
    this.#session = session;
    this.#socket = socket;
    this.#poll = poll;
    this.#credentials = credentials;
    this.#clock = clock;
    this.#permissions = permissions;
    this.#memory = memory;
    this.#pace = pace;
    this.#onChange = onChange;
  }

  /** @returns {DialState} */
  get state() {
    const { connected } = this.#session;
    const code = this.#last?.code;
    return {
      link: this.#link?.transport ?? null,
      connected,
      wanted: this.#isWanted,
      reason: connected ? null : (this.#last?.reason ?? null),
      ended: !this.#isWanted && code !== undefined && isFinal(code) ? nameOf(code) : null,
      again_at: this.#againAt,
      canSpeedUp: this.#isPolling && this.#socket !== null && this.#credentials.hub()?.isLoopback === true,
    };
  }

  // --- what others want of it

  /** Connect, and stay connected; also after a final end. Does nothing where there is no hub yet. */
  start() {
    if (this.#isWanted) return;
    this.#isWanted = true;
    this.#last = null;
    this.#failures = 0;
    this.#session.stay();
    this.#running ??= this.#run();
  }

  /**
   * Say goodbye and stay away.
   * @param {string} [reason]
   * @returns {Promise<void>} until the goodbye is said
   */
  async stop(reason = "the tab was disconnected") {
    if (this.#isWanted) {
      this.#isWanted = false;
      this.#session.leave(reason);
      if (!this.#session.connected) this.#link?.drop(reason);
      this.#wake?.();
    }
    await this.#running;
  }

  /** Another hub or another token is to be used: begin anew, even after a final end. */
  restart() {
    this.#notBefore = 0;
    this.#asideUntil = 0;
    this.#socketFailures = 0;
    this.#socketFailure = null;
    this.#isPreferred = false;
    this.#session.forget("another hub is to be used");
    this.#link?.drop("another hub is to be used");
    this.#wake?.();
    this.start();
  }

  /** Something has happened (the tab is seen again, the network is back): see whether the link lives. */
  nudge() {
    if (this.#wake === null) this.#link?.check();
    else if (this.#clock.now() >= this.#notBefore) this.#wake();
  }

  /** Try again now, and the socket too, whatever is remembered of it; connects again after a final end. */
  again() {
    const hub = this.#credentials.hub();
    if (hub !== null) this.#remember(hub, 0);
    this.#socketFailures = 0;
    if (!this.#isWanted) this.start();
    else if (this.#isPolling && this.#mayAsk(hub)) this.#openWhilePolling(hub);
    else this.nudge();
  }

  /** The person wants the faster link to a hub on this computer; call it in a click's handler. */
  preferSocket() {
    this.#isPreferred = true;
    this.again();
  }

  get #isPolling() {
    return this.#poll !== null && this.#link === this.#poll;
  }

  // --- one connection after another

  async #run() {
    try {
      while (this.#isWanted) await this.#connectOnce();
    } finally {
      this.#running = null;
      this.#socket?.drop("not needed");
      this.#onChange();
    }
  }

  async #connectOnce() {
    const hub = this.#credentials.hub();
    if (hub === null || !this.#credentials.hasToken) {
      await this.#sleep(null);
      return;
    }
    const began = this.#clock.now();
    const end = await this.#carry(hub);
    const { transport } = this.#link ?? {};
    this.#link = null;
    this.#last = end;
    if (end.cause === "left" || (end.code !== undefined && isFinal(end.code))) this.#retire(end);
    else if (this.#isWanted) await this.#comeBack(end, transport, this.#clock.now() - began);
  }

  /** @param {Ended} end */
  #retire({ cause, reason }) {
    this.#session.forget(reason);
    // A goodbye may have been followed by a new start.
    if (cause !== "left") this.#isWanted = false;
    this.#onChange();
  }

  /** @param {Ended} end @param {"socket" | "poll" | undefined} transport @param {number} lasted ms */
  async #comeBack(end, transport, lasted) {
    if (ENDS_SESSION.includes(end.code)) this.#session.forget(end.reason);
    if (end.welcomed && lasted >= this.#pace.steady_s * 1000) this.#failures = 0;
    if (transport === "socket") this.#countSocketFailure(end);
    if (end.cause === "dropped" || (FORBIDDEN.includes(end.cause) && this.#poll !== null)) return;
    const asked_s = this.#askedPause(end);
    this.#notBefore = this.#clock.now() + asked_s * 1000;
    await this.#sleep((asked_s + this.#backoff(end)) * 1000);
  }

  /** What the hub, or the protocol, asks for. @param {Ended} end */
  #askedPause({ code, retry_after_s }) {
    const { protocol_error_s } = this.#pace;
    return code === Close.PROTOCOL_ERROR ? max(protocol_error_s, retry_after_s) : retry_after_s;
  }

  /** So that workers do not come all at once, nor too often. @param {Ended} end */
  #backoff({ code }) {
    const { first_s, longest_s, held_s, restart_s, protocol_error_s } = this.#pace;
    const isAwaited = this.#session.busy > 0 || this.#session.unacked > 0;
    const longest = isAwaited ? min(held_s, longest_s) : longest_s;
    const ceiling = min(longest, first_s * 2 ** min(this.#failures, 20));
    this.#failures += 1;
    if (code === Close.PROTOCOL_ERROR) return between(0, protocol_error_s / 4);
    return between(0, code === Close.RESTART ? restart_s : ceiling);
  }

  /** Wait, until `nudge` at the latest. @param {number | null} ms null: for as long as it takes */
  #sleep(ms) {
    return new LocalPromise((resolve) => {
      let timer;
      this.#wake = () => {
        this.#wake = null;
        this.#againAt = null;
        this.#clock.clearTimeout(timer);
        resolve();
      };
      if (ms !== null) {
        timer = this.#clock.setTimeout(this.#wake, ms);
        this.#againAt = this.#clock.now() + ms;
      }
      this.#onChange();
    });
  }

  // --- which link

  /** @param {Hub} hub @returns {Promise<Ended>} */
  async #carry(hub) {
    const bySocket = await this.#isSocketsTurn(hub);
    if (!this.#isWanted) return ended("dropped", "not wanted any more");
    this.#link = bySocket ? this.#socket : this.#poll;
    this.#onChange();
    if (!bySocket) return this.#carryByPolling(hub);
    return this.#socket.carry(this.#session, () => this.#welcomed());
  }

  #welcomed() {
    this.#last = null;
    this.#onChange();
  }

  /** @param {Hub} hub */
  async #isSocketsTurn(hub) {
    if (this.#socket === null) return false;
    if (this.#poll === null || this.#socket.isOpen) return true;
    if (this.#isHopeless || this.#forbiddenFor(hub) > 0) return false;
    return this.#mayAsk(hub) || this.#isGranted();
  }

  /** Whether a socket may be tried although the browser might ask the person. @param {Hub} hub */
  #mayAsk(hub) {
    return this.#socket !== null && (!hub.isLoopback || this.#isPreferred);
  }

  /** Whether a socket to this computer opens without a question. */
  async #isGranted() {
    try {
      const { state } = await this.#permissions.query({ name: LOOPBACK_PERMISSION });
      return state === "granted";
    } catch {
      return false;
    }
  }

  /** @param {Hub} hub @returns {Promise<Ended>} */
  async #carryByPolling(hub) {
    const end = await this.#poll.carry(this.#session, () => {
      // The hub is there. What did not open may have been tried while it was not: see at once.
      if (FORBIDDEN.includes(this.#socketFailure?.cause)) this.#setAside(hub, this.#socketFailure);
      this.#planSocket(hub);
      this.#welcomed();
    });
    this.#clock.clearTimeout(this.#socketTimer);
    return end;
  }

  /** While polling: try the socket again when its time has come. @param {Hub} hub */
  #planSocket(hub) {
    this.#clock.clearTimeout(this.#socketTimer);
    if (!this.#mayAsk(hub)) return;
    this.#socketTimer = this.#clock.setTimeout(() => this.#openWhilePolling(hub), this.#forbiddenFor(hub));
  }

  /**
   * Open a socket beside the polling; once it is open, the session moves there. What an exchange in flight
   * carried is repeated.
   * @param {Hub} hub
   */
  async #openWhilePolling(hub) {
    if (this.#isOpening) return;
    this.#isOpening = true;
    const failure = await this.#socket.open(this.#isPreferred ? this.#pace.asked_s : undefined);
    this.#isOpening = false;
    if (!this.#isPolling || this.#session.leaving !== null) return;
    if (failure === null) {
      this.#poll.drop("the socket opens again");
      return;
    }
    this.#setAside(hub, failure);
    this.#planSocket(hub);
    this.#onChange();
  }

  /** @param {Ended} end */
  #countSocketFailure(end) {
    if (end.welcomed) {
      this.#socketFailures = 0;
      this.#socketFailure = null;
    } else if (end.cause !== "closed" && end.cause !== "dropped") {
      this.#socketFailures += FORBIDDEN.includes(end.cause) ? this.#pace.socket_failures : 1;
      this.#socketFailure = end;
    }
  }

  get #isHopeless() {
    return this.#socketFailures >= this.#pace.socket_failures;
  }

  // --- what is remembered

  /** Do not try the socket for a while. @param {Hub} hub @param {Ended} failure how it ended */
  #setAside(hub, failure) {
    const { forbidden_s, refused_s } = this.#pace;
    const seconds = FORBIDDEN.includes(failure.cause) ? forbidden_s : refused_s;
    this.#isPreferred = false;
    // Said once, so that its time does not begin anew with each connection.
    this.#socketFailure = null;
    this.#remember(hub, this.#clock.now() + seconds * 1000);
  }

  /** @param {Hub} hub @returns {number} ms for which the socket is not to be tried */
  #forbiddenFor(hub) {
    const kept = this.#memory.get(`socket_again_at ${hub.http}`);
    const until = max(this.#asideUntil, typeof kept === "number" && kept > 0 ? kept : 0);
    const left = until - this.#clock.now();
    // Nothing is set aside for longer: the computer's clock was wrong then, or is now.
    return left > this.#pace.forbidden_s * 1000 ? 0 : max(0, left);
  }

  /** @param {Hub} hub @param {number} until the clock's ms */
  #remember(hub, until) {
    this.#asideUntil = until;
    this.#memory.set(`socket_again_at ${hub.http}`, until);
  }
}

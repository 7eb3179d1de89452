/**
 * The polling link: a slow socket made of POSTs, with the WebSocket link's own face. A userscript manager
 * makes the requests, past the page's policy and without an Origin.
 *
 * It lives on the callbacks of requests: in a hidden tab these are on time where chains of timers are not.
 *
 * @typedef {import("./link.js").Ended} Ended
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./clock.js").Clock} Clock
 * @typedef {{method: string, url: string, headers: object, body: string, timeout_ms: number}} Details
 * @typedef {{status: number, text: string, headers: string}} Answer `headers`: lines of "name: value"
 * @typedef {(details: Details) => {answer: Promise<Answer>, abort: () => void}} Request `answer` rejects with
 *   an Error when there is none
 * @typedef {object} PollPace seconds that shape polling
 * @property {number} hello_s how long a hello may take
 * @property {number} answer_s how long an exchange may take beyond the hub's `wait_s`
 * @property {number} grace_s beyond that, a manager that knows no timeouts is not waited for
 * @property {number} batch_s frames wait this long for company where exchanges are not held
 * @property {number} overtake_s a second exchange leaves this long after one that the hub may be holding
 * @property {number} retry_first_s
 * @property {number} retry_longest_s
 * @property {number} patience_s after failing for so long the link gives up, and the dial decides
 * @property {number} bye_s
 * @property {number} proof_s how long it may take to prove that it lives, when asked
 */

import { closedByAnswer, ended, retryAfter } from "./link.js";
import { NEXT_S_BUSY, ProtocolError, decodeHubPacket, decodeWelcome, encode, hello } from "./protocol.js";

const { apply } = Reflect;
const { freeze } = Object;
const { max, min, random } = Math;
const { queueMicrotask } = globalThis;
const LocalPromise = Promise;
const { race } = LocalPromise;

/** @type {PollPace} */
export const POLL_PACE = freeze({
  hello_s: 15,
  answer_s: 10,
  grace_s: 2,
  batch_s: 0.1,
  overtake_s: 0.02,
  retry_first_s: 0.1,
  retry_longest_s: 5,
  patience_s: 30,
  bye_s: 3,
  proof_s: 5,
});

const MAX_FLIGHTS = 2;
const MAX_NEXT_S = 3_600;
const LONG_AGO = -Infinity;
const unasked = () => true;
const GIVEN_UP = freeze(ended("dropped", "it was given up"));

// --- requests ---------------------------------------------------------------------------------------------

/**
 * The userscript manager's requests, without cookies. What the manager is given has no prototype: what it
 * looks for and does not find, the page must not be asked for.
 * @param {(details: object) => {abort?: () => void} | void} GM_xmlhttpRequest
 * @returns {Request}
 */
export function byUserscriptManager(GM_xmlhttpRequest) {
  return ({ method, url, headers, body, timeout_ms }) => {
    let call;
    const answer = new LocalPromise((resolve, reject) => {
      call = GM_xmlhttpRequest({
        __proto__: null,
        method,
        url,
        headers,
        data: body,
        timeout: timeout_ms,
        anonymous: true,
        onload: ({ status, responseText, responseHeaders }) =>
          resolve({ status, text: responseText ?? "", headers: responseHeaders ?? "" }),
        onerror: () => reject(new Error("no answer")),
        ontimeout: () => reject(new Error("no answer in time")),
        onabort: () => reject(new Error("given up")),
      });
    });
    return { answer, abort: () => call?.abort?.() };
  };
}

/** The hub answered with a status that ends the connection. */
class Refused extends Error {
  /** @param {Ended} end */
  constructor(end) {
    super(end.reason);
    this.end = end;
  }
}

/** No answer, or a status that says: not now. */
class Passing extends Error {
  /** @param {string} message @param {number} [retry_after_s] */
  constructor(message, retry_after_s = 0) {
    super(message);
    this.retry_after_s = retry_after_s;
  }
}

/** The three POSTs of one connection. */
class Door {
  #hub;
  #credentials;
  #request;
  #clock;
  #pace;
  #flights = new Set();

  constructor(hub, { credentials, request, clock, pace }) {
    this.#hub = hub;
    this.#credentials = credentials;
    this.#request = request;
    this.#clock = clock;
    this.#pace = pace;
  }

  /**
   * The text of a 200. Rejects with Refused or Passing.
   * @param {"hello" | "exchange" | "bye"} action
   * @param {string} body
   * @param {number} limit_s
   */
  async post(action, body, limit_s) {
    const authorization = this.#credentials.authorization(this.#hub);
    if (authorization === "") throw new Refused(ended("dropped", "the hub's address has changed"));
    const flight = this.#request({
      __proto__: null,
      method: "POST",
      url: `${this.#hub.http}/worker/${action}`,
      headers: { __proto__: null, Authorization: authorization, "Content-Type": "application/json" },
      body,
      timeout_ms: limit_s * 1000,
    });
    const { status, text, headers } = await this.#landing(flight, limit_s);
    if (status === 200) return text;
    const end = closedByAnswer({ status, text, headers });
    if (end !== null) throw new Refused(end);
    throw new Passing(`HTTP ${status}`, retryAfter(headers));
  }

  /** Let go of all that are under way. */
  ground() {
    for (const giveUp of [...this.#flights]) giveUp();
  }

  /** The flight's answer, or Passing; a manager that forgets a request is not waited for. */
  async #landing({ answer, abort }, limit_s) {
    let giveUp;
    const givenUp = new LocalPromise((resolve, reject) => {
      giveUp = () => {
        reject(new Passing("given up"));
        abort();
      };
    });
    const late = this.#clock.setTimeout(giveUp, (limit_s + this.#pace.grace_s) * 1000);
    this.#flights.add(giveUp);
    try {
      return await apply(race, LocalPromise, [[answer, givenUp]]);
    } catch (error) {
      throw error instanceof Passing ? error : new Passing(`${error?.message ?? error}`);
    } finally {
      this.#clock.clearTimeout(late);
      this.#flights.delete(giveUp);
    }
  }
}

// --- one connection ---------------------------------------------------------------------------------------

/** One connection's exchanges: up to two at a time, so that ours can release one that is held. */
class Exchanges {
  #door;
  #session;
  #clock;
  #pace;
  #extra;
  #ids;
  #wait_s;
  #next_s;
  #inFlight = 0;
  #leftAt = LONG_AGO;
  #landedAt = LONG_AGO;
  #failures = 0;
  #failingSince = 0;
  #retryAt = 0;
  #timer;
  #proof;
  #isProven = unasked;
  #willTurn = false;
  #isLeaving = false;
  #isOver = false;

  /** @type {(end: Ended) => void} */
  over = () => {};

  /**
   * @param {Door} door
   * @param {Session} session
   * @param {import("./protocol.js").Welcome} welcome
   * @param {{clock: Clock, pace: PollPace}} more
   */
  constructor(door, session, { session: id, connection, exchange }, { clock, pace }) {
    this.#door = door;
    this.#session = session;
    this.#clock = clock;
    this.#pace = pace;
    this.#ids = { session: id, connection };
    this.#extra = `${encode(this.#ids).slice(1, -1)},`;
    this.#wait_s = exchange.wait_s;
    this.#next_s = exchange.next_s;
  }

  /** Look, once all is said that is said in one go, whether something is due. */
  wake = () => {
    if (this.#willTurn) return;
    this.#willTurn = true;
    queueMicrotask(() => this.#turn());
  };

  /** It must prove itself soon: the hub answers an exchange that brings something at once. */
  check() {
    if (this.#isOver || this.#isLeaving || !this.#isProven()) return;
    this.#isProven = this.#session.knock();
    this.#proof = this.#clock.setTimeout(
      () => this.#end(ended("lost", "the hub did not prove that it is there")),
      this.#pace.proof_s * 1000,
    );
    this.#retryAt = 0;
    if (this.#inFlight < MAX_FLIGHTS) this.#guarded(() => this.#depart());
  }

  /** @param {string} reason */
  drop(reason) {
    this.#end(ended("dropped", reason));
  }

  /** Send what is due now, or see to it that we look again when something is. */
  #turn() {
    this.#willTurn = false;
    this.#clock.clearTimeout(this.#timer);
    if (this.#isOver || this.#isLeaving) return;
    this.#guarded(() => {
      if (this.#session.over) throw this.#session.over;
      if (this.#session.leaving !== null) {
        this.#sayGoodbye();
        return;
      }
      const dueAt = this.#dueAt();
      if (dueAt === null) return;
      const wait = dueAt - this.#clock.now();
      if (wait > 0) this.#timer = this.#clock.setTimeout(() => this.#turn(), wait);
      else this.#depart();
    });
  }

  /** When the next exchange leaves, in the clock's ms; null while only an answer or a new frame can say. */
  #dueAt() {
    if (this.#inFlight >= MAX_FLIGHTS) return null;
    if (this.#failures > 0) return this.#inFlight > 0 ? null : this.#retryAt;
    if (this.#session.hasUnsent) return this.#leftAt + this.#batch_s() * 1000;
    if (this.#inFlight > 0) return null;
    // An exchange is never held while a job is in hand, so next_s alone would spin.
    return this.#landedAt + (this.#session.busy > 0 ? NEXT_S_BUSY : this.#next_s) * 1000;
  }

  #batch_s() {
    if (this.#next_s > 0) return this.#pace.batch_s;
    return this.#inFlight > 0 ? this.#pace.overtake_s : 0;
  }

  #depart() {
    this.#leftAt = this.#clock.now();
    const body = this.#session.packet({ extra: this.#extra, everything: true });
    this.#inFlight += 1;
    // With a job in hand an exchange is never held: one that is not answered soon is lost.
    this.#exchange(body, this.#pace.answer_s + (this.#session.busy > 0 ? 0 : this.#wait_s));
    this.#turn();
  }

  /** @param {string} body @param {number} limit_s */
  async #exchange(body, limit_s) {
    let text = null;
    let failure = null;
    try {
      text = await this.#door.post("exchange", body, limit_s);
    } catch (error) {
      failure = error;
    }
    this.#inFlight -= 1;
    if (this.#isOver || this.#isLeaving) return;
    this.#guarded(() => {
      if (failure === null) this.#arrived(decodeHubPacket(text));
      else this.#failed(failure);
    });
    this.#turn();
  }

  /** @param {import("./protocol.js").HubPacket} packet */
  #arrived(packet) {
    this.#failures = 0;
    this.#landedAt = this.#clock.now();
    // A hub that neither holds an exchange nor says when to come must not be hammered.
    const wasHeld = this.#landedAt - this.#leftAt > NEXT_S_BUSY * 1000 || packet.frames.length > 0;
    this.#next_s = min(max(packet.next_s, 0), MAX_NEXT_S);
    this.#session.receive(packet);
    if (this.#isProven()) this.#clock.clearTimeout(this.#proof);
    if (this.#next_s === 0 && !wasHeld) this.#landedAt += NEXT_S_BUSY * 500;
  }

  /** @param {Error} error */
  #failed(error) {
    if (!(error instanceof Passing)) throw error;
    const now = this.#clock.now();
    if (this.#failures === 0) this.#failingSince = now;
    else if (now - this.#failingSince > this.#pace.patience_s * 1000) {
      this.#end(ended("lost", `polling broke (${error.message})`));
      return;
    }
    const ceiling = min(this.#pace.retry_longest_s, this.#pace.retry_first_s * 2 ** this.#failures);
    const jittered = (ceiling / 2) * (1 + random());
    this.#retryAt = now + max(error.retry_after_s, jittered) * 1000;
    this.#failures = min(this.#failures + 1, 20);
  }

  async #sayGoodbye() {
    const session = this.#session;
    const reason = session.leaving;
    this.#isLeaving = true;
    this.#door.ground();
    const bye = encode({ ...this.#ids, reason });
    try {
      await this.#sayTheRest();
      await this.#door.post("bye", bye, this.#pace.bye_s);
    } catch (error) {
      // The hub will miss us in its own time.
      if (![Refused, Passing, ProtocolError].some((kind) => error instanceof kind)) throw error;
    } finally {
      this.#end(ended("left", reason));
    }
  }

  async #sayTheRest() {
    if (this.#session.unacked === 0) return;
    const body = this.#session.packet({ extra: this.#extra, everything: true });
    try {
      const text = await this.#door.post("exchange", body, this.#pace.bye_s / 2);
      this.#session.receive(decodeHubPacket(text));
    } catch (error) {
      // The hub may be holding the exchange; it has read it all the same.
      if (!(error instanceof Passing)) throw error;
    }
  }

  /** Do it; a refusal ends the link, and a breach of the protocol the session too. @param {() => void} act */
  #guarded(act) {
    try {
      act();
    } catch (error) {
      if (error instanceof Refused) {
        this.#end(error.end);
      } else if (error instanceof ProtocolError) {
        this.#session.forget(`protocol error: ${error.message}`);
        this.#end(ended("closed", error.message, { code: error.code }));
      } else throw error;
    }
  }

  /** @param {Ended} end */
  #end(end) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#proof);
    this.#door.ground();
    this.#session.disconnected(this.wake);
    this.over({ ...end, welcomed: true });
  }
}

// --- the link ---------------------------------------------------------------------------------------------

/** Carries a session over `POST /worker/hello`, `/worker/exchange` and `/worker/bye`. */
export class PollLink {
  /** @type {"poll"} */
  transport = "poll";
  #parts;
  /** @type {Door | null} */
  #door = null;
  /** @type {Exchanges | null} */
  #exchanges = null;

  /**
   * @param {object} options
   * @param {import("./credentials.js").Credentials} options.credentials
   * @param {Request} options.request
   * @param {Clock} options.clock
   * @param {PollPace} [options.pace]
   */
  constructor({ credentials, request, clock, pace = POLL_PACE }) {
    this.#parts = { __proto__: null, credentials, request, clock, pace };
  }

  /**
   * Say hello, then exchange packets until the connection ends.
   * @param {Session} session
   * @param {() => void} [welcomed] called at the welcome
   * @returns {Promise<Ended>}
   */
  async carry(session, welcomed = () => {}) {
    const { credentials, pace } = this.#parts;
    const door = new Door(credentials.hub(), this.#parts);
    this.#door = door;
    let exchanges;
    try {
      // The token in the header alone counts here.
      const text = await door.post("hello", encode(hello(session.introduction())), pace.hello_s);
      if (this.#door !== door) return GIVEN_UP;
      const welcome = decodeWelcome(text);
      exchanges = new Exchanges(door, session, welcome, this.#parts);
      session.welcomed(welcome, exchanges.wake);
    } catch (error) {
      return this.#door === door ? notWelcomed(error, session) : GIVEN_UP;
    }
    welcomed();
    return this.#run(exchanges);
  }

  /** @param {Exchanges} exchanges @returns {Promise<Ended>} */
  #run(exchanges) {
    this.#exchanges = exchanges;
    return new LocalPromise((resolve) => {
      exchanges.over = (end) => {
        if (this.#exchanges === exchanges) this.#exchanges = null;
        resolve(end);
      };
      exchanges.wake();
    });
  }

  /** The connection must prove itself within a few seconds, or it is lost. */
  check() {
    this.#exchanges?.check();
  }

  /** End it without a goodbye. @param {string} reason */
  drop(reason) {
    const door = this.#door;
    this.#door = null;
    this.#exchanges?.drop(reason);
    door?.ground();
  }
}

/** @param {Error} error @param {Session} session @returns {Ended} */
function notWelcomed(error, session) {
  if (error instanceof Refused) return error.end;
  if (error instanceof Passing) {
    const { message, retry_after_s } = error;
    return ended("unreachable", `the hub cannot be reached by polling (${message})`, { retry_after_s });
  }
  if (!(error instanceof ProtocolError)) throw error;
  session.forget(`protocol error: ${error.message}`);
  return ended("closed", error.message, { code: error.code });
}

/**
 * The WebSocket link: one socket carries one session's packets.
 *
 * What Chromium does on a page is not what a specification says: a socket that the page's policy forbids is
 * closed at once and never fires `close`, and one that an https page may not open throws. So `Wire` has one
 * outcome for throw, error, close and timeout, with a reason.
 *
 * In a hidden tab only timers that are set in a message's handler are on time: every watchdog is, and there
 * is neither an interval nor a chain of timers.
 *
 * @typedef {import("./link.js").Ended} Ended
 * @typedef {import("./session.js").Session} Session
 * @typedef {import("./clock.js").Clock} Clock
 * @typedef {object} SocketPace seconds that a socket may take
 * @property {number} open_s to open
 * @property {number} welcome_s to be welcomed
 * @property {number} silence_margin_s beyond twice the hub's heartbeat, silence means that the link is dead
 * @property {number} proof_s to prove that it lives, when asked
 */

import { ended } from "./link.js";
import { getter, method } from "./natives.js";
import { Close, ProtocolError, SUBPROTOCOL, decodeHubPacket, decodeWelcome } from "./protocol.js";

const { construct, getPrototypeOf } = Reflect;
const { freeze, hasOwn } = Object;
const { queueMicrotask } = globalThis;
const LocalPromise = Promise;

/** @type {SocketPace} */
export const SOCKET_PACE = freeze({ open_s: 10, welcome_s: 15, silence_margin_s: 5, proof_s: 5 });

/** Of `readyState`. */
const OPEN = 1;
const CLOSED = 3;
/** Close codes that no hub sends: nothing was said, or the connection broke. */
const NO_CODE = 1005;
const BROKEN = 1006;
const unasked = () => true;

// --- one WebSocket ----------------------------------------------------------------------------------------

/** The prototype that has an accessor: a WebSocket may be somebody's subclass. */
const ownerOf = (prototype, name) =>
  hasOwn(prototype, name) ? prototype : ownerOf(getPrototypeOf(prototype), name);

/**
 * The page's WebSocket by references taken now: the page can patch its prototypes later, and would otherwise
 * be handed the socket, and with the first `send` the token.
 * @param {Window} window
 */
function takeSockets({ WebSocket, MessageEvent, CloseEvent }) {
  return freeze({
    // The subprotocol is no array: the page may have patched how arrays are walked.
    create: (url) => construct(WebSocket, [url, SUBPROTOCOL]),
    send: method(WebSocket.prototype, "send"),
    close: method(WebSocket.prototype, "close"),
    on: method(WebSocket.prototype, "addEventListener"),
    readyState: getter(ownerOf(WebSocket.prototype, "readyState"), "readyState"),
    data: getter(MessageEvent.prototype, "data"),
    code: getter(CloseEvent.prototype, "code"),
    reason: getter(CloseEvent.prototype, "reason"),
  });
}

/** One WebSocket from its creation to its end; of all that may end it, the first counts. */
class Wire {
  #sockets;
  #socket = null;
  #isOver = false;
  /** Called once it is open. @type {() => void} */
  opened = () => {};
  /** Called with every message. @type {(data: any) => void} */
  heard = () => {};
  /** Called once, at the end; also for a socket that never opened. @type {(end: Ended) => void} */
  over = () => {};

  /** @param {ReturnType<typeof takeSockets>} sockets */
  constructor(sockets) {
    this.#sockets = sockets;
  }

  get isOver() {
    return this.#isOver;
  }

  /** Whether it is open as far as the browser knows. */
  get isOpen() {
    return !this.#isOver && this.#sockets.readyState(this.#socket) === OPEN;
  }

  /**
   * Begin to connect. The outcome is a call of `opened` or of `over`, which may come at once.
   * @param {string} url
   */
  open(url) {
    const sockets = this.#sockets;
    let socket;
    try {
      socket = sockets.create(url);
    } catch (error) {
      const isMixed = error?.name === "SecurityError";
      const reason = isMixed ? "an https page may not open a ws socket" : `${error?.message ?? error}`;
      this.#finish(ended(isMixed ? "mixed_content" : "refused", reason));
      return;
    }
    this.#socket = socket;
    if (sockets.readyState(socket) === CLOSED) {
      this.#finish(ended("csp", "the page's policy forbids sockets to the hub"));
      return;
    }
    sockets.on(socket, "open", () => this.#isOver || this.opened());
    sockets.on(socket, "message", (event) => this.#isOver || this.heard(sockets.data(event)));
    sockets.on(socket, "error", () => this.#finish(ended("refused", "the socket did not open")));
    sockets.on(socket, "close", (event) => this.#closed(sockets.code(event), sockets.reason(event)));
  }

  /** @param {string} text */
  send(text) {
    this.#sockets.send(this.#socket, text);
  }

  /**
   * Let go of it. `over` is called if it was not before; nothing is heard afterwards.
   * @param {Ended} end
   * @param {number} [code] for the hub: 4000 to 4999
   */
  hangUp(end, code) {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#socket !== null) {
      if (code === undefined) this.#sockets.close(this.#socket);
      else this.#sockets.close(this.#socket, code);
    }
    this.over(end);
  }

  #closed(code, reason) {
    if (code === NO_CODE || code === BROKEN) {
      this.#finish(ended("refused", "the connection broke"));
    } else {
      this.#finish(ended("closed", reason || `closed with ${code}`, { code }));
    }
  }

  /** @param {Ended} end */
  #finish(end) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.over(end);
  }
}

// --- one connection ---------------------------------------------------------------------------------------

/** A session on an open wire, from the hello to the end. */
class Connection {
  #wire;
  #session;
  #clock;
  #pace;
  #onWelcome;
  #isWelcomed = false;
  #isOver = false;
  #willFlush = false;
  /** Timers: until it is dead, until the hub must have an ack, until it must have proved itself. */
  #deadline;
  #ack;
  #proof;
  #isProven = unasked;

  /** @type {(end: Ended) => void} */
  over = () => {};

  /**
   * @param {Wire} wire an open one
   * @param {Session} session
   * @param {{clock: Clock, pace: SocketPace, welcomed: () => void}} more
   */
  constructor(wire, session, { clock, pace, welcomed }) {
    this.#wire = wire;
    this.#session = session;
    this.#clock = clock;
    this.#pace = pace;
    this.#onWelcome = welcomed;
  }

  /** @param {string} hello the hello's text, which nobody keeps; "" if the hub is another one by now */
  begin(hello) {
    this.#wire.over = (end) => this.#wireEnded(end);
    this.#wire.heard = (data) => this.#hear(data);
    if (hello === "") {
      this.drop("the hub's address has changed");
      return;
    }
    this.#watch("timeout", "the hub did not say welcome", this.#pace.welcome_s);
    this.#wire.send(hello);
  }

  /** It must prove itself soon: the hub acknowledges whatever it hears within a second. */
  check() {
    if (this.#isOver || !this.#isWelcomed || !this.#isProven()) return;
    if (!this.#wire.isOpen) {
      this.#end("lost", "the connection broke");
      return;
    }
    this.#isProven = this.#session.knock();
    this.#proof = this.#clock.setTimeout(
      () => this.#end("lost", "the link did not prove that it lives"),
      this.#pace.proof_s * 1000,
    );
  }

  /** @param {string} reason */
  drop(reason) {
    this.#end("dropped", reason);
  }

  #hear(data) {
    this.#guarded(() => {
      if (this.#isWelcomed) this.#session.receive(decodeHubPacket(data));
      else this.#welcome(data);
      if (this.#isProven()) this.#clock.clearTimeout(this.#proof);
      const silence_s = 2 * this.#session.heartbeatS + this.#pace.silence_margin_s;
      this.#watch("lost", "the hub fell silent", silence_s);
      this.#flush();
    });
  }

  #welcome(data) {
    this.#session.welcomed(decodeWelcome(data), this.#wake);
    this.#isWelcomed = true;
    this.#onWelcome();
  }

  /** What is said in one go leaves in one packet. */
  #wake = () => {
    if (this.#willFlush) return;
    this.#willFlush = true;
    queueMicrotask(() => this.#guarded(() => this.#flush()));
  };

  /** Say what there is to say; a timer sees to an ack that may still wait. */
  #flush() {
    this.#willFlush = false;
    const session = this.#session;
    while (!this.#isOver && (session.over || session.hasUnsent || session.ackDueIn() === 0)) {
      this.#wire.send(session.packet());
    }
    this.#clock.clearTimeout(this.#ack);
    if (this.#isOver) return;
    if (session.leaving !== null) {
      this.#sayGoodbye();
      return;
    }
    const due_s = session.ackDueIn();
    if (due_s !== null) {
      this.#ack = this.#clock.setTimeout(() => this.#guarded(() => this.#flushAck()), due_s * 1000);
    }
  }

  /** Timers may be a little early; an ack is never. */
  #flushAck() {
    if (this.#session.ackDueIn() !== null) this.#wire.send(this.#session.packet());
    this.#flush();
  }

  #sayGoodbye() {
    const session = this.#session;
    session.sayBye();
    while (session.hasUnsent) this.#wire.send(session.packet());
    this.#end("left", session.leaving);
  }

  /** @param {"lost" | "timeout"} cause @param {string} reason @param {number} seconds */
  #watch(cause, reason, seconds) {
    this.#clock.clearTimeout(this.#deadline);
    this.#deadline = this.#clock.setTimeout(() => this.#end(cause, reason), seconds * 1000);
  }

  /** Do it; a breach of the protocol, theirs or ours, ends the session. @param {() => void} act */
  #guarded(act) {
    if (this.#isOver) return;
    try {
      act();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#session.forget(`protocol error: ${error.message}`);
      this.#end("closed", error.message, error.code);
    }
  }

  #end(cause, reason, code) {
    const worthSaying = code >= 4000 ? code : undefined;
    this.#wire.hangUp(ended(cause, reason, { code }), worthSaying);
  }

  /** @param {Ended} end */
  #wireEnded(end) {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const timer of [this.#deadline, this.#ack, this.#proof]) this.#clock.clearTimeout(timer);
    this.#session.disconnected(this.#wake);
    const cause = end.cause === "refused" ? "lost" : end.cause;
    const reason = end.cause === "refused" ? "the connection broke" : end.reason;
    this.over({ ...end, cause, reason, welcomed: this.#isWelcomed });
  }
}

// --- the link ---------------------------------------------------------------------------------------------

/** Carries a session over `GET /worker/socket`. */
export class SocketLink {
  /** @type {"socket"} */
  transport = "socket";
  #sockets;
  #credentials;
  #clock;
  #pace;
  /** A wire that is opening, or waits for `carry`. @type {Wire | null} */
  #wire = null;
  #hub = null;
  /** @type {Connection | null} */
  #connection = null;

  /**
   * @param {object} options
   * @param {Window} options.window the page's own (`unsafeWindow`)
   * @param {import("./credentials.js").Credentials} options.credentials
   * @param {Clock} options.clock
   * @param {SocketPace} [options.pace]
   */
  constructor({ window, credentials, clock, pace = SOCKET_PACE }) {
    this.#sockets = takeSockets(window);
    this.#credentials = credentials;
    this.#clock = clock;
    this.#pace = pace;
  }

  /** Whether a socket is open for the next `carry`. */
  get isOpen() {
    return this.#wire !== null && this.#wire.isOpen;
  }

  /**
   * Open a socket for the next `carry`, without a hello yet: the hub waits 10 s for one.
   * @param {number} [limit_s] how long it may take: longer, where the browser asks a person first
   * @returns {Promise<Ended | null>} null: it is open
   */
  open(limit_s = this.#pace.open_s) {
    this.#letGo("another socket is opened");
    return new LocalPromise((resolve) => {
      const hub = this.#credentials.hub();
      const wire = new Wire(this.#sockets);
      this.#wire = wire;
      this.#hub = hub;
      const late = this.#clock.setTimeout(
        () => wire.hangUp(ended("timeout", "the socket did not open in time")),
        limit_s * 1000,
      );
      wire.opened = () => {
        this.#clock.clearTimeout(late);
        resolve(null);
      };
      wire.over = (end) => {
        this.#clock.clearTimeout(late);
        if (this.#wire === wire) this.#wire = null;
        resolve(end);
      };
      wire.open(`${hub.ws}/worker/socket`);
    });
  }

  /**
   * Say hello, then carry packets until the socket ends.
   * @param {Session} session
   * @param {() => void} [welcomed] called at the welcome
   * @returns {Promise<Ended>}
   */
  async carry(session, welcomed = () => {}) {
    const failure = this.isOpen ? null : await this.open();
    const wire = this.#wire;
    if (failure !== null || wire === null) return failure ?? ended("lost", "the connection broke");
    this.#wire = null;
    return this.#converse(wire, session, welcomed);
  }

  /** @param {Wire} wire @param {Session} session @param {() => void} welcomed @returns {Promise<Ended>} */
  #converse(wire, session, welcomed) {
    const more = { clock: this.#clock, pace: this.#pace, welcomed };
    const connection = new Connection(wire, session, more);
    this.#connection = connection;
    return new LocalPromise((resolve) => {
      connection.over = (end) => {
        if (this.#connection === connection) this.#connection = null;
        resolve(end);
      };
      connection.begin(this.#credentials.helloText(session.introduction(), this.#hub));
    });
  }

  /** The connection must prove itself within a few seconds, or it is lost. */
  check() {
    this.#connection?.check();
  }

  /** End it without a goodbye. @param {string} reason */
  drop(reason) {
    this.#letGo(reason);
    this.#connection?.drop(reason);
  }

  /** @param {string} reason */
  #letGo(reason) {
    this.#wire?.hangUp(ended("dropped", reason));
    this.#wire = null;
  }
}

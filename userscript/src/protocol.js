/**
 * The worker protocol, version 1: packets, frames and the numbering that lets a session outlive its links.
 *
 * The twin of the hub's `protocol.py`, kept alike by `tests/frames/*.jsonl`. Nothing here touches a socket, a
 * clock or the page. Globals are taken once, at the top, because the page shares our realm and may replace them.
 *
 * @typedef {"ready" | "cooling" | "attention" | "draining"} State
 * @typedef {{t: string, [member: string]: any}} Frame
 * @typedef {{n: number, ack: number, frames: Frame[], next_s: number}} HubPacket
 * @typedef {{id: string, modalities?: {in?: string[], out?: string[]}, kinds?: string[], features?: string[],
 *   context?: number, organization?: string}} Model
 * @typedef {{token?: string, worker: string, name: string, kind: "userscript" | "agent" | "hub", version: string,
 *   slots: number, region?: string, models: Model[], state?: State,
 *   resume?: {session: string, received: number}}} Introduction
 * @typedef {{session: string, connection: string, resumed: boolean, received: number, heartbeat_s: number,
 *   grace_s: number, max_bytes: number, exchange: {wait_s: number, next_s: number}, profile?: object}} Welcome
 * @typedef {(value: any) => boolean} Check
 */

const { parse, stringify } = JSON;
const { entries, freeze, fromEntries, hasOwn } = Object;
const { isArray } = Array;
const { isFinite, isInteger } = Number;
const { max } = Math;
const utf8 = new TextEncoder();
const encodeUtf8 = utf8.encode.bind(utf8);

export const VERSION = 1;
export const SUBPROTOCOL = "lmarena-bridge.1";

export const MAX_UNACKED_FRAMES = 10_000;
export const MAX_UNACKED_BYTES = 8 * 1024 * 1024;
export const ACK_EVERY_FRAMES = 1_000;
export const ACK_EVERY_S = 1;
export const MAX_MODELS = 5_000;
/** How long a worker stays away after 4004, so that a bug neither hammers the hub nor retires the worker. */
export const PROTOCOL_ERROR_PAUSE_S = 60;
/** A polling worker with a job in hand comes back after this many seconds even without frames to send. */
export const NEXT_S_BUSY = 0.1;
export const RATE_LIMITED_DEFAULT_S = 60;

/** Why a link ends. The range says what to do: 4500-4999 stay away, everything else come back. */
export const Close = freeze({
  GOING_AWAY: 1001,
  TOO_BIG: 1009,
  RESTART: 1012,
  HEARTBEAT_LOST: 4001,
  TOO_SLOW: 4002,
  HELLO_TIMEOUT: 4003,
  PROTOCOL_ERROR: 4004,
  SESSION_GONE: 4005,
  BAD_HELLO: 4500,
  UNAUTHORIZED: 4501,
  UNSUPPORTED_PROTOCOL: 4502,
  REPLACED: 4503,
  REMOVED: 4505,
});

/**
 * Whether a worker closed with this code must not come back by itself.
 * @param {number} code
 */
export const isFinal = (code) => code >= 4500 && code <= 4999;

/** The peer broke the protocol; the session is over and the link closes with `code`. */
export class ProtocolError extends Error {
  /** @param {string} message @param {number} [code] */
  constructor(message, code = Close.PROTOCOL_ERROR) {
    super(message);
    this.name = "ProtocolError";
    this.code = code;
  }
}

/**
 * What a failure code does to the worker, whether it proves that nothing ran upstream, and what a caller reads
 * if it was the job's last chance.
 */
const failure = (worker, provesNotRun, error) => freeze({ worker, provesNotRun, error });

export const FAILURES = freeze({
  challenge: failure("attention", true, "no_worker_available"),
  login_required: failure("attention", true, "no_worker_available"),
  consent_required: failure("attention", true, "no_worker_available"),
  rate_limited: failure("cooling", true, "upstream_rate_limited"),
  moderated: failure("unchanged", false, "content_policy_violation"),
  model_not_found: failure("drop_model", true, "model_not_found"),
  context_length_exceeded: failure("unchanged", false, "context_length_exceeded"),
  attachment_too_large: failure("unchanged", false, "attachment_too_large"),
  unsupported: failure("unchanged", false, "unsupported"),
  site_changed: failure("breaker", false, "upstream_contract_changed"),
  upstream_error: failure("breaker", false, "upstream_error"),
  upstream_timeout: failure("breaker", false, "upstream_timeout"),
  internal: failure("breaker", false, "upstream_error"),
  cancelled: failure("unchanged", false, "upstream_error"),
});

// --- text -------------------------------------------------------------------------------------------------

const LONE_SURROGATE = /\p{Surrogate}/gu;
const MAY_HOLD_A_LONE_SURROGATE = /\\ud[89a-f]|\p{Surrogate}/iu;
const REPLACEMENT = "\ufffd";

/** @param {string} text */
const mended = (text) => text.replace(LONE_SURROGATE, REPLACEMENT);

/** @param {string} text */
const byteLength = (text) => encodeUtf8(text).length;

/** Counts as the hub counts: characters, not UTF-16 units. @param {string} text */
const characters = (text) => [...text].length;

/**
 * A frame, hello or welcome as JSON text; members that are undefined are left out.
 * @param {object} value
 * @returns {string}
 */
export const encode = (value) => stringify(value);

/** Holds back a trailing high surrogate until its other half comes, so that every piece of text is whole. */
export class WholeText {
  #held = "";

  /**
   * What can be sent of everything pushed so far; "" if that is nothing yet.
   * @param {string} text
   */
  push(text) {
    const all = this.#held + text;
    const last = all.charCodeAt(all.length - 1);
    const cut = last >= 0xd800 && last <= 0xdbff ? all.length - 1 : all.length;
    this.#held = all.slice(cut);
    return mended(all.slice(0, cut));
  }

  /** What is left at the end of the text: the half that never came whole, replaced. */
  flush() {
    const rest = mended(this.#held);
    this.#held = "";
    return rest;
  }
}

// --- what the hub says ------------------------------------------------------------------------------------

const MOST_SECONDS = 10 * 86_400;
const MOST_NUMBER = 2 ** 53;

/** @type {Check} */
const isText = (value) => typeof value === "string";
/** @type {Check} */
const isFlag = (value) => typeof value === "boolean";
/** @type {Check} */
const isObject = (value) => typeof value === "object" && value !== null && !isArray(value);
/** @type {Check} */
const isAnything = () => true;
/** @type {Check} */
const isIdentifier = (value) => isText(value) && value !== "" && characters(value) <= 128;
/** @type {Check} */
const isNumber = (value) => isInteger(value) && value >= 0 && value <= MOST_NUMBER;
/** @type {Check} */
const isSlots = (value) => isInteger(value) && value >= 0 && value <= 10_000;
/** @type {Check} */
const isSeconds = (value) => isFinite(value) && value >= 0 && value <= MOST_SECONDS;

/** @param {string[]} words @returns {Check} */
const isOneOf = (...words) => (value) => words.includes(value);
/** @param {Check} check @returns {Check} */
const maybe = (check) => (value) => value === undefined || value === null || check(value);

const HUB_FRAMES = {
  job: {
    job: isIdentifier,
    kind: isOneOf("chat", "image", "embedding"),
    model: isText,
    body: isAnything,
    deadline_s: isFinite,
  },
  cancel: { job: isIdentifier, reason: isText },
  ping: {},
  drain: {},
  profile: { profile: isObject },
  scale: { slots: isSlots },
};

const EXCHANGE = { wait_s: isSeconds, next_s: isSeconds };
const WELCOME = {
  session: isIdentifier,
  connection: isIdentifier,
  resumed: isFlag,
  received: isNumber,
  heartbeat_s: isSeconds,
  grace_s: isSeconds,
  max_bytes: isInteger,
  exchange: isObject,
  profile: maybe(isObject),
};

/**
 * The members that we know, each checked; others are ignored, and null stands for an absent optional.
 * @param {any} value
 * @param {Record<string, Check>} checks
 * @param {string} where
 */
function checked(value, checks, where) {
  if (!isObject(value)) throw new ProtocolError(`${where} is no object`);
  const known = {};
  for (const [name, check] of entries(checks)) {
    const member = hasOwn(value, name) ? value[name] : undefined;
    const optional = check(undefined) && check !== isAnything;
    if (member === undefined && !optional) throw new ProtocolError(`${where} lacks ${name}`);
    if (!check(member)) throw new ProtocolError(`${where}.${name} has a wrong value`);
    if (member !== undefined && !(optional && member === null)) known[name] = member;
  }
  return known;
}

/** @param {any} value @returns {any} */
function whole(value) {
  if (isText(value)) return mended(value);
  if (isArray(value)) return value.map(whole);
  if (!isObject(value)) return value;
  return fromEntries(entries(value).map(([name, member]) => [mended(name), whole(member)]));
}

/** @param {string} text */
function parsed(text) {
  if (!isText(text)) throw new ProtocolError("the message is not text");
  try {
    const value = parse(text);
    return MAY_HOLD_A_LONE_SURROGATE.test(text) ? whole(value) : value;
  } catch (error) {
    throw new ProtocolError(`not JSON: ${error.message}`);
  }
}

/** @param {any} value @param {number} index @returns {Frame} */
function hubFrame(value, index) {
  const where = `frames[${index}]`;
  const t = isObject(value) && hasOwn(value, "t") ? value.t : undefined;
  if (!isText(t) || !hasOwn(HUB_FRAMES, t)) throw new ProtocolError(`${where} is of no known kind`);
  return { t, ...checked(value, HUB_FRAMES[t], where) };
}

/**
 * Throws ProtocolError (4004) for anything but a packet of hub frames.
 * @param {string} text
 * @returns {HubPacket}
 */
export function decodeHubPacket(text) {
  const value = parsed(text);
  const { n, ack, frames } = checked(
    value,
    { n: isNumber, ack: isNumber, frames: isArray },
    "packet",
  );
  const next_s = hasOwn(value, "next_s") ? value.next_s : 0;
  if (!isFinite(next_s)) throw new ProtocolError("packet.next_s has a wrong value");
  return { n, ack, frames: frames.map(hubFrame), next_s };
}

/**
 * Throws ProtocolError (4004) for anything but a welcome.
 * @param {string} text
 * @returns {Welcome}
 */
export function decodeWelcome(text) {
  const message = checked(parsed(text), { welcome: isObject }, "message");
  const welcome = checked(message.welcome, WELCOME, "welcome");
  return { ...welcome, exchange: checked(welcome.exchange, EXCHANGE, "exchange") };
}

// --- what workers say -------------------------------------------------------------------------------------

/** The first thing that a worker sends. @param {Introduction} members */
export const hello = (members) => ({ hello: { protocol: VERSION, ...members } });

/**
 * Its state changed; `until` is seconds from now.
 * @param {State} state
 * @param {{reason?: string, until?: number, slots?: number}} [more]
 */
export const status = (state, { reason, until, slots } = {}) => ({
  t: "status",
  state,
  reason,
  until,
  slots,
});

/** @param {Model[]} catalogue */
export const models = (catalogue) => ({ t: "models", models: catalogue });

/** @param {string} job @param {string} reason */
export const refuse = (job, reason) => ({ t: "refuse", job, reason });

/** @param {string} job */
export const started = (job) => ({ t: "started", job });

/** @param {string} job */
export const waiting = (job) => ({ t: "waiting", job, for: "human" });

/** A piece of text; without any, a sign that the site is still alive. @param {string} job @param {string} [text] */
export const piece = (job, text) => ({ t: "piece", job, text });

/** @param {string} job @param {object} delta an OpenAI delta */
export const deltaPiece = (job, delta) => ({ t: "piece", job, delta });

/**
 * @param {string} job
 * @param {string} [finishReason] "stop" if absent
 * @param {{usage?: object, truncated?: boolean}} [more]
 */
export const end = (job, finishReason, { usage, truncated } = {}) => ({
  t: "end",
  job,
  finish_reason: finishReason,
  usage,
  truncated,
});

/**
 * `ran` false proves that the upstream never saw the request.
 * @param {string} job
 * @param {keyof typeof FAILURES} code
 * @param {string} [message]
 * @param {{retryAfterS?: number, ran?: boolean}} [more]
 */
export const fail = (job, code, message, { retryAfterS, ran } = {}) => ({
  t: "fail",
  job,
  code,
  message,
  retry_after_s: retryAfterS,
  ran,
});

/**
 * Something that the operator should know of, although the answer came.
 * @param {"site_changed"} code
 * @param {string} [message] what was seen
 */
export const notice = (code, message) => ({ t: "notice", code, message });

export const pong = () => ({ t: "pong" });

/** @param {string} [reason] */
export const bye = (reason) => ({ t: "bye", reason });

// --- numbering --------------------------------------------------------------------------------------------

/**
 * One session's numbering in both directions, seen from one end.
 *
 * Frames go in by `push` and leave as packets; a packet that arrives goes through `accept`, which gives back the
 * frames not seen before. `rewind` starts a new connection: everything unacknowledged is to be sent again.
 * Frames are numbered from 1 in each direction, for the session's whole life.
 */
export class Channel {
  /** Frames not acknowledged yet, the oldest first. @type {{frame: string, bytes: number, weight: number}[]} */
  #pending = [];
  /** How many of them this connection has sent. */
  #handedOver = 0;
  #ackSent = 0;
  #acked = 0;
  #sent = 0;
  #received = 0;
  #weight = 0;
  /** Frames that count against the bound: all but jobs. */
  #counted = 0;

  /** The highest of our frames that the peer has acknowledged. */
  get acked() {
    return this.#acked;
  }

  /** The highest of our frames that was ever handed to a link. */
  get sent() {
    return this.#sent;
  }

  /** The highest of the peer's frames that we have. */
  get received() {
    return this.#received;
  }

  /** Bytes of ours that are counted and not acknowledged. */
  get weight() {
    return this.#weight;
  }

  /** How many of our frames the peer has not acknowledged. */
  get unacked() {
    return this.#pending.length;
  }

  /** Whether the bound on unacknowledged frames is reached: 10,000 frames or 8 MiB. */
  get isFull() {
    return this.#counted >= MAX_UNACKED_FRAMES || this.#weight >= MAX_UNACKED_BYTES;
  }

  get hasUnsent() {
    return this.#handedOver < this.#pending.length;
  }

  /** How many received frames the peer has not been told of. */
  get ackOwed() {
    return this.#received - this.#ackSent;
  }

  /**
   * Queue one encoded frame. Throws ProtocolError (4002) when the peer is too far behind.
   * @param {string} frame
   * @param {{exempt?: boolean}} [options] `exempt`: it counts for nothing, its size is bounded elsewhere
   */
  push(frame, { exempt = false } = {}) {
    if (!exempt && this.isFull) {
      throw new ProtocolError("too much is unacknowledged", Close.TOO_SLOW);
    }
    const bytes = byteLength(frame);
    const weight = exempt ? 0 : bytes;
    this.#pending.push({ frame, bytes, weight });
    this.#weight += weight;
    if (!exempt) this.#counted += 1;
  }

  /**
   * The next packet: unsent frames up to `maxBytes` (always at least one), and the ack.
   * @param {number} maxBytes
   * @param {string} [extra] JSON members to put in front, each followed by a comma
   */
  packet(maxBytes, extra = "") {
    const start = this.#handedOver;
    let room = maxBytes - 100 - byteLength(extra);
    while (this.hasUnsent) {
      const needed = this.#pending[this.#handedOver].bytes + 1;
      if (this.#handedOver > start && needed > room) break;
      room -= needed;
      this.#handedOver += 1;
    }
    const frames = this.#pending.slice(start, this.#handedOver).map(({ frame }) => frame);
    this.#sent = max(this.#sent, this.#acked + this.#handedOver);
    this.#ackSent = this.#received;
    const n = this.#acked + start + 1;
    return `{${extra}"n":${n},"ack":${this.#received},"frames":[${frames.join(",")}]}`;
  }

  /** A new connection begins: what is not acknowledged will be sent again, in order. */
  rewind() {
    this.#handedOver = 0;
  }

  /**
   * Whether a peer that has our frames up to `received` can go on with this session.
   * @param {number} received
   */
  canResume(received) {
    return this.#acked <= received && received <= this.#sent;
  }

  /**
   * The peer has our frames up to `ack`. Throws ProtocolError for a frame that was never sent.
   * @param {number} ack
   */
  acknowledge(ack) {
    if (ack > this.#sent) {
      throw new ProtocolError(`ack ${ack}, but only ${this.#sent} frames were sent`);
    }
    const gone = this.#pending.splice(0, max(0, ack - this.#acked));
    this.#handedOver = max(0, this.#handedOver - gone.length);
    this.#acked += gone.length;
    for (const { weight } of gone) {
      this.#weight -= weight;
      if (weight > 0) this.#counted -= 1;
    }
  }

  /**
   * Take a packet; the frames that are new, in order. Throws ProtocolError for a gap.
   * @template T
   * @param {{n: number, ack: number, frames: T[]}} packet
   * @returns {T[]}
   */
  accept({ n, ack, frames }) {
    this.acknowledge(ack);
    if (frames.length === 0) return [];
    const seen = this.#received + 1 - n;
    if (seen < 0 || n === 0) {
      throw new ProtocolError(`frame ${n} after frame ${this.#received}`);
    }
    this.#received = max(this.#received, n + frames.length - 1);
    return frames.slice(seen);
  }
}

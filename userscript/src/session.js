/**
 * A worker's life in frames. No sockets: links ask it what to say and tell it what was said. No page either:
 * jobs go out by `take` and `cancel`, and what the page has to say comes in by `say`.
 *
 * The twin of the agent's `session.py`. One thing differs: a page cannot be slowed down, so pieces are taken
 * into memory up to the protocol's bound; beyond it the session is over, and the next hello begins another.
 *
 * @typedef {import("./protocol.js").State} State
 * @typedef {import("./protocol.js").Model} Model
 * @typedef {import("./protocol.js").Frame} Frame
 * @typedef {import("./clock.js").Clock} Clock
 * @typedef {{worker: string, name: string, version: string, slots?: number, region?: string}} Card
 * @typedef {{job: string, kind: string, model: string, body: any, deadline_s: number}} Job
 */

import {
  ACK_EVERY_FRAMES,
  ACK_EVERY_S,
  Channel,
  FAILURES,
  MAX_MODELS,
  ProtocolError,
  WholeText,
  bye,
  deltaPiece,
  encode,
  end,
  fail,
  models as modelsFrame,
  notice,
  piece,
  pong,
  refuse,
  started,
  status,
  waiting,
} from "./protocol.js";

const { freeze, hasOwn } = Object;
const { isArray } = Array;
const { isFinite, isSafeInteger } = Number;
const { abs, floor, max, min } = Math;
const utf8 = new TextEncoder();
const encodeUtf8 = utf8.encode.bind(utf8);

const DEFAULT_MAX_BYTES = 1024 * 1024;
const DEFAULT_HEARTBEAT_S = 20;
const MAX_PIECE = 16_384;
const MAX_LABEL = 200;
const MAX_SENTENCE = 4_000;
const MAX_PAUSE_S = 10 * 86_400;
/** What is left of a packet for everything around one frame. */
const PACKET_ROOM = 200;
const UNPRINTABLE = /[\p{C}\p{Z}]/u;
const unheard = () => {};
const READY = freeze({ state: "ready", reason: undefined, untilMs: undefined });

/** @param {any} value */
const isText = (value) => typeof value === "string";
/** @param {any} value */
const isObject = (value) => typeof value === "object" && value !== null && !isArray(value);

/** At most so many characters, each of them whole. @param {any} value @param {number} most */
function clipped(value, most) {
  const text = new WholeText();
  return text.push(`${value ?? ""}`.slice(0, most)) + text.flush();
}

/** Seconds as the hub takes them. @param {any} value */
const pause = (value) => (isFinite(value) ? min(max(value, 0), MAX_PAUSE_S) : undefined);

/** Whether the hub would learn nothing: a second more or less of a pause is no news. */
const isSame = (one, other) =>
  one.state === other.state &&
  one.reason === other.reason &&
  (one.untilMs === other.untilMs || abs(one.untilMs - other.untilMs) < 1000);

// --- models -----------------------------------------------------------------------------------------------

/** @param {any} value */
const labels = (value) =>
  isArray(value) ? value.filter(isText).map((label) => clipped(label, MAX_LABEL)) : undefined;

/** Whether the hub takes this id: one that it does not take would close the link. @param {any} id */
const isModelId = (id) =>
  isText(id) && id !== "" && id.length <= MAX_LABEL && !UNPRINTABLE.test(id.replaceAll(" ", ""));

/** The members that the hub knows, in types that it takes. @param {any} model @returns {Model} */
function offered({ id, modalities, kinds, features, context, organization }) {
  return {
    id,
    modalities: isObject(modalities)
      ? { in: labels(modalities.in), out: labels(modalities.out) }
      : undefined,
    kinds: labels(kinds),
    features: labels(features),
    context: isSafeInteger(context) ? context : undefined,
    organization: isText(organization) ? clipped(organization, MAX_LABEL) : undefined,
  };
}

// --- a job in hand ----------------------------------------------------------------------------------------

/** One job's answer on its way into frames: whole text, in pieces that fit a packet. */
class Answer {
  #job;
  #size;
  #text = new WholeText();
  /** Whether its request may have left. */
  isStarted = false;

  /** @param {Job} job @param {number} maxBytes */
  constructor({ job, model }, maxBytes) {
    this.#job = job;
    this.model = model;
    // A character is at most six bytes of JSON: a piece stays far below the packet's bound.
    this.#size = max(1, min(MAX_PIECE, floor(maxBytes / 16)));
  }

  /** Frames for some text. @param {string} text @returns {Frame[]} */
  text(text) {
    return this.#cut(this.#text.push(text));
  }

  /** Frames for what was held back: half a character whose other half never came. @returns {Frame[]} */
  rest() {
    return this.#cut(this.#text.flush());
  }

  /** @param {string} text @returns {Frame[]} */
  #cut(text) {
    const frames = [];
    for (let at = 0, to; at < text.length; at = to) {
      to = at + this.#size;
      const last = text.charCodeAt(to - 1);
      if (last >= 0xd800 && last <= 0xdbff) to += 1;
      frames.push(piece(this.#job, text.slice(at, to)));
    }
    return frames;
  }
}

// --- the session ------------------------------------------------------------------------------------------

/**
 * One worker at one hub: the numbering, the jobs in hand, what is on offer and how the worker feels.
 *
 * It outlives links: `introduction` and `welcomed` begin a connection, `disconnected` ends it, and what is
 * said in between waits in the channel.
 */
export class Session {
  #card;
  #take;
  #cancel;
  #clock;
  #onChange;
  #onProfile;
  /** @type {Map<string, Answer>} */
  #jobs = new Map();
  /** @type {Model[]} */
  #models = [];
  #modelsText = "[]";
  #own = READY;
  #hubDrains = false;
  /** Why we take no more jobs, for good. @type {string | null} */
  #drained = null;
  /** What the last hello said. */
  #introduced = { status: READY, modelsText: "[]" };
  #channel = new Channel();
  /** @type {string | null} */
  #id = null;
  #maxBytes = DEFAULT_MAX_BYTES;
  /** @type {ProtocolError | null} */
  #over = null;
  /** @type {number | null} */
  #ackDueAt = null;
  #told = READY;
  #toldModels = "[]";
  /** Tells the link that there may be something to say. */
  #wake = unheard;

  /** How this tab's jobs ended. */
  tally = { done: 0, failed: 0, cancelled: 0, refused: 0 };
  connected = false;
  /** Seconds of silence after which the hub pings. */
  heartbeatS = DEFAULT_HEARTBEAT_S;
  /** Why we say goodbye; a link that sees it says the rest, then bye. @type {string | null} */
  leaving = null;

  /**
   * @param {object} options none of the functions may throw, but for `take`: then the job fails
   * @param {Card} options.card what the worker says of itself in every hello
   * @param {(job: Job) => void} options.take a job to do; it is in hand until `say` or `refuse` ends it, or
   *   `cancel` is called
   * @param {(job: string, reason: string) => void} options.cancel stop it; nothing more is heard of it
   * @param {Clock} options.clock
   * @param {() => void} [options.onChange] something that a person may see has changed
   * @param {(profile: object) => void} [options.onProfile] the hub has a site profile for the page
   */
  constructor({ card, take, cancel, clock, onChange = () => {}, onProfile = () => {} }) {
    this.#card = {
      worker: card.worker,
      name: clipped(card.name, MAX_LABEL),
      kind: "userscript",
      version: clipped(card.version, MAX_LABEL),
      slots: card.slots ?? 1,
      region: card.region === undefined ? undefined : clipped(card.region, MAX_LABEL),
    };
    this.#take = take;
    this.#cancel = cancel;
    this.#clock = clock;
    this.#onChange = onChange;
    this.#onProfile = onProfile;
  }

  // --- what it is

  /** How many jobs are in hand. */
  get busy() {
    return this.#jobs.size;
  }

  /** What is on offer. */
  get models() {
    return this.#models;
  }

  /** @returns {State} */
  get state() {
    return this.#status().state;
  }

  /** Why it is in this state, if anybody said so. @returns {string | undefined} */
  get reason() {
    return this.#status().reason;
  }

  /** How many of our frames the hub has not acknowledged. */
  get unacked() {
    return this.#channel.unacked;
  }

  get hasUnsent() {
    return this.#channel.hasUnsent;
  }

  /** Why this session cannot go on: the hub fell too far behind. A link that sees it closes with its code. */
  get over() {
    return this.#over;
  }

  // --- connections

  /** What a hello says, but for the token. @returns {import("./protocol.js").Introduction} */
  introduction() {
    const { state } = this.#status();
    this.#told = { ...READY, state };
    this.#toldModels = this.#modelsText;
    this.#introduced = { status: this.#told, modelsText: this.#modelsText };
    const resume =
      this.#id === null ? undefined : { session: this.#id, received: this.#channel.received };
    return { ...this.#card, models: this.#models, state, resume };
  }

  /**
   * A connection begins, in the old session or in a new one. Throws ProtocolError.
   * @param {import("./protocol.js").Welcome} welcome
   * @param {() => void} wake the link's own, called when there may be something to say
   */
  welcomed(welcome, wake) {
    if (welcome.resumed) this.#resume(welcome);
    else this.#begin();
    this.#id = welcome.session;
    this.#maxBytes = welcome.max_bytes;
    this.heartbeatS = welcome.heartbeat_s;
    this.connected = true;
    this.#wake = wake;
    this.#announce();
    this.#changed();
    if (welcome.profile) this.#onProfile(welcome.profile);
  }

  #resume({ session, received }) {
    if (session !== this.#id) throw new ProtocolError("the hub resumed a session that is not ours");
    this.#channel.rewind();
    this.#channel.acknowledge(received);
  }

  /** What belonged to the old session is dropped; what the hello said, the hub knows. */
  #begin() {
    this.forget("the hub began a new session");
    this.#told = this.#introduced.status;
    this.#toldModels = this.#introduced.modelsText;
    this.#hubDrains = false;
  }

  /**
   * A connection is gone; jobs go on, and what they say waits for the next one.
   * @param {() => void} wake whose it was: a link that was replaced touches nothing
   */
  disconnected(wake) {
    if (wake !== this.#wake) return;
    this.#wake = unheard;
    this.connected = false;
    this.#changed();
  }

  /** The session is over: drop its frames and stop its jobs. @param {string} reason */
  forget(reason) {
    this.#channel = new Channel();
    this.#id = null;
    this.#maxBytes = DEFAULT_MAX_BYTES;
    this.#over = null;
    this.#ackDueAt = null;
    this.#told = READY;
    this.#toldModels = "[]";
    for (const job of [...this.#jobs.keys()]) this.#stop(job, reason);
    this.#changed();
  }

  // --- packets

  /**
   * The next packet. Throws ProtocolError when the session cannot go on.
   * @param {{extra?: string, everything?: boolean}} [options] `extra`: members in front, each with its comma;
   *   `everything`: repeat what is not acknowledged, as polling does
   */
  packet({ extra = "", everything = false } = {}) {
    if (this.#over) throw this.#over;
    if (everything) this.#channel.rewind();
    this.#ackDueAt = null;
    return this.#channel.packet(this.#maxBytes, extra);
  }

  /**
   * Take a packet from the hub. Throws ProtocolError.
   * @param {import("./protocol.js").HubPacket} packet
   */
  receive(packet) {
    if (this.#over) throw this.#over;
    for (const frame of this.#channel.accept(packet)) this.#heed(frame);
    if (this.#channel.ackOwed > 0) {
      this.#ackDueAt ??= this.#clock.now() + ACK_EVERY_S * 1000;
      this.#wake();
    }
  }

  /** Seconds until the hub must be told what we have; null if it knows. */
  ackDueIn() {
    if (this.#ackDueAt === null) return null;
    if (this.#channel.ackOwed >= ACK_EVERY_FRAMES) return 0;
    return max(0, this.#ackDueAt - this.#clock.now()) / 1000;
  }

  /**
   * Say something that means nothing, but that the hub must acknowledge within a second.
   * @returns {() => boolean} whether it has
   */
  knock() {
    this.#push(pong());
    const channel = this.#channel;
    const number = channel.acked + channel.unacked;
    return () => channel.acked >= number;
  }

  /** The frame that ends the session, for links that send frames alone. */
  sayBye() {
    this.#push(bye(this.leaving ?? ""));
  }

  /** @param {Frame} frame */
  #heed(frame) {
    if (frame.t === "job") this.#offer(frame);
    else if (frame.t === "cancel") this.#stop(frame.job, frame.reason);
    else if (frame.t === "ping") this.#push(pong());
    else if (frame.t === "drain") this.#heedDrain();
    else if (frame.t === "profile") this.#onProfile(frame.profile);
    // A number of tabs (scale) is for agents.
  }

  #heedDrain() {
    this.#hubDrains = true;
    this.#announce();
    this.#changed();
  }

  /** @param {Frame} frame */
  #push(frame) {
    if (this.#over) return;
    try {
      this.#channel.push(encode(frame));
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.forget("too much is unacknowledged");
      if (this.connected) this.#over = error;
    }
    this.#wake();
  }

  /** @param {Frame[]} frames */
  #pushAll(frames) {
    for (const frame of frames) this.#push(frame);
  }

  // --- jobs

  /** The hub offers a job. @param {any} frame */
  #offer({ job, kind, model, body, deadline_s }) {
    if (this.#jobs.has(job)) return;
    const objection = this.#objection(kind);
    if (objection !== null) {
      this.tally.refused += 1;
      this.#push(refuse(job, objection));
      return;
    }
    this.#jobs.set(job, new Answer({ job, model }, this.#maxBytes));
    this.#changed();
    try {
      this.#take({ job, kind, model, body, deadline_s });
    } catch (error) {
      const message = `the page could not take the job: ${error?.message ?? error}`;
      this.say({ t: "fail", job, code: "internal", message });
    }
  }

  /** @param {string} kind @returns {string | null} */
  #objection(kind) {
    const { state, reason } = this.#status();
    if (state === "draining" || state === "attention") {
      return clipped(reason ?? (state === "draining" ? state : "waiting for attention"), MAX_SENTENCE);
    }
    if (kind !== "chat") return `a tab does not do ${kind}`;
    if (this.busy >= this.#card.slots) return "no free slot";
    return null;
  }

  /** Stop a job that is in hand. @param {string} job @param {string} reason */
  #stop(job, reason) {
    if (!this.#release(job)) return;
    this.tally.cancelled += 1;
    this.#cancel(job, reason);
  }

  /** @param {string} job */
  #release(job) {
    const held = this.#jobs.delete(job);
    if (held) this.#changed();
    return held;
  }

  /**
   * A job in hand that will not be started: the hub gives it to another.
   * @param {string} job
   * @param {string} reason
   */
  refuse(job, reason) {
    if (!this.#release(job)) return;
    this.tally.refused += 1;
    this.#push(refuse(job, clipped(reason, MAX_SENTENCE)));
  }

  /**
   * What the page has to say: `models`, `notice`, and of a job in hand `waiting`, `started`, `piece`, `end`
   * and `fail`. Of any other job, and in other words, nothing is said to the hub.
   * @param {{t: string, [member: string]: any}} message
   */
  say(message) {
    if (message.t === "models") this.offer(message.models);
    else if (message.t === "notice") this.#notice(message);
    const answer = this.#jobs.get(message.job);
    if (answer === undefined) return;
    if (message.t === "waiting") this.#push(waiting(message.job));
    else if (message.t === "started") this.#start(message, answer);
    else if (message.t === "piece") this.#piece(message, answer);
    else if (message.t === "end") this.#end(message, answer);
    else if (message.t === "fail") this.#fail(message, answer);
  }

  #notice({ code, message }) {
    // The hub closes for a code that it does not know.
    if (code === "site_changed") this.#push(notice(code, clipped(message, MAX_SENTENCE)));
  }

  #start({ job }, answer) {
    answer.isStarted = true;
    this.#push(started(job));
  }

  #piece({ job, text, delta }, answer) {
    answer.isStarted = true;
    if (isText(text) && text !== "") this.#pushAll(answer.text(text));
    else if (isObject(delta)) this.#delta(job, delta, answer);
    else this.#push(piece(job));
  }

  #delta(job, delta, answer) {
    const frame = deltaPiece(job, delta);
    if (encodeUtf8(encode(frame)).length > this.#maxBytes - PACKET_ROOM) {
      const message = "one delta of the answer is too large to carry";
      this.#fail({ job, code: "upstream_error", message }, answer);
      this.#cancel(job, message);
      return;
    }
    this.#pushAll([...answer.rest(), frame]);
  }

  #end({ job, finish_reason, usage, truncated }, answer) {
    this.#release(job);
    this.tally.done += 1;
    const reason = isText(finish_reason) ? clipped(finish_reason, MAX_LABEL) : undefined;
    const more = {
      usage: isObject(usage) ? usage : undefined,
      truncated: truncated === true ? true : undefined,
    };
    this.#pushAll([...answer.rest(), end(job, reason, more)]);
  }

  #fail({ job, code, message, retry_after_s, ran }, answer) {
    this.#release(job);
    this.tally.failed += 1;
    const known = hasOwn(FAILURES, code) ? code : "internal";
    const more = {
      retryAfterS: pause(retry_after_s),
      ran: typeof ran === "boolean" ? ran : undefined,
    };
    this.#pushAll([...answer.rest(), fail(job, known, clipped(message, MAX_SENTENCE), more)]);
    this.#learn(known, message, answer.model);
  }

  /** The hub concludes the same from the failure. */
  #learn(code, message, model) {
    if (code === "model_not_found") this.offer(this.#models.filter(({ id }) => id !== model));
    if (FAILURES[code].worker === "attention") this.setState("attention", { reason: code });
  }

  // --- what it offers, and how it feels

  /** The catalogue, as it is now; the hub hears of a change. @param {Model[]} catalogue */
  offer(catalogue) {
    const models = catalogue.filter((model) => isModelId(model?.id)).slice(0, MAX_MODELS).map(offered);
    const text = encode(models);
    if (text === this.#modelsText) return;
    this.#models = models;
    this.#modelsText = text;
    this.#announce();
    this.#changed();
  }

  /**
   * How the tab feels. Jobs come while it is `ready`, and after `cooling`; a tab that its owner paused is
   * `draining` until it is `ready` again.
   * @param {State} state
   * @param {{reason?: string, until?: number}} [more] `until`: when cooling ends, in seconds from now
   */
  setState(state, { reason, until } = {}) {
    const seconds = pause(until);
    const own = {
      state,
      reason: reason === undefined ? undefined : clipped(reason, MAX_SENTENCE),
      untilMs: seconds === undefined ? undefined : this.#clock.now() + seconds * 1000,
    };
    if (isSame(own, this.#own)) return;
    this.#own = own;
    this.#announce();
    this.#changed();
  }

  /** Finish what is in hand, and take no more for good. @param {string} [reason] */
  drain(reason = "the tab is being retired") {
    this.#drained = reason;
    this.#announce();
    this.#changed();
  }

  /**
   * Say goodbye: what was not started goes to others, what was fails, and the link ends after the last word.
   * @param {string} reason
   */
  leave(reason) {
    for (const [job, { isStarted }] of [...this.#jobs]) {
      this.#stop(job, reason);
      this.#push(isStarted ? fail(job, "cancelled", "the tab is leaving") : refuse(job, "leaving"));
    }
    this.leaving = clipped(reason, MAX_SENTENCE);
    this.#wake();
    this.#changed();
  }

  /** After a goodbye: be there again. */
  stay() {
    this.leaving = null;
    this.#changed();
  }

  #status() {
    if (this.#drained !== null) return { ...READY, state: "draining", reason: this.#drained };
    if (this.#hubDrains) return { ...READY, state: "draining", reason: "the hub is shutting down" };
    const { state, untilMs } = this.#own;
    const isOver = state === "cooling" && untilMs !== undefined && untilMs <= this.#clock.now();
    return isOver ? READY : this.#own;
  }

  /** Tell the hub what it does not know; without a session the next hello says it. */
  #announce() {
    if (this.#id === null) return;
    if (this.#modelsText !== this.#toldModels) {
      this.#toldModels = this.#modelsText;
      this.#push(modelsFrame(this.#models));
    }
    const now = this.#status();
    if (isSame(now, this.#told)) return;
    this.#told = now;
    const { state, reason, untilMs } = now;
    const until = untilMs === undefined ? undefined : max(0, untilMs - this.#clock.now()) / 1000;
    this.#push(status(state, { reason, until }));
  }

  #changed() {
    this.#onChange();
  }
}

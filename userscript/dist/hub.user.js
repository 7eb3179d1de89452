// ==UserScript==
// @name         LMArena Bridge
// @namespace    lmarena-bridge
// @version      __VERSION__
// @description  Lets this tab answer the requests of your hub, through the page itself and under your eyes.
// @description:zh-CN  让这个标签页通过网页本身、在你的注视下回答你的中枢收到的请求。
// @icon         data:image/svg+xml,%3Csvg%20xmlns='http://www.w3.org/2000/svg'%20viewBox='0%200%2016%2016'%3E%3Cpath%20d='M1%2012V9a7%206%200%200%201%2014%200v3M1%2012h14M5%2012V5M11%2012V5'%20fill='none'%20stroke='%23d97706'%20stroke-width='1.6'%20stroke-linecap='round'/%3E%3C/svg%3E
// @license      MIT
// @match        __MATCH__
// @run-at       document-start
// @early-start
// @inject-into  page
// @noframes
// @grant        GM_xmlhttpRequest
// @grant        GM_getValue
// @grant        GM_setValue
// @grant        GM_addValueChangeListener
// @grant        GM_registerMenuCommand
// @grant        unsafeWindow
// @connect      __CONNECT__
// @connect      127.0.0.1
// @connect      localhost
// @connect      *
// @updateURL    __HUB__/userscript/hub.meta.js
// @downloadURL  __HUB__/userscript/hub.user.js
// ==/UserScript==

(() => {
"use strict";
const HUB_ADDRESS = "__HUB__";
const SCRIPT_VERSION = "__VERSION__";


// ../hub/rules/site_profile.json
var site_profile_default = {
  version: 0,
  hosts: ["arena.ai", "*.arena.ai", "lmarena.ai", "*.lmarena.ai"],
  new_chat: { path: "/text/direct", model_parameter: "model_a" },
  requests: [
    "/nextjs-api/stream/create-evaluation",
    "/nextjs-api/stream/post-to-evaluation/*"
  ],
  prompt_at: ["userMessage", "content"],
  catalogue: "initialModels",
  selectors: {
    composer: "textarea",
    send: 'button[type="submit"]',
    stop: 'button[aria-label="Stop"]',
    files: 'input[type="file"]',
    new_chat: 'a[href="/text/direct"]',
    picker: 'button[role="combobox"]',
    picker_filter: '[role="listbox"] input',
    option: '[role="option"]'
  },
  positions: ["a", "b"],
  lines: {
    "0": "text",
    g: "reasoning",
    "2": "data",
    "3": "error",
    c: "citation",
    f: "step",
    e: "step_end",
    d: "end"
  },
  signs: [
    { code: "challenge", title: "Just a moment..." },
    { code: "challenge", title: "Attention Required! | Cloudflare" },
    { code: "challenge", selector: '[role="dialog"]', text: "Security Verification" },
    { code: "login_required", selector: '[role="dialog"]', text: "Sign in" },
    { code: "consent_required", selector: '[role="dialog"]', text: "Terms of Use" }
  ],
  errors: [
    { code: "challenge", status: ["403"], text: ["recaptcha validation failed"], pause_s: 1200 },
    { code: "challenge", header: ["cf-mitigated", "challenge"], pause_s: 1200 },
    { code: "challenge", text: ["<title>Just a moment...</title>", "Attention Required! | Cloudflare"], pause_s: 1200 },
    { code: "login_required", status: ["401"] },
    { code: "moderated", status: ["400", "422", "429"], text: ["prompt failed", "reject", "violat", "terms", "blocked", "moderat"] },
    { code: "rate_limited", status: ["429"], pause_s: 1200 },
    { code: "site_changed", status: ["400"], text: ["mode is not allowed", "seems spoofed"] },
    { code: "site_changed", status: ["301", "302", "307", "308", "405"] },
    { code: "model_not_found", status: ["404"], text: ["Models not found"] },
    { code: "attachment_too_large", status: ["413"] },
    { code: "upstream_error", status: ["5xx"] }
  ],
  stream_errors: [
    { code: "moderated", text: ["moderat", "violat", "prompt failed"] },
    { code: "rate_limited", text: ["rate limit", "too many requests"], pause_s: 60 },
    { code: "context_length_exceeded", text: ["context length", "too long"] }
  ],
  limits: { prompt_characters: 113e3 },
  pace: { between_s: 10, longest_s: 600, daily: 300 }
};

// src/clock.js
var { apply } = Reflect;
var { now } = Date;
var { freeze } = Object;
function clockOf(window) {
  const { setTimeout: setTimeout2, clearTimeout: clearTimeout2 } = window;
  return freeze({
    now,
    setTimeout: (act2, ms) => apply(setTimeout2, window, [act2, ms]),
    clearTimeout: (timer) => apply(clearTimeout2, window, [timer])
  });
}

// src/natives.js
var { apply: apply2, getOwnPropertyDescriptor } = Reflect;
function method(prototype, name) {
  const native = prototype[name];
  return (self, ...given) => apply2(native, self, given);
}
function getter(prototype, name) {
  const { get } = getOwnPropertyDescriptor(prototype, name);
  return (self) => apply2(get, self, []);
}
function setter(prototype, name) {
  const { set } = getOwnPropertyDescriptor(prototype, name);
  return (self, value) => apply2(set, self, [value]);
}

// src/protocol.js
var { parse, stringify } = JSON;
var { entries, freeze: freeze2, fromEntries, hasOwn } = Object;
var { isArray } = Array;
var { isFinite, isInteger } = Number;
var { max } = Math;
var utf8 = new TextEncoder();
var encodeUtf8 = utf8.encode.bind(utf8);
var VERSION = 1;
var SUBPROTOCOL = "lmarena-bridge.1";
var MAX_UNACKED_FRAMES = 1e4;
var MAX_UNACKED_BYTES = 8 * 1024 * 1024;
var ACK_EVERY_FRAMES = 1e3;
var ACK_EVERY_S = 1;
var MAX_MODELS = 5e3;
var PROTOCOL_ERROR_PAUSE_S = 60;
var NEXT_S_BUSY = 0.1;
var Close = freeze2({
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
  REMOVED: 4505
});
var isFinal = (code) => code >= 4500 && code <= 4999;
var ProtocolError = class extends Error {
  /** @param {string} message @param {number} [code] */
  constructor(message, code = Close.PROTOCOL_ERROR) {
    super(message);
    this.name = "ProtocolError";
    this.code = code;
  }
};
var failure = (worker2, provesNotRun, error) => freeze2({ worker: worker2, provesNotRun, error });
var FAILURES = freeze2({
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
  cancelled: failure("unchanged", false, "upstream_error")
});
var LONE_SURROGATE = /\p{Surrogate}/gu;
var MAY_HOLD_A_LONE_SURROGATE = /\\ud[89a-f]|\p{Surrogate}/iu;
var REPLACEMENT = "�";
var mended = (text) => text.replace(LONE_SURROGATE, REPLACEMENT);
var byteLength = (text) => encodeUtf8(text).length;
var characters = (text) => [...text].length;
var encode = (value) => stringify(value);
var WholeText = class {
  #held = "";
  /**
   * What can be sent of everything pushed so far; "" if that is nothing yet.
   * @param {string} text
   */
  push(text) {
    const all = this.#held + text;
    const last = all.charCodeAt(all.length - 1);
    const cut = last >= 55296 && last <= 56319 ? all.length - 1 : all.length;
    this.#held = all.slice(cut);
    return mended(all.slice(0, cut));
  }
  /** What is left at the end of the text: the half that never came whole, replaced. */
  flush() {
    const rest = mended(this.#held);
    this.#held = "";
    return rest;
  }
};
var MOST_SECONDS = 10 * 86400;
var MOST_NUMBER = 2 ** 53;
var isText = (value) => typeof value === "string";
var isFlag = (value) => typeof value === "boolean";
var isObject = (value) => typeof value === "object" && value !== null && !isArray(value);
var isAnything = () => true;
var isIdentifier = (value) => isText(value) && value !== "" && characters(value) <= 128;
var isNumber = (value) => isInteger(value) && value >= 0 && value <= MOST_NUMBER;
var isSlots = (value) => isInteger(value) && value >= 0 && value <= 1e4;
var isSeconds = (value) => isFinite(value) && value >= 0 && value <= MOST_SECONDS;
var isOneOf = (...words2) => (value) => words2.includes(value);
var maybe = (check) => (value) => value === void 0 || value === null || check(value);
var HUB_FRAMES = {
  job: {
    job: isIdentifier,
    kind: isOneOf("chat", "image", "embedding"),
    model: isText,
    body: isAnything,
    deadline_s: isFinite
  },
  cancel: { job: isIdentifier, reason: isText },
  ping: {},
  drain: {},
  profile: { profile: isObject },
  scale: { slots: isSlots }
};
var EXCHANGE = { wait_s: isSeconds, next_s: isSeconds };
var WELCOME = {
  session: isIdentifier,
  connection: isIdentifier,
  resumed: isFlag,
  received: isNumber,
  heartbeat_s: isSeconds,
  grace_s: isSeconds,
  max_bytes: isInteger,
  exchange: isObject,
  profile: maybe(isObject)
};
function checked(value, checks, where) {
  if (!isObject(value)) throw new ProtocolError(`${where} is no object`);
  const known = {};
  for (const [name, check] of entries(checks)) {
    const member = hasOwn(value, name) ? value[name] : void 0;
    const optional = check(void 0) && check !== isAnything;
    if (member === void 0 && !optional) throw new ProtocolError(`${where} lacks ${name}`);
    if (!check(member)) throw new ProtocolError(`${where}.${name} has a wrong value`);
    if (member !== void 0 && !(optional && member === null)) known[name] = member;
  }
  return known;
}
function whole(value) {
  if (isText(value)) return mended(value);
  if (isArray(value)) return value.map(whole);
  if (!isObject(value)) return value;
  return fromEntries(entries(value).map(([name, member]) => [mended(name), whole(member)]));
}
function parsed(text) {
  if (!isText(text)) throw new ProtocolError("the message is not text");
  try {
    const value = parse(text);
    return MAY_HOLD_A_LONE_SURROGATE.test(text) ? whole(value) : value;
  } catch (error) {
    throw new ProtocolError(`not JSON: ${error.message}`);
  }
}
function hubFrame(value, index) {
  const where = `frames[${index}]`;
  const t = isObject(value) && hasOwn(value, "t") ? value.t : void 0;
  if (!isText(t) || !hasOwn(HUB_FRAMES, t)) throw new ProtocolError(`${where} is of no known kind`);
  return { t, ...checked(value, HUB_FRAMES[t], where) };
}
function decodeHubPacket(text) {
  const value = parsed(text);
  const { n, ack, frames } = checked(
    value,
    { n: isNumber, ack: isNumber, frames: isArray },
    "packet"
  );
  const next_s = hasOwn(value, "next_s") ? value.next_s : 0;
  if (!isFinite(next_s)) throw new ProtocolError("packet.next_s has a wrong value");
  return { n, ack, frames: frames.map(hubFrame), next_s };
}
function decodeWelcome(text) {
  const message = checked(parsed(text), { welcome: isObject }, "message");
  const welcome = checked(message.welcome, WELCOME, "welcome");
  return { ...welcome, exchange: checked(welcome.exchange, EXCHANGE, "exchange") };
}
var hello = (members) => ({ hello: { protocol: VERSION, ...members } });
var status = (state, { reason, until, slots } = {}) => ({
  t: "status",
  state,
  reason,
  until,
  slots
});
var models = (catalogue) => ({ t: "models", models: catalogue });
var refuse = (job, reason) => ({ t: "refuse", job, reason });
var started = (job) => ({ t: "started", job });
var waiting = (job) => ({ t: "waiting", job, for: "human" });
var piece = (job, text) => ({ t: "piece", job, text });
var deltaPiece = (job, delta) => ({ t: "piece", job, delta });
var end = (job, finishReason, { usage, truncated } = {}) => ({
  t: "end",
  job,
  finish_reason: finishReason,
  usage,
  truncated
});
var fail = (job, code, message, { retryAfterS, ran } = {}) => ({
  t: "fail",
  job,
  code,
  message,
  retry_after_s: retryAfterS,
  ran
});
var notice = (code, message) => ({ t: "notice", code, message });
var pong = () => ({ t: "pong" });
var bye = (reason) => ({ t: "bye", reason });
var Channel = class {
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
};

// src/credentials.js
var { apply: apply3, construct } = Reflect;
var { freeze: freeze3 } = Object;
var { stringify: stringify2 } = JSON;
var Address = URL;
var slice = method(String.prototype, "slice");
var trim = method(String.prototype, "trim");
var protocolOf = getter(Address.prototype, "protocol");
var hostOf = getter(Address.prototype, "host");
var hostnameOf = getter(Address.prototype, "hostname");
var pathOf = getter(Address.prototype, "pathname");
var usernameOf = getter(Address.prototype, "username");
var passwordOf = getter(Address.prototype, "password");
var searchOf = getter(Address.prototype, "search");
var hashOf = getter(Address.prototype, "hash");
var STORED = "hub";
var MAX_TOKEN = 200;
var HELLO_BEGINS = '{"hello":{';
var WORDS = freeze3({
  address: "The address of your hub, such as https://hub.example.org",
  token: "A worker token of that hub",
  wrongAddress: "That is no address of a hub: it begins with https:// or http:// and holds no secrets.",
  wrongToken: "That is no worker token: it is one word of letters, digits and signs."
});
var SECURE = freeze3({ __proto__: null, "https:": "s", "wss:": "s", "http:": "", "ws:": "" });
function parseHub(text) {
  let url;
  try {
    url = construct(Address, [trim(`${text}`)]);
  } catch {
    return null;
  }
  const s = SECURE[protocolOf(url)];
  const extras = usernameOf(url) + passwordOf(url) + searchOf(url) + hashOf(url);
  if (s === void 0 || hostOf(url) === "" || extras !== "") return null;
  let path = pathOf(url);
  while (path[path.length - 1] === "/") path = slice(path, 0, -1);
  const place = hostOf(url) + path;
  return freeze3({
    __proto__: null,
    http: `http${s}://${place}`,
    ws: `ws${s}://${place}`,
    isLoopback: isLoopback(hostnameOf(url))
  });
}
var isLoopback = (host) => host === "localhost" || host === "127.0.0.1" || host === "[::1]";
function isToken(text) {
  if (text.length === 0 || text.length > MAX_TOKEN) return false;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] <= " " || text[at] > "~") return false;
  }
  return true;
}
function openCredentials({
  window,
  GM_getValue: GM_getValue2,
  GM_setValue: GM_setValue2,
  GM_addValueChangeListener: GM_addValueChangeListener2,
  suggested = ""
}) {
  const { prompt } = window;
  let hub = null;
  let token = "";
  let quoted = '""';
  let stored2 = "";
  let changed = () => {
  };
  const read = (value) => {
    const text = typeof value === "string" ? value : "";
    if (text === stored2) return;
    stored2 = text;
    let gap = 0;
    while (gap < text.length && text[gap] !== " ") gap += 1;
    hub = parseHub(slice(text, 0, gap));
    const rest = slice(text, gap + 1);
    token = hub !== null && isToken(rest) ? rest : "";
    quoted = stringify2(token);
    changed();
  };
  const question = (question2, wrong, offered2, good) => {
    for (let words2 = question2; ; words2 = `${wrong}

${question2}`) {
      const answer = apply3(prompt, window, [words2, offered2]);
      if (typeof answer !== "string") return null;
      const found = good(trim(answer));
      if (found !== null) return found;
    }
  };
  read(GM_getValue2(STORED, ""));
  GM_addValueChangeListener2(STORED, (name, before, now5) => read(now5));
  return freeze3({
    __proto__: null,
    hub: () => hub,
    get hasToken() {
      return token !== "";
    },
    ask(words2 = WORDS) {
      const known = hub ?? parseHub(suggested);
      const place = question(words2.address, words2.wrongAddress, known?.http ?? "", parseHub);
      if (place === null) return false;
      const secret = question(words2.token, words2.wrongToken, "", (text) => isToken(text) ? text : null);
      if (secret === null) return false;
      const value = `${place.http} ${secret}`;
      GM_setValue2(STORED, value);
      read(value);
      return true;
    },
    listen(listener) {
      changed = listener;
    },
    helloText(introduction, to) {
      if (token === "" || to !== hub) return "";
      const rest = slice(encode(hello(introduction)), HELLO_BEGINS.length);
      return `${HELLO_BEGINS}"token":${quoted},${rest}`;
    },
    authorization: (to) => token === "" || to !== hub ? "" : `Bearer ${token}`
  });
}

// src/link.js
var { parse: parse2 } = JSON;
var { hasOwn: hasOwn2 } = Object;
var { isFinite: isFinite2, isInteger: isInteger2 } = Number;
var { min } = Math;
var CLOSE_BY_STATUS = {
  400: Close.PROTOCOL_ERROR,
  401: Close.UNAUTHORIZED,
  403: Close.REMOVED,
  409: Close.REPLACED,
  410: Close.SESSION_GONE,
  413: Close.TOO_BIG
};
var MAX_RETRY_AFTER_S = 600;
var MAX_REASON = 300;
var RETRY_AFTER = /^retry-after:[ \t]*(\d+(?:\.\d+)?)[ \t]*$/im;
var ended = (cause, reason, { code, welcomed = false, retry_after_s = 0 } = {}) => ({
  cause,
  reason,
  code,
  welcomed,
  retry_after_s
});
function retryAfter(headers) {
  const seconds = Number(RETRY_AFTER.exec(headers)?.[1] ?? 0);
  return isFinite2(seconds) ? min(seconds, MAX_RETRY_AFTER_S) : 0;
}
function closedByAnswer({ status: status2, text, headers }) {
  const { close, message } = complaint(text);
  const reason = message || `HTTP ${status2}`;
  if (close !== void 0) {
    return ended("closed", reason, { code: close, retry_after_s: retryAfter(headers) });
  }
  if (!hasOwn2(CLOSE_BY_STATUS, status2)) return null;
  return ended("closed", reason, { code: CLOSE_BY_STATUS[status2] });
}
function complaint(text) {
  try {
    const { close, message } = parse2(text).error;
    const said = typeof message === "string" ? message.slice(0, MAX_REASON) : "";
    return isInteger2(close) ? { close, message: said } : {};
  } catch {
    return {};
  }
}

// src/dial.js
var { entries: entries2, freeze: freeze4 } = Object;
var { max: max2, min: min2, random } = Math;
var LocalPromise = Promise;
var DIAL_PACE = freeze4({
  first_s: 0.25,
  longest_s: 30,
  held_s: 3,
  steady_s: 5,
  restart_s: 5,
  protocol_error_s: PROTOCOL_ERROR_PAUSE_S,
  forbidden_s: 86400,
  refused_s: 600,
  asked_s: 60,
  socket_failures: 2
});
var LOOPBACK_PERMISSION = "loopback-network";
var ENDS_SESSION = freeze4([Close.PROTOCOL_ERROR, Close.SESSION_GONE, Close.TOO_SLOW, Close.TOO_BIG]);
var FORBIDDEN = freeze4(["csp", "mixed_content"]);
var between = (from, to) => from + random() * (to - from);
function nameOf(code) {
  const found = entries2(Close).find(([, known]) => known === code);
  return found === void 0 ? `closed_${code}` : found[0].toLowerCase();
}
function forAWhile() {
  const values2 = /* @__PURE__ */ new Map();
  return { get: (name) => values2.get(name), set: (name, value) => values2.set(name, value) };
}
var Dial = class {
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
    socket: socket2,
    poll: poll2,
    credentials: credentials2,
    clock: clock3,
    permissions,
    memory = forAWhile(),
    pace = DIAL_PACE,
    onChange = () => {
    }
  }) {
    if (socket2 === null && poll2 === null) throw new TypeError("a dial needs a link");
    this.#session = session;
    this.#socket = socket2;
    this.#poll = poll2;
    this.#credentials = credentials2;
    this.#clock = clock3;
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
      reason: connected ? null : this.#last?.reason ?? null,
      ended: !this.#isWanted && code !== void 0 && isFinal(code) ? nameOf(code) : null,
      again_at: this.#againAt,
      canSpeedUp: this.#isPolling && this.#socket !== null && this.#credentials.hub()?.isLoopback === true
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
    const end2 = await this.#carry(hub);
    const { transport } = this.#link ?? {};
    this.#link = null;
    this.#last = end2;
    if (end2.cause === "left" || end2.code !== void 0 && isFinal(end2.code)) this.#retire(end2);
    else if (this.#isWanted) await this.#comeBack(end2, transport, this.#clock.now() - began);
  }
  /** @param {Ended} end */
  #retire({ cause, reason }) {
    this.#session.forget(reason);
    if (cause !== "left") this.#isWanted = false;
    this.#onChange();
  }
  /** @param {Ended} end @param {"socket" | "poll" | undefined} transport @param {number} lasted ms */
  async #comeBack(end2, transport, lasted) {
    if (ENDS_SESSION.includes(end2.code)) this.#session.forget(end2.reason);
    if (end2.welcomed && lasted >= this.#pace.steady_s * 1e3) this.#failures = 0;
    if (transport === "socket") this.#countSocketFailure(end2);
    if (end2.cause === "dropped" || FORBIDDEN.includes(end2.cause) && this.#poll !== null) return;
    const asked_s = this.#askedPause(end2);
    this.#notBefore = this.#clock.now() + asked_s * 1e3;
    await this.#sleep((asked_s + this.#backoff(end2)) * 1e3);
  }
  /** What the hub, or the protocol, asks for. @param {Ended} end */
  #askedPause({ code, retry_after_s }) {
    const { protocol_error_s } = this.#pace;
    return code === Close.PROTOCOL_ERROR ? max2(protocol_error_s, retry_after_s) : retry_after_s;
  }
  /** So that workers do not come all at once, nor too often. @param {Ended} end */
  #backoff({ code }) {
    const { first_s, longest_s, held_s, restart_s, protocol_error_s } = this.#pace;
    const isAwaited = this.#session.busy > 0 || this.#session.unacked > 0;
    const longest = isAwaited ? min2(held_s, longest_s) : longest_s;
    const ceiling = min2(longest, first_s * 2 ** min2(this.#failures, 20));
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
    const end2 = await this.#poll.carry(this.#session, () => {
      if (FORBIDDEN.includes(this.#socketFailure?.cause)) this.#setAside(hub, this.#socketFailure);
      this.#planSocket(hub);
      this.#welcomed();
    });
    this.#clock.clearTimeout(this.#socketTimer);
    return end2;
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
    const failure2 = await this.#socket.open(this.#isPreferred ? this.#pace.asked_s : void 0);
    this.#isOpening = false;
    if (!this.#isPolling || this.#session.leaving !== null) return;
    if (failure2 === null) {
      this.#poll.drop("the socket opens again");
      return;
    }
    this.#setAside(hub, failure2);
    this.#planSocket(hub);
    this.#onChange();
  }
  /** @param {Ended} end */
  #countSocketFailure(end2) {
    if (end2.welcomed) {
      this.#socketFailures = 0;
      this.#socketFailure = null;
    } else if (end2.cause !== "closed" && end2.cause !== "dropped") {
      this.#socketFailures += FORBIDDEN.includes(end2.cause) ? this.#pace.socket_failures : 1;
      this.#socketFailure = end2;
    }
  }
  get #isHopeless() {
    return this.#socketFailures >= this.#pace.socket_failures;
  }
  // --- what is remembered
  /** Do not try the socket for a while. @param {Hub} hub @param {Ended} failure how it ended */
  #setAside(hub, failure2) {
    const { forbidden_s, refused_s } = this.#pace;
    const seconds = FORBIDDEN.includes(failure2.cause) ? forbidden_s : refused_s;
    this.#isPreferred = false;
    this.#socketFailure = null;
    this.#remember(hub, this.#clock.now() + seconds * 1e3);
  }
  /** @param {Hub} hub @returns {number} ms for which the socket is not to be tried */
  #forbiddenFor(hub) {
    const kept2 = this.#memory.get(`socket_again_at ${hub.http}`);
    const until = max2(this.#asideUntil, typeof kept2 === "number" && kept2 > 0 ? kept2 : 0);
    const left = until - this.#clock.now();
    return left > this.#pace.forbidden_s * 1e3 ? 0 : max2(0, left);
  }
  /** @param {Hub} hub @param {number} until the clock's ms */
  #remember(hub, until) {
    this.#asideUntil = until;
    this.#memory.set(`socket_again_at ${hub.http}`, until);
  }
};

// src/identity.js
var { crypto } = globalThis;
var getRandomValues = crypto.getRandomValues.bind(crypto);
var Controller = AbortController;
var LocalPromise2 = Promise;
var KEPT = "lmarena-bridge.worker";
var LOCK = "lmarena-bridge.worker.";
var ID = /^[0-9a-f]{32}$/;
var PATIENCE_MS = 2e3;
async function claimWorkerId({ sessionStorage: sessionStorage2, locks, clock: clock3 }) {
  const kept2 = keptId(sessionStorage2);
  let release = kept2 === null ? null : await hold(locks, kept2, clock3);
  if (release !== null) return { worker: kept2, release };
  const worker2 = newId();
  release = await hold(locks, worker2, clock3);
  try {
    sessionStorage2.setItem(KEPT, worker2);
  } catch {
  }
  return { worker: worker2, release };
}
function keptId(storage) {
  try {
    const kept2 = storage.getItem(KEPT);
    return ID.test(kept2) ? kept2 : null;
  } catch {
    return null;
  }
}
function newId() {
  let id = "";
  for (const byte of getRandomValues(new Uint8Array(16))) id += byte.toString(16).padStart(2, "0");
  return id;
}
function hold(locks, id, clock3) {
  if (!locks) return LocalPromise2.resolve(() => {
  });
  return new LocalPromise2((resolve) => {
    const controller = new Controller();
    const late = clock3.setTimeout(() => controller.abort(), PATIENCE_MS);
    const held = () => {
      clock3.clearTimeout(late);
      return new LocalPromise2((release) => resolve(() => release()));
    };
    locks.request(LOCK + id, { signal: controller.signal }, held).catch(() => {
      clock3.clearTimeout(late);
      resolve(null);
    });
  });
}

// src/site_rules.js
var { parse: parse3 } = JSON;
var { isArray: isArray2 } = Array;
var { isFinite: isFinite3 } = Number;
var { hasOwn: hasOwn3 } = Object;
var { ceil, max: max3, min: min3 } = Math;
var { now: now2, parse: parseDate } = Date;
var decodePercent = decodeURIComponent;
var decodeBase64 = atob;
var utf82 = new TextEncoder();
var encodeUtf82 = utf82.encode.bind(utf82);
var LONGEST_PAUSE_S = 10 * 86400;
var LONGEST_COMPLAINT = 500;
function matchesPath(patterns, path) {
  const segments = path.split("/");
  return patterns.some((pattern) => {
    const wanted = pattern.split("/");
    return wanted.length === segments.length && wanted.every((segment, at) => segment === "*" ? segments[at] !== "" : segment === segments[at]);
  });
}
var matchesHost = (patterns, host) => patterns.some((pattern) => pattern.startsWith("*.") ? host.endsWith(pattern.slice(1)) : host === pattern);
var memberAt = (value, path) => path.reduce(
  (inner, name) => typeof inner === "object" && inner !== null && hasOwn3(inner, name) ? inner[name] : void 0,
  value
);
var isSamePrompt = (one, other) => one === other || squeezed(one) === squeezed(other);
var squeezed = (text) => mended2(text).replace(/\s+/gu, " ").trim();
var mended2 = (text) => text.replace(/\p{Surrogate}/gu, "�");
function ruleFor(rules, { text, status: status2, header }) {
  const lower = text.toLowerCase();
  return rules.find(
    (rule) => (!rule.status || rule.status.some((pattern) => matchesStatus(pattern, status2))) && (!rule.text || rule.text.some((part) => lower.includes(part.toLowerCase()))) && (!rule.header || (header?.(rule.header[0]) ?? "").includes(rule.header[1]))
  );
}
function matchesStatus(pattern, status2) {
  const digits = `${status2}`;
  return pattern.length === digits.length && [...pattern].every((digit, at) => digit === "x" || digit === digits[at]);
}
function failureOfAnswer({ errors }, { status: status2, redirected, header, text }) {
  const seen = redirected ? 301 : status2;
  const rule = ruleFor(errors, { status: seen, header, text });
  const type = (header("content-type") ?? "").split(";")[0];
  const said = redirected ? "the site redirected the prompt" : `the site answered ${status2}`;
  return {
    code: rule?.code ?? "site_changed",
    message: rule || type === "" ? said : `${said} (${type.slice(0, 100)})`,
    ...pause(retryAfter2(header("retry-after")) ?? rule?.pause_s)
  };
}
function failureOfComplaint({ stream_errors: rules }, value) {
  const { message, code } = complaint2(value);
  const rule = ruleFor(rules, { text: `${message}
${code}` });
  return {
    code: rule?.code ?? "upstream_error",
    message: short(message || code || "the site gave no reason"),
    ...pause(rule?.pause_s)
  };
}
function complaint2(value, depth = 0) {
  if (typeof value === "string") {
    const inner = value.startsWith("{") && depth < 4 ? parsed2(value) : void 0;
    return inner === void 0 ? { message: value, code: "" } : complaint2(inner, depth + 1);
  }
  if (typeof value !== "object" || value === null || depth > 4) return { message: "", code: "" };
  if (hasOwn3(value, "error") && value.error) return complaint2(value.error, depth + 1);
  const code = value.code ?? value.type ?? "";
  const { message } = complaint2(value.message, depth + 1);
  return { message, code: typeof code === "object" ? "" : `${code}` };
}
function parsed2(text) {
  try {
    return parse3(text);
  } catch {
    return void 0;
  }
}
var short = (text) => mended2(text.slice(0, LONGEST_COMPLAINT));
var pause = (seconds) => seconds === void 0 ? {} : { retry_after_s: seconds };
function retryAfter2(text) {
  if (text === null || text.trim() === "") return void 0;
  const seconds = isFinite3(+text) ? +text : (parseDate(text) - now2()) / 1e3;
  return isFinite3(seconds) ? min3(LONGEST_PAUSE_S, max3(0, ceil(seconds))) : void 0;
}
var JobFailure = class extends Error {
  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
};
var unsupported = (message) => new JobFailure("unsupported", message);
function promptOf(body) {
  const messages = body?.messages;
  if (!isArray2(messages) || messages.length !== 1 || messages[0]?.role !== "user") {
    throw unsupported("a tab takes exactly one message, from the user");
  }
  const { content } = messages[0];
  if (typeof content === "string") return { prompt: content, attachments: [] };
  if (!isArray2(content)) throw unsupported("the message has no content");
  const texts = content.filter((part) => part?.type === "text").map((part) => `${part.text}`);
  const others = content.filter((part) => part?.type !== "text");
  return { prompt: texts.join("\n\n"), attachments: others.map(attachment) };
}
var DATA_URL = /^data:([\w.+-]+\/[\w.+-]+)?((?:;[\w.+-]+=[^;,]*)*)(;base64)?,/u;
function attachment(part, at) {
  const url = part?.type === "image_url" ? part.image_url?.url : void 0;
  const head = typeof url === "string" ? DATA_URL.exec(url.slice(0, 500)) : null;
  if (!head) throw unsupported("a tab takes text and images as data URLs");
  const type = head[1] ?? "text/plain";
  const ending = type.split("/")[1].split("+")[0];
  return { name: `image-${at + 1}.${ending}`, type, bytes: bytesOf(url.slice(head[0].length), !!head[3]) };
}
function bytesOf(data, isBase64) {
  try {
    if (!isBase64) return encodeUtf82(decodePercent(data));
    return Uint8Array.from(decodeBase64(data), (character) => character.charCodeAt(0));
  } catch {
    throw unsupported("an image's data URL is malformed");
  }
}

// src/chat.js
var Controller2 = AbortController;
var PART_MS = 5e3;
var URL_MODEL_MS = 2e3;
var OPTION_MS = 3e3;
var CLOSE_MS = 500;
var UPLOAD_MS = 6e4;
var MOST_FILLS = 5;
var MustNavigate = class extends Error {
};
var Chat = class {
  #driver;
  /** Nothing was sent or attached in this chat. */
  #isFresh = true;
  /** The document has a catalogue that the site has replaced. */
  #isStale = false;
  /** @param {import("./driver.js").Driver} driver */
  constructor(driver) {
    this.#driver = driver;
  }
  /** Something was sent in it. */
  wasUsed() {
    this.#isFresh = false;
  }
  /** The site does not know the page's models any more: only another document has the new ones. */
  isOutdated() {
    this.#isStale = true;
  }
  /**
   * All the steps. Rejects with a JobFailure, with MustNavigate, or with the signal's reason.
   * @param {Way} way
   */
  async prepare(way) {
    await this.#open(way);
    await this.#chooseModel(way);
    await this.#fill(way);
  }
  /** Undo what was done for a job that is not sent. Resolves when the page is as before. @param {Way} way */
  async withdraw(way) {
    const composer = this.#driver.one("composer");
    if (way.hasFilled && composer && this.#driver.holds(way.prompt)) this.#driver.fill(composer, "");
    if (way.isPicking) await this.#closePicker();
  }
  /** @param {Way} way */
  async #open({ navigated, signal }) {
    const driver = this.#driver;
    if (driver.isNewChat && this.#isFresh && !this.#isStale) return;
    const link2 = driver.one("new_chat");
    if (link2 && !driver.isNewChat && !this.#isStale) {
      driver.click(link2);
      const isThere = () => driver.isNewChat && driver.one("composer") && !driver.one("stop") && driver.composed === "";
      if (await driver.seen(isThere, PART_MS, signal)) {
        this.#isFresh = true;
        return;
      }
    }
    if (navigated) throw driver.siteChanged("no way to a new chat");
    throw new MustNavigate();
  }
  // --- the model ----------------------------------------------------------------------------------------
  /** @param {Way} way */
  async #chooseModel(way) {
    const { model, signal } = way;
    const driver = this.#driver;
    const shows = () => driver.shows(model);
    if (!await driver.seen(() => driver.one("picker"), PART_MS, signal)) {
      throw driver.siteChanged("no picker");
    }
    if (shows()) return;
    if (driver.isAskedFor(model) && await driver.seen(shows, URL_MODEL_MS, signal)) return;
    way.isPicking = true;
    if (!await this.#press(
      way,
      () => driver.one("picker"),
      () => driver.isPickerOpen
    )) {
      throw driver.siteChanged("the picker shows no options");
    }
    const filter = driver.one("picker_filter");
    if (filter) driver.fill(filter, model);
    if (!await driver.seen(() => driver.option(model), OPTION_MS, signal)) {
      throw new JobFailure("model_not_found", "the page's picker does not have the model");
    }
    if (!await this.#press(way, () => driver.option(model), shows)) {
      throw driver.siteChanged("the picker does not take the model");
    }
    way.isPicking = false;
  }
  /**
   * Press what `find` finds, and once more if nothing comes of it: a page that was not awake yet has heard
   * nothing, and what was found may have been replaced.
   * @param {Way} way
   * @param {() => any} find
   * @param {() => boolean} hasWorked
   */
  async #press({ signal }, find, hasWorked) {
    for (let tries = 0; tries < 2 && !hasWorked(); tries += 1) {
      const element = find();
      if (element) this.#driver.click(element);
      await this.#driver.seen(hasWorked, PART_MS / 2, signal);
    }
    return hasWorked();
  }
  /** It may still be on its way. */
  async #closePicker() {
    const driver = this.#driver;
    const { signal } = new Controller2();
    const picker = driver.one("picker");
    if (!picker || !await driver.seen(() => driver.isPickerOpen, CLOSE_MS, signal)) return;
    driver.click(picker);
    await driver.seen(() => !driver.isPickerOpen, CLOSE_MS, signal);
  }
  // --- the prompt ---------------------------------------------------------------------------------------
  /** @param {Way} way */
  async #fill(way) {
    const driver = this.#driver;
    const composer = await driver.seen(() => driver.one("composer"), PART_MS, way.signal);
    if (!composer) throw driver.siteChanged("no composer");
    if (driver.composed !== "") {
      driver.fill(composer, "");
      await driver.seen(() => driver.one("send")?.disabled, PART_MS, way.signal);
    }
    if (way.attachments.length > 0) this.#attach(way);
    const patience = way.attachments.length > 0 ? UPLOAD_MS : PART_MS;
    if (!await this.#isTaken(way, patience)) throw this.#notTaken(way);
  }
  /** @param {Way} way */
  #attach({ attachments }) {
    const input = this.#driver.files;
    if (!input) throw this.#driver.siteChanged("no input for files");
    this.#isFresh = false;
    this.#driver.attach(input, attachments);
  }
  /**
   * Whether the page takes the prompt and is ready to send it.
   * @param {Way} way
   * @param {number} patience ms
   */
  async #isTaken(way, patience) {
    const driver = this.#driver;
    let fills = 0;
    const put = () => {
      const composer2 = driver.one("composer");
      fills += 1;
      way.hasFilled = true;
      if (composer2) driver.fill(composer2, way.prompt);
    };
    const isReady = () => {
      const send = driver.one("send");
      if (driver.holds(way.prompt)) return send && !send.disabled && driver.shows(way.model);
      if (fills < MOST_FILLS) put();
      return false;
    };
    if (await driver.seen(isReady, patience / 2, way.signal)) return true;
    const composer = driver.one("composer");
    if (composer) driver.fill(composer, "");
    return driver.seen(isReady, patience / 2, way.signal);
  }
  /** @param {Way} way */
  #notTaken(way) {
    const driver = this.#driver;
    if (!driver.holds(way.prompt)) return driver.siteChanged("the composer does not take the text");
    if (!driver.shows(way.model)) return driver.siteChanged("the picker changed its model");
    const isThere = driver.one("send") !== null;
    return driver.siteChanged(isThere ? "the send button stays disabled" : "no send button");
  }
};

// src/driver.js
var Driver = class {
  #window;
  #profile;
  #native;
  /** @param {{window: any, profile: any}} options */
  constructor({ window, profile: profile2 }) {
    this.#window = window;
    this.#profile = profile2;
    this.#native = natives(window);
  }
  setProfile(profile2) {
    this.#profile = profile2;
  }
  // --- finding ------------------------------------------------------------------------------------------
  /** @param {Part} part @returns {any[]} visible ones */
  all(part) {
    return this.#find(this.#profile.selectors[part]).filter((element) => this.isVisible(element));
  }
  /**
   * The first that is visible; the send button is the composer's own, if that is in a form.
   * @param {Part} part
   */
  one(part) {
    const found = this.all(part);
    if (part !== "send") return found[0] ?? null;
    const form = this.one("composer")?.form;
    return found.find((button) => form && button.form === form) ?? found[0] ?? null;
  }
  /** The input for files, which pages like to hide. */
  get files() {
    return this.#find(this.#profile.selectors.files)[0] ?? null;
  }
  /** Which parts of a page that is ready for a prompt are not there. @returns {Part[]} */
  missing() {
    const wanted = (
      /** @type {Part[]} */
      ["composer", "send", "picker", "new_chat"]
    );
    return wanted.filter((part) => this.one(part) === null);
  }
  /** The failure of a page in which something is not as the profile says. @param {string} what */
  siteChanged(what) {
    const missing = this.missing();
    const more = missing.length > 0 ? `; not on the page: ${missing.join(", ")}` : "";
    return new JobFailure("site_changed", `${what}${more}`);
  }
  /**
   * The first sign that the page needs its human.
   * @returns {{code: string, title?: string, selector?: string, text?: string} | null}
   */
  sign() {
    const { title } = this.#window.document;
    const isThere = (sign) => sign.title === void 0 ? this.#find(sign.selector).some(
      (element) => element.textContent.includes(sign.text ?? "") && this.isVisible(element)
    ) : title.startsWith(sign.title);
    return this.#profile.signs.find(isThere) ?? null;
  }
  isVisible(element) {
    return this.#native.checkVisibility(element, { visibilityProperty: true, checkVisibilityCSS: true });
  }
  /** @param {any} target an event's @param {Part} part */
  isWithin(target, part) {
    return this.#find(this.#profile.selectors[part]).some((element) => element.contains(target));
  }
  /** A profile is data from elsewhere: a selector that is none finds nothing. */
  #find(selector) {
    try {
      return [...this.#window.document.querySelectorAll(selector)];
    } catch {
      return [];
    }
  }
  // --- waiting ------------------------------------------------------------------------------------------
  /**
   * The first truthy thing that `look` finds, now or after a change of the page; null when time is up.
   * Rejects with the signal's reason.
   * @template T
   * @param {() => T} look
   * @param {number} ms
   * @param {AbortSignal} signal
   * @returns {Promise<T | null>}
   */
  seen(look, ms, signal) {
    signal.throwIfAborted();
    const first = look();
    if (first) return Promise.resolve(first);
    const { setTimeout: setTimeout2, clearTimeout: clearTimeout2 } = this.#native;
    return new Promise((resolve, reject) => {
      const done = (settle, value) => {
        unobserve();
        clearTimeout2(timer);
        signal.removeEventListener("abort", stop);
        settle(value);
      };
      const again = () => {
        const found = look();
        if (found) done(resolve, found);
      };
      const stop = () => done(reject, signal.reason);
      const unobserve = this.observe(again);
      const timer = setTimeout2(() => done(resolve, look() || null), ms);
      signal.addEventListener("abort", stop);
    });
  }
  /**
   * Call after every change of the document or of the page's address.
   * @param {() => void} changed
   * @returns {() => void} ends it
   */
  observe(changed) {
    const { MutationObserver: MutationObserver2 } = this.#native;
    const { document: document2, navigation } = this.#window;
    const observer = new MutationObserver2(changed);
    observer.observe(document2, { subtree: true, childList: true, attributes: true, characterData: true });
    navigation?.addEventListener("currententrychange", changed);
    return () => {
      observer.disconnect();
      navigation?.removeEventListener("currententrychange", changed);
    };
  }
  // --- where we are -------------------------------------------------------------------------------------
  get isNewChat() {
    return this.#window.location.pathname === this.#profile.new_chat.path;
  }
  /** Whether the page's address asks for this model. @param {string} model */
  isAskedFor(model) {
    const { URLSearchParams } = this.#native;
    const query = new URLSearchParams(this.#window.location.search);
    return query.get(this.#profile.new_chat.model_parameter) === model;
  }
  /** @param {string} model */
  newChatUrl(model) {
    const { path, model_parameter: parameter } = this.#profile.new_chat;
    return `${this.#window.location.origin}${path}?${parameter}=${encodeURIComponent(model)}`;
  }
  get isLoading() {
    return this.#window.document.readyState === "loading";
  }
  /** The texts of the page's scripts. @returns {string[]} */
  scripts() {
    return [...this.#window.document.scripts].map((script) => script.textContent);
  }
  // --- acting -------------------------------------------------------------------------------------------
  click(element) {
    this.#native.click(element);
  }
  /** What the composer holds; "" where there is none. @returns {string} */
  get composed() {
    return this.one("composer")?.value ?? "";
  }
  /** @param {string} prompt */
  holds(prompt) {
    return isSamePrompt(this.composed, prompt);
  }
  /** Put a text into a field as if it had been typed. @param {any} field @param {string} text */
  fill(field, text) {
    const { setters, Event: Event2, dispatchEvent } = this.#native;
    const set = setters.get(field.tagName);
    if (!set) return;
    set(field, text);
    dispatchEvent(field, new Event2("input", { bubbles: true }));
  }
  /** @param {any} input @param {import("./site_rules.js").Attachment[]} attachments */
  attach(input, attachments) {
    const { DataTransfer, File, Event: Event2, dispatchEvent, setFiles } = this.#native;
    const transfer = new DataTransfer();
    for (const { bytes, name, type } of attachments) {
      transfer.items.add(new File([bytes], name, { type }));
    }
    setFiles(input, transfer.files);
    dispatchEvent(input, new Event2("change", { bubbles: true }));
  }
  // --- the picker ---------------------------------------------------------------------------------------
  /** The name that the picker shows. @returns {string | undefined} */
  get shownModel() {
    return this.one("picker")?.textContent.trim();
  }
  /** Whether the picker shows this model. @param {string} model */
  shows(model) {
    return this.shownModel === model;
  }
  /** Whether it shows options, or a filter that leaves none. */
  get isPickerOpen() {
    return this.one("option") !== null || this.one("picker_filter") !== null;
  }
  /** The option whose text is exactly the name. @param {string} model */
  option(model) {
    return this.all("option").find((option) => option.textContent.trim() === model) ?? null;
  }
};
function natives(window) {
  const { Element: Element2, EventTarget: EventTarget2, HTMLElement: HTMLElement2, HTMLInputElement, HTMLTextAreaElement } = window;
  return {
    DataTransfer: window.DataTransfer,
    Event: window.Event,
    File: window.File,
    MutationObserver: window.MutationObserver,
    URLSearchParams: window.URLSearchParams,
    setTimeout: window.setTimeout.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
    checkVisibility: method(Element2.prototype, "checkVisibility"),
    click: method(HTMLElement2.prototype, "click"),
    dispatchEvent: method(EventTarget2.prototype, "dispatchEvent"),
    setFiles: setter(HTMLInputElement.prototype, "files"),
    setters: /* @__PURE__ */ new Map([
      ["TEXTAREA", setter(HTMLTextAreaElement.prototype, "value")],
      ["INPUT", setter(HTMLInputElement.prototype, "value")]
    ])
  };
}

// src/citations.js
var { parse: parse4 } = JSON;
var { values } = Object;
var LONGEST = 1024 * 1024;
var DEEPEST = 6;
var Citations = class {
  /** By tool call. @type {Map<unknown, Documents>} */
  #calls = /* @__PURE__ */ new Map();
  #length = 0;
  /**
   * The annotations that this part completes. The site does not say which words they belong to, so they stand
   * at the place that the answer had reached.
   * @param {{toolCallId?: unknown, argsTextDelta?: unknown}} part
   * @param {number} at the length of the answer's text so far, in UTF-16 units
   * @returns {Annotation[]}
   */
  push({ toolCallId, argsTextDelta: text }, at) {
    if (typeof text !== "string" || (this.#length += text.length) > LONGEST) return [];
    const call = this.#calls.get(toolCallId) ?? new Documents();
    this.#calls.set(toolCallId, call);
    return sourcesIn(call.push(text).map(parsed3)).map(({ url, title }) => ({
      type: "url_citation",
      url_citation: {
        url: mended2(url),
        title: mended2(typeof title === "string" ? title : url),
        start_index: at,
        end_index: at
      }
    }));
  }
};
var Documents = class {
  #held = "";
  #depth = 0;
  #inString = false;
  #escaped = false;
  /**
   * The documents that this part completes.
   * @param {string} part
   */
  push(part) {
    const complete = [];
    let start = 0;
    for (let at = 0; at < part.length; at += 1) {
      const before = this.#depth;
      this.#step(part[at]);
      if (before === 0 && this.#depth === 1) {
        start = at;
        this.#held = "";
      } else if (before === 1 && this.#depth === 0) {
        complete.push(this.#held + part.slice(start, at + 1));
      }
    }
    this.#held += part.slice(start);
    return complete;
  }
  /** @param {string} character */
  #step(character) {
    if (this.#escaped) this.#escaped = false;
    else if (this.#inString) {
      if (character === '"') this.#inString = false;
      this.#escaped = character === "\\";
    } else if (this.#depth > 0 && character === '"') this.#inString = true;
    else if (character === "{" || character === "[") this.#depth += 1;
    else if (this.#depth > 0 && (character === "}" || character === "]")) this.#depth -= 1;
  }
};
function sourcesIn(value, depth = 0) {
  if (depth > DEEPEST || typeof value !== "object" || value === null) return [];
  if (typeof value.url === "string" && /^https?:\/\//i.test(value.url)) return [value];
  return values(value).flatMap((inner) => sourcesIn(inner, depth + 1));
}
function parsed3(text) {
  try {
    return parse4(text);
  } catch {
    return void 0;
  }
}

// src/site_stream.js
var { parse: parse5 } = JSON;
var { isArray: isArray3 } = Array;
var { isSafeInteger } = Number;
var { entries: entries3, fromEntries: fromEntries2, hasOwn: hasOwn4, keys } = Object;
var LONGEST_LINE = 32 * 1024 * 1024;
var MOST_UNKNOWN = 20;
var REFUSAL = "hasArenaError";
var FINISH_REASONS = {
  stop: "stop",
  length: "length",
  "content-filter": "content_filter",
  content_filter: "content_filter"
};
var USAGE = {
  prompt_tokens: ["promptTokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_tokens"],
  completion_tokens: [
    "completionTokens",
    "output_tokens",
    "candidatesTokenCount",
    "outputTokens",
    "completion_tokens"
  ],
  total_tokens: ["totalTokens", "total_tokens", "totalTokenCount"]
};
var LINE = /^([A-Za-z0-9]{1,4}):/;
var NAME = /^[\w.-]{1,40}$/;
var SiteStream = class {
  #profile;
  #longestLine;
  #carry = "";
  #skipping = false;
  #isOver = false;
  #text = new WholeText();
  #reasoning = new WholeText();
  #citations = new Citations();
  /** A refusal came and no text after it. */
  #refused = false;
  /** Anything was passed on; text or an image was. */
  #said = false;
  #answered = false;
  /** Text of the answer was there that could not be read. */
  #lost = false;
  #length = 0;
  #battle = 0;
  /** @type {Map<string, number>} */
  #unknown = /* @__PURE__ */ new Map();
  /** @param {{profile: any, longestLine?: number}} options `longestLine` in characters */
  constructor({ profile: profile2, longestLine = LONGEST_LINE }) {
    this.#profile = profile2;
    this.#longestLine = longestLine;
  }
  /** Whether the answer has ended; what is pushed afterwards is ignored. */
  get isOver() {
    return this.#isOver;
  }
  /** How many lines belonged to another position. */
  get battle() {
    return this.#battle;
  }
  /** What was not understood, by name, with counts; names are codes, never content. */
  get unknown() {
    return fromEntries2(this.#unknown);
  }
  /**
   * @param {string} text decoded with `stream: true`
   * @returns {Event[]}
   */
  push(text) {
    const events = [];
    let start = 0;
    for (let at = text.indexOf("\n"); at >= 0 && !this.#isOver; at = text.indexOf("\n", start)) {
      this.#hold(text.slice(start, at));
      start = at + 1;
      this.#takeLine(events);
    }
    this.#hold(text.slice(start));
    return events;
  }
  /**
   * The stream is over: an answer that has not ended is truncated.
   * @returns {Event[]}
   */
  end() {
    const events = [];
    if (!this.#isOver) this.#takeLine(events, true);
    if (!this.#isOver) this.#finishCut(events);
    return events;
  }
  /** @param {string} part */
  #hold(part) {
    if (this.#isOver || this.#skipping) return;
    if (this.#carry.length + part.length <= this.#longestLine) {
      this.#carry += part;
      return;
    }
    this.#carry = "";
    this.#skipping = true;
    this.#lost = true;
    this.#count("too long");
  }
  /** @param {Event[]} events @param {boolean} [cut] it has no newline: the stream ended within it */
  #takeLine(events, cut = false) {
    const line = this.#carry;
    this.#carry = "";
    if (!this.#skipping && line.trim() !== "") this.#line(line, cut, events);
    this.#skipping = false;
  }
  /** @param {string} line @param {boolean} cut @param {Event[]} events */
  #line(line, cut, events) {
    const head = LINE.exec(line)?.[1];
    const { positions, lines } = this.#profile;
    const position = positions.find((name) => head?.startsWith(name));
    const code = head?.slice(position?.length ?? 0) ?? "";
    if (position === void 0 || !hasOwn4(lines, code)) {
      if (!cut || line.length > 4) this.#count(head ?? "no line");
      return;
    }
    if (position !== positions[0]) {
      this.#battle += 1;
      return;
    }
    const kind = lines[code];
    const value = parsed4(line.slice(line.indexOf(":") + 1));
    if (value !== void 0 && this.#read(kind, head, value, events)) return;
    if (cut && value === void 0) return;
    this.#count(`${head} malformed`);
    if (kind === "text") this.#lost = true;
  }
  /** Whether the value was of the kind's shape. @returns {boolean} */
  #read(kind, head, value, events) {
    switch (kind) {
      case "text":
        return this.#readText(value, events);
      case "reasoning":
        return this.#readReasoning(value, events);
      case "data":
        return this.#readData(head, value, events);
      case "citation":
        return this.#readCitation(value, events);
      case "step":
        return true;
      case "step_end":
        return this.#readStepEnd(value, events);
      case "error":
        this.#fail(failureOfComplaint(this.#profile, value), events);
        return true;
      case "end":
        return this.#readEnd(head, value, events);
      default:
        return false;
    }
  }
  #readText(value, events) {
    if (typeof value !== "string") return false;
    if (this.#refused) this.#sayText(REFUSAL, events);
    this.#refused = value === REFUSAL;
    if (!this.#refused) this.#sayText(value, events);
    return true;
  }
  #sayText(value, events) {
    this.#answered ||= value !== "";
    this.#length += value.length;
    const text = this.#text.push(value);
    this.#say(text === "" ? {} : { text }, events);
  }
  #readReasoning(value, events) {
    if (typeof value !== "string") return false;
    const text = this.#reasoning.push(value);
    this.#say(text === "" ? {} : { delta: { reasoning_content: text } }, events);
    return true;
  }
  #readData(head, value, events) {
    const items = isArray3(value) ? value.flat(4) : [value];
    if (!items.every(isObject2)) return false;
    const images = items.filter((item) => item.type === "image").map(imageUrl);
    if (images.includes("")) return false;
    for (const { type } of items) {
      if (type !== "image" && type !== "heartbeat") this.#count(`${head} type ${nameOf2(type)}`);
    }
    const shown = images.map((url) => ({ type: "image_url", image_url: { url } }));
    this.#answered ||= shown.length > 0;
    this.#say(shown.length > 0 ? { delta: { images: shown } } : {}, events);
    return true;
  }
  #readCitation(value, events) {
    if (!isObject2(value)) return false;
    const annotations = this.#citations.push(value, this.#length);
    this.#say(annotations.length > 0 ? { delta: { annotations } } : {}, events);
    return true;
  }
  #readStepEnd(value, events) {
    if (isObject2(value) && value.message) {
      this.#fail(failureOfComplaint(this.#profile, value), events);
    }
    return true;
  }
  #readEnd(head, value, events) {
    if (!isObject2(value)) return false;
    const { finishReason: reason } = value;
    const known = typeof reason === "string" && hasOwn4(FINISH_REASONS, reason);
    if (!known && reason !== "error") this.#count(`${head} reason ${nameOf2(reason)}`);
    if (reason === "error") {
      this.#fail({ code: "upstream_error", message: "the site ended the answer with an error" }, events);
    } else {
      this.#finish(known ? FINISH_REASONS[reason] : "stop", usageOf(value.usage), this.#lost, events);
    }
    return true;
  }
  #finishCut(events) {
    if (this.#said || this.#refused || this.#unknown.size > 0) {
      this.#finish("length", void 0, true, events);
    } else {
      const message = this.#battle > 0 ? "only another model of a battle answered" : "the site's answer was empty";
      this.#fail({ code: "upstream_error", message }, events);
    }
  }
  #finish(reason, usage, truncated, events) {
    if (this.#refused) {
      this.#fail({ code: "upstream_error", message: "the arena refused without a reason" }, events);
    } else if (!this.#answered && this.#unknown.size > 0) {
      this.#settle({ t: "fail", code: "site_changed", message: this.#seen() }, events);
    } else {
      this.#flush(events);
      this.#notice(events);
      const end2 = { t: "end", finish_reason: truncated ? "length" : reason };
      if (usage) end2.usage = usage;
      if (truncated) end2.truncated = true;
      this.#settle(end2, events);
    }
  }
  #fail(failure2, events) {
    this.#flush(events);
    this.#notice(events);
    this.#settle({ t: "fail", ...failure2 }, events);
  }
  #settle(event, events) {
    events.push(event);
    this.#isOver = true;
    this.#carry = "";
  }
  #say(members, events) {
    this.#said ||= members.text !== void 0 || members.delta !== void 0;
    events.push({ t: "piece", ...members });
  }
  /** Halves of characters that never came whole. */
  #flush(events) {
    const reasoning = this.#reasoning.flush();
    if (reasoning !== "") this.#say({ delta: { reasoning_content: reasoning } }, events);
    const text = this.#text.flush();
    if (text !== "") this.#say({ text }, events);
  }
  #notice(events) {
    if (this.#unknown.size === 0) return;
    events.push({ t: "notice", code: "site_changed", message: this.#seen() });
  }
  #seen() {
    const counted = [...this.#unknown].map(([name, count]) => `${name} (${count})`);
    return `not understood in the site's stream: ${counted.join(", ")}`;
  }
  /** @param {string} name */
  #count(name) {
    const bounded = this.#unknown.has(name) || this.#unknown.size < MOST_UNKNOWN ? name : "others";
    this.#unknown.set(bounded, (this.#unknown.get(bounded) ?? 0) + 1);
  }
};
function parsed4(text) {
  try {
    return parse5(text);
  } catch {
    return void 0;
  }
}
var isObject2 = (value) => typeof value === "object" && value !== null && !isArray3(value);
var isWebAddress = (value) => typeof value === "string" && /^https?:\/\//i.test(value);
var nameOf2 = (value) => typeof value === "string" && NAME.test(value) ? value : "?";
function imageUrl({ image }) {
  const url = isObject2(image) ? image.url : image;
  return isWebAddress(url) || typeof url === "string" && /^data:image\//i.test(url) ? url : "";
}
function usageOf(value) {
  if (!isObject2(value)) return void 0;
  const usage = {};
  for (const [name, aliases] of entries3(USAGE)) {
    const alias = aliases.find((key) => isSafeInteger(value[key]) && value[key] >= 0);
    if (alias) usage[name] = value[alias];
  }
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  if (prompt !== void 0 && completion !== void 0) usage.total_tokens ??= prompt + completion;
  return keys(usage).length > 0 ? usage : void 0;
}

// src/tap.js
var { parse: parse6 } = JSON;
var { apply: apply4 } = Reflect;
var { isView } = ArrayBuffer;
var Address2 = URL;
var Decoder = TextDecoder;
var PageRequest = Request;
var PageResponse = Response;
var Bytes = ArrayBuffer;
var Binary = Blob;
var then = method(Promise.prototype, "then");
var cloneRequest = method(Request.prototype, "clone");
var cloneResponse = method(Response.prototype, "clone");
var bodyOf = getter(Response.prototype, "body");
var textOfRequest = method(Request.prototype, "text");
var textOfResponse = method(Response.prototype, "text");
var getReader = method(ReadableStream.prototype, "getReader");
var readOf = method(ReadableStreamDefaultReader.prototype, "read");
var cancelOf = method(ReadableStreamDefaultReader.prototype, "cancel");
var later = setTimeout;
var forgetTimer = clearTimeout;
var MOST_REFUSAL_BYTES = 64 * 1024;
var REFUSAL_MS = 5e3;
var NO_STREAM = /^(?:text\/html|application\/(?:[\w.-]+\+)?json)\b/i;
var Tap = class {
  #window;
  #profile;
  #native;
  #wrapper;
  #heard;
  #pending = 0;
  /** @type {Expectation[]} */
  #expected = [];
  /**
   * Wraps `window.fetch` at once.
   * @param {{window: any, profile: any, heard: (what: "sent" | "answered") => void}} options `heard` is told
   *   of prompts that are not a job's: one leaves, one was answered with a stream
   */
  constructor({ window, profile: profile2, heard: heard2 }) {
    this.#window = window;
    this.#profile = profile2;
    this.#heard = heard2;
    this.#native = window.fetch;
    const call = (self, given) => this.#call(self, given);
    this.#wrapper = function fetch(input) {
      return call(this, arguments);
    };
    window.fetch = this.#wrapper;
  }
  /** Whether a prompt of somebody else's has left and has no answer yet. */
  get isBusy() {
    return this.#pending > 0;
  }
  setProfile(profile2) {
    this.#profile = profile2;
  }
  /**
   * The next request with this prompt is a job's.
   * @param {string} prompt
   * @param {Reader} reader
   * @returns {Expectation}
   */
  expect(prompt, reader) {
    const expectation = new Expectation(prompt, reader);
    this.#expected.push(expectation);
    return expectation;
  }
  /** Expect it no longer. @param {Expectation} expectation */
  forget(expectation) {
    this.#expected = this.#expected.filter((other) => other !== expectation);
  }
  /** The page has its own fetch back, unless somebody has wrapped ours. */
  close() {
    this.#expected = [];
    if (this.#window.fetch === this.#wrapper) this.#window.fetch = this.#native;
  }
  #call(self, given) {
    const watch = quietly(() => this.#watched(given));
    if (!watch) return apply4(this.#native, self, given);
    quietly(() => watch.leaves());
    const answer = apply4(this.#native, self, given);
    then(
      answer,
      (response) => quietly(() => watch.answered(response)),
      (error) => quietly(() => watch.broke(error))
    );
    return answer;
  }
  /** What to do with a call; null: nothing. */
  #watched(given) {
    if (!this.#carriesPrompt(given)) return null;
    const body = this.#expected.length > 0 ? textOf(given) : null;
    if (typeof body === "string") return this.#watchOf(body);
    return body === null ? new Stranger(this) : new Undecided(body, (text) => this.#watchOf(text));
  }
  /** @param {string} body */
  #watchOf(body) {
    const prompt = memberAt(parsed5(body), this.#profile.prompt_at);
    const found = typeof prompt === "string" && this.#expected.find((one) => isSamePrompt(one.prompt, prompt));
    if (!found) return new Stranger(this);
    this.forget(found);
    return found;
  }
  #carriesPrompt([input, init]) {
    const request2 = input instanceof PageRequest ? input : null;
    const method2 = init?.method ?? request2?.method;
    if (typeof method2 !== "string" || method2.toUpperCase() !== "POST") return false;
    const { location: location2, document: document2 } = this.#window;
    const { host, hostname, pathname } = new Address2(request2 ? request2.url : input, document2.baseURI);
    const { hosts, requests } = this.#profile;
    return (host === location2.host || matchesHost(hosts, hostname)) && matchesPath(requests, pathname);
  }
  /** A prompt that is not a job's. @param {"sent" | "answered" | "broke"} what */
  strangerWas(what) {
    this.#pending += what === "sent" ? 1 : -1;
    if (what !== "broke") this.#heard(what);
  }
};
function quietly(act2) {
  try {
    return act2();
  } catch {
    return null;
  }
}
function textOf([input, init]) {
  const body = init?.body;
  if (typeof body === "string") return body;
  if (body instanceof Bytes || isView(body) || body instanceof Binary) {
    return textOfResponse(new PageResponse(body));
  }
  if (body !== void 0 && body !== null) return null;
  return input instanceof PageRequest ? textOfRequest(cloneRequest(input)) : null;
}
var Stranger = class {
  #tap;
  /** @param {Tap} tap */
  constructor(tap) {
    this.#tap = tap;
  }
  leaves() {
    this.#tap.strangerWas("sent");
  }
  answered(response) {
    this.#tap.strangerWas(isStream(response) ? "answered" : "broke");
  }
  broke() {
    this.#tap.strangerWas("broke");
  }
};
var Undecided = class {
  #decided;
  /** @param {Promise<string>} body @param {(text: string) => Stranger | Expectation} decide */
  constructor(body, decide) {
    this.#decided = then(body, decide, () => decide(""));
  }
  leaves() {
    this.#once((watch) => watch.leaves());
  }
  answered(response) {
    const copy = cloneResponse(response);
    this.#once((watch) => {
      if (watch instanceof Expectation) watch.read(copy);
      else {
        watch.answered(response);
        bodyOf(copy)?.cancel();
      }
    });
  }
  broke(error) {
    this.#once((watch) => watch.broke(error));
  }
  /** @param {(watch: Stranger | Expectation) => void} act */
  #once(act2) {
    then(this.#decided, (watch) => quietly(() => act2(watch)));
  }
};
var Expectation = class {
  #reader;
  /** @type {ReadableStreamDefaultReader<Uint8Array> | null} */
  #branch = null;
  #cancelled = false;
  /** @param {string} prompt @param {Reader} reader */
  constructor(prompt, reader) {
    this.prompt = prompt;
    this.#reader = reader;
  }
  /** Let go of our branch; nothing is heard of it afterwards. */
  cancel() {
    this.#cancelled = true;
    this.#letGo();
  }
  #letGo() {
    if (this.#branch) then(cancelOf(this.#branch), void 0, () => {
    });
  }
  leaves() {
    this.#reader.sent();
  }
  answered(response) {
    this.read(cloneResponse(response));
  }
  broke(error) {
    if (!this.#cancelled) this.#reader.broke(error);
  }
  /** @param {Response} copy */
  async read(copy) {
    const body = bodyOf(copy);
    this.#branch = body && getReader(body);
    if (this.#cancelled) return this.cancel();
    try {
      if (isStream(copy)) await this.#readStream();
      else await this.#readRefusal(copy);
    } catch (error) {
      quietly(() => this.broke(error));
    }
  }
  async #readStream() {
    const decoder = new Decoder();
    for (let part = await this.#next(); part !== null; part = await this.#next()) {
      if (!this.#cancelled) this.#reader.text(decoder.decode(part, { stream: true }));
    }
    if (this.#cancelled) return;
    const rest = decoder.decode();
    if (rest !== "") this.#reader.text(rest);
    this.#reader.over();
  }
  /** @param {Response} copy */
  async #readRefusal({ status: status2, redirected, headers }) {
    const text = await this.#beginning();
    this.#letGo();
    if (this.#cancelled) return;
    this.#reader.refused({ status: status2, redirected, header: (name) => headers.get(name), text });
  }
  /** What the body begins with, as far as it comes: the status says more than a broken connection. */
  async #beginning() {
    const decoder = new Decoder();
    const enough = later(() => this.#letGo(), REFUSAL_MS);
    let text = "";
    let left = MOST_REFUSAL_BYTES;
    try {
      for (let part = await this.#next(); part !== null; part = left > 0 ? await this.#next() : null) {
        text += decoder.decode(part.subarray(0, left), { stream: true });
        left -= part.length;
      }
    } catch {
    }
    forgetTimer(enough);
    return text;
  }
  /** @returns {Promise<Uint8Array | null>} */
  async #next() {
    const { done, value } = this.#branch ? await readOf(this.#branch) : { done: true };
    return done ? null : value;
  }
};
var isStream = ({ status: status2, redirected, headers }) => status2 === 200 && !redirected && !NO_STREAM.test(headers.get("content-type") ?? "");
function parsed5(text) {
  try {
    return parse6(text);
  } catch {
    return void 0;
  }
}

// src/catalogue.js
var { parse: parse7, stringify: stringify3 } = JSON;
var { isArray: isArray4 } = Array;
var { entries: entries4 } = Object;
var PUSH = ".push(";
var MOST_PLACES = 50;
var MOST_MODALITIES = 20;
var PRINTABLE = /^(?:[ -~]+|(?:[^\p{C}\p{Z}]| )+)$/u;
function readCatalogue(scripts, member) {
  const flight = scripts.flatMap(flightTexts).join("");
  const listed = listNamed(flight, member);
  if (listed === null) return null;
  const found = /* @__PURE__ */ new Map();
  for (const raw of listed) {
    const entry = entryOf(raw);
    if (entry && !found.has(entry.model.id)) found.set(entry.model.id, entry);
    if (found.size === MAX_MODELS) break;
  }
  return found.size === 0 && listed.length > 0 ? null : [...found.values()];
}
function flightTexts(script) {
  if (!script.includes("__next_f")) return [];
  const texts = [];
  for (let at = script.indexOf(PUSH); at >= 0; ) {
    const start = at + PUSH.length;
    const end2 = endOfValue(script, start);
    const argument = end2 < 0 ? void 0 : parsed6(script.slice(start, end2));
    if (isArray4(argument) && argument[0] === 1 && typeof argument[1] === "string") texts.push(argument[1]);
    at = script.indexOf(PUSH, argument === void 0 ? start : end2);
  }
  return texts;
}
function listNamed(text, member) {
  const name = `${stringify3(member)}:[`;
  let at = text.indexOf(name);
  for (let place = 0; at >= 0 && place < MOST_PLACES; place += 1) {
    const start = at + name.length - 1;
    const end2 = endOfValue(text, start);
    const list = end2 < 0 ? void 0 : parsed6(text.slice(start, end2));
    if (isArray4(list)) return list;
    at = text.indexOf(name, start);
  }
  return null;
}
var QUOTE = 34;
var BACKSLASH = 92;
var LIST = 91;
var LIST_END = 93;
var OBJECT = 123;
var OBJECT_END = 125;
function endOfValue(text, start) {
  let depth = 0;
  for (let at = start; at < text.length; at += 1) {
    const unit = text.charCodeAt(at);
    if (unit === LIST || unit === OBJECT) depth += 1;
    else if (unit === LIST_END || unit === OBJECT_END) depth -= 1;
    else if (unit === QUOTE) {
      do {
        at += text.charCodeAt(at) === BACKSLASH ? 2 : 1;
      } while (at < text.length && text.charCodeAt(at) !== QUOTE);
    }
    if (depth <= 0) return depth === 0 && at > start ? at + 1 : -1;
  }
  return -1;
}
function entryOf(raw) {
  const name = raw?.publicName;
  if (typeof raw?.id !== "string" || !isLabel(name)) return null;
  const { inputCapabilities, outputCapabilities } = raw.capabilities ?? {};
  const modalities = { in: modalitiesOf(inputCapabilities), out: modalitiesOf(outputCapabilities) };
  const model = { id: name, modalities, kinds: ["chat"] };
  if (isLabel(raw.organization)) model.organization = raw.organization;
  return { model, id: raw.id };
}
function modalitiesOf(capabilities) {
  const names = isArray4(capabilities) ? capabilities : entries4(capabilities ?? {}).flatMap(([name, value]) => value ? [name] : []);
  const known = names.filter(isLabel).slice(0, MOST_MODALITIES);
  return known.length > 0 ? known : ["text"];
}
var isLabel = (value) => typeof value === "string" && value.length <= 400 && PRINTABLE.test(value) && (value.length <= 200 || [...value].length <= 200);
function parsed6(text) {
  try {
    return parse7(text);
  } catch {
    return void 0;
  }
}

// src/watch.js
var { stringify: stringify4 } = JSON;
var { now: now3 } = Date;
var LOOK_EVERY_MS = 500;
var BARE_PAGE_MS = 1e4;
var Watch = class {
  #driver;
  #catalogue;
  #tell;
  #onSign;
  #setTimeout;
  #clearTimeout;
  #models = "";
  #names = /* @__PURE__ */ new Set();
  #state = "";
  /** @type {{code: string, message: string} | null} */
  #attention = null;
  /** The site refused us, but its page shows no sign that could go away. */
  #isRefused = false;
  #lookedAt = 0;
  #timer = 0;
  #closers = [];
  /**
   * @param {object} options
   * @param {any} options.window the page's
   * @param {import("./driver.js").Driver} options.driver
   * @param {any} options.profile
   * @param {(message: object) => void} options.tell
   * @param {(why: {code: string, message: string}) => void} options.onSign a sign is there
   */
  constructor({ window, driver, profile: profile2, tell, onSign }) {
    this.#driver = driver;
    this.#catalogue = profile2.catalogue;
    this.#tell = tell;
    this.#onSign = onSign;
    this.#setTimeout = window.setTimeout.bind(window);
    this.#clearTimeout = window.clearTimeout.bind(window);
    this.#closers.push(driver.observe(() => this.#changed()));
    const bare = this.#setTimeout(() => this.look({ bareIsWrong: true }), BARE_PAGE_MS);
    this.#closers.push(() => this.#clearTimeout(bare));
  }
  /** Why no job gets anywhere now; null: it does. */
  get attention() {
    return this.#attention;
  }
  /** Whether the page offers a model of this name. @param {string | undefined} name */
  offers(name) {
    return this.#names.has(name);
  }
  /** The page's document is there. */
  begin() {
    this.#readModels();
    this.look();
  }
  setProfile({ catalogue }) {
    this.#catalogue = catalogue;
    this.begin();
  }
  /** Its human says that it is fine: look, and say how it is. */
  lookAnew() {
    this.#isRefused = false;
    this.#state = "";
    this.#readModels();
    this.look({ bareIsWrong: true });
  }
  /**
   * The site refused a job for a reason that only its human can take away.
   * @param {{code: string, message: string}} why
   */
  refused(why) {
    this.#isRefused = this.#driver.sign() === null;
    this.#attend(why);
  }
  /** A person got an answer: the site refuses us no more. */
  answered() {
    this.#isRefused = false;
    this.look();
  }
  close() {
    this.#clearTimeout(this.#timer);
    for (const close of this.#closers) close();
  }
  // --- signs --------------------------------------------------------------------------------------------
  #changed() {
    const wait = this.#isRefused ? 0 : this.#lookedAt + LOOK_EVERY_MS - now3();
    if (wait <= 0) this.look();
    else this.#timer ||= this.#setTimeout(() => this.look(), wait);
  }
  /**
   * Look for signs, now.
   * @param {{bareIsWrong?: boolean}} [options] a new chat without a composer is not a page that still comes
   */
  look({ bareIsWrong = false } = {}) {
    this.#clearTimeout(this.#timer);
    this.#timer = 0;
    this.#lookedAt = now3();
    const sign = this.#driver.sign();
    if (sign) {
      this.#isRefused = false;
      this.#attend({ code: sign.code, message: described(sign) });
      this.#onSign(this.#attention);
    } else if (!this.#isRefused && !this.#driver.isLoading) this.#seeComposer(bareIsWrong);
  }
  /** Elsewhere on the site there is none, and a job finds its way from there. @param {boolean} bareIsWrong */
  #seeComposer(bareIsWrong) {
    const { isNewChat } = this.#driver;
    const isFineWithout = this.#state === "" && !isNewChat;
    if (this.#driver.one("composer") || isFineWithout) this.#beReady();
    else if (bareIsWrong && isNewChat) this.#attend(this.#driver.siteChanged("no composer"));
  }
  #beReady() {
    if (this.#state === "ready") return;
    this.#state = "ready";
    this.#attention = null;
    this.#tell({ t: "site", state: "ready" });
  }
  /** @param {{code: string, message: string}} why */
  #attend({ code, message }) {
    if (this.#state === "attention" && this.#attention?.code === code) return;
    this.#state = "attention";
    this.#attention = { code, message };
    this.#tell({ t: "site", state: "attention", code, reason: message });
  }
  // --- models -------------------------------------------------------------------------------------------
  #readModels() {
    const entries6 = readCatalogue(this.#driver.scripts(), this.#catalogue);
    if (entries6 === null) {
      this.#missModels();
      return;
    }
    const models2 = entries6.map(({ model }) => model);
    const text = stringify4(models2);
    if (text === this.#models) return;
    this.#models = text;
    this.#names = new Set(models2.map(({ id }) => id));
    this.#tell({ t: "models", models: models2 });
  }
  /** Only a new chat is known to have a catalogue. */
  #missModels() {
    if (!this.#driver.isNewChat || this.#driver.isLoading || this.#driver.sign()) return;
    const message = `the page has no catalogue (${this.#catalogue})`;
    this.#tell({ t: "notice", code: "site_changed", message });
  }
};
var described = ({ title, text, selector }) => `the page shows "${title ?? text ?? selector}"`;

// src/page.js
var Controller3 = AbortController;
var PART_MS2 = 5e3;
var REQUEST_MS = 15e3;
var PERSON = { code: "upstream_error", message: "its person is using the tab" };
var ATTENTION = ["challenge", "login_required", "consent_required"];
var Stopped = class extends Error {
};
var Job = class {
  /** How far it is. @type {"opening" | "waiting" | "pressed" | "started"} */
  phase = "opening";
  controller = new Controller3();
  signal = this.controller.signal;
  /** @type {import("./tap.js").Expectation | null} */
  expectation = null;
  isPicking = false;
  hasFilled = false;
  prompt = "";
  /** @type {import("./site_rules.js").Attachment[]} */
  attachments = [];
  /** Resolves when its request leaves. @type {Promise<void>} */
  left = new Promise((resolve) => {
    this.leave = resolve;
  });
  /** @param {Task} task @param {any} profile */
  constructor({ job, model, body, mode: mode3, navigated = false }, profile2) {
    this.id = job;
    this.model = model;
    this.body = body;
    this.mode = mode3;
    this.navigated = navigated;
    this.profile = profile2;
    this.stream = new SiteStream({ profile: profile2 });
  }
};
function openPage(options) {
  const page2 = new Page(options);
  return {
    /** Do this. It fails at once (`internal`, not run) while another is in hand. @param {Task} task */
    take: (task) => page2.take(task),
    /** Stop it; nothing more is said of it. @param {string} id a job's */
    cancel: (id) => page2.cancel(id),
    /** From the next job on. @param {any} profile */
    setProfile: (profile2) => page2.setProfile(profile2),
    /** The human says that the page is fine: look again, and say how it is. */
    look: () => page2.look(),
    /** Show the person where to press. */
    focusSend: () => page2.focusSend(),
    /** What a person presses to send. @returns {HTMLElement | null} */
    sendButton: () => page2.sendButton(),
    /** Leave the page as it would be without us. */
    close: () => page2.close()
  };
}
var Page = class {
  #document;
  #setTimeout;
  #clearTimeout;
  #profile;
  #say;
  #driver;
  #tap;
  #watch;
  #chat;
  /** @type {Job | null} */
  #job = null;
  /** The winding up of earlier jobs, which the next one waits for. @type {Promise<unknown>} */
  #wound = Promise.resolve();
  /** The page's document is there, and most of its scripts have run. */
  #wake;
  #awake = new Promise((resolve) => {
    this.#wake = resolve;
  });
  /** The last prompt that left was a job's. */
  #lastWasOurs = false;
  /** A person typed into the composer. */
  #typed = false;
  #closers = [];
  constructor({ window, profile: profile2, say: say2 }) {
    this.#document = window.document;
    this.#setTimeout = window.setTimeout.bind(window);
    this.#clearTimeout = window.clearTimeout.bind(window);
    this.#profile = profile2;
    this.#say = say2;
    this.#tap = new Tap({ window, profile: profile2, heard: (what) => this.#heardStranger(what) });
    this.#driver = new Driver({ window, profile: profile2 });
    this.#chat = new Chat(this.#driver);
    const tell = (message) => this.#tell(message);
    const onSign = (why) => this.#sawSign(why);
    this.#watch = new Watch({ window, driver: this.#driver, profile: profile2, tell, onSign });
    this.#listen();
  }
  // --- the owner's side ---------------------------------------------------------------------------------
  /** @param {Task} task */
  take(task) {
    if (this.#job) {
      const message = "this tab has a job in hand";
      this.#tell({ t: "fail", job: task.job, code: "internal", message, ran: false });
      return;
    }
    this.#job = new Job(task, this.#profile);
    this.#run(this.#job);
  }
  /** @param {string} id */
  cancel(id) {
    const job = this.#job;
    if (job?.id !== id) return;
    this.#job = null;
    job.controller.abort(new Stopped());
    if (job.phase === "pressed" || job.phase === "started") this.#windUp(this.#stop(job));
    else this.#withdraw(job);
  }
  setProfile(profile2) {
    this.#profile = profile2;
    this.#driver.setProfile(profile2);
    this.#tap.setProfile(profile2);
    this.#watch.setProfile(profile2);
  }
  look() {
    this.#watch.lookAnew();
  }
  focusSend() {
    const send = this.#driver.one("send");
    send?.scrollIntoView({ block: "center" });
    send?.focus();
  }
  sendButton() {
    return this.#driver.one("send");
  }
  close() {
    if (this.#job) this.cancel(this.#job.id);
    for (const close of this.#closers) close();
    this.#watch.close();
    this.#tap.close();
  }
  // --- a job up to the press ----------------------------------------------------------------------------
  /** @param {Job} job */
  async #run(job) {
    try {
      await this.#wound;
      await this.#within(PART_MS2, this.#awake);
      job.signal.throwIfAborted();
      this.#read(job);
      this.#checkSite(job);
      await this.#checkPerson(job);
      await this.#chat.prepare(job);
      this.#send(job);
    } catch (error) {
      this.#failed(job, error);
    }
  }
  /** @param {Job} job @param {any} error */
  #failed(job, error) {
    if (this.#job !== job) return;
    this.#withdraw(job);
    if (error instanceof MustNavigate) {
      this.#settle(job, { t: "navigate", url: this.#driver.newChatUrl(job.model) });
    } else if (error instanceof JobFailure) this.#fail(job, error);
    else this.#fail(job, { code: "internal", message: `a bug in the script: ${error?.name}` });
  }
  /** @param {Job} job */
  #read(job) {
    const { prompt, attachments } = promptOf(job.body);
    const { prompt_characters: most } = this.#profile.limits;
    if (prompt.trim() === "") throw new JobFailure("unsupported", "a prompt needs some text");
    if (prompt.length > most) {
      const message = `the site takes at most ${most} characters, and the prompt has ${prompt.length}`;
      throw new JobFailure("context_length_exceeded", message);
    }
    job.prompt = prompt;
    job.attachments = attachments;
  }
  /** @param {Job} job */
  #checkSite(job) {
    this.#watch.look();
    job.signal.throwIfAborted();
    const { attention } = this.#watch;
    if (attention) throw new JobFailure(attention.code, attention.message);
  }
  /** @param {Job} job */
  async #checkPerson(job) {
    const isAnswering = () => this.#driver.one("stop") !== null;
    if (isAnswering() && this.#lastWasOurs) {
      await this.#driver.seen(() => !isAnswering(), PART_MS2, job.signal);
    }
    const isTheirs = isAnswering() && !this.#lastWasOurs;
    this.#typed &&= this.#driver.composed !== "";
    if (isTheirs || this.#tap.isBusy || this.#typed) throw new JobFailure(PERSON.code, PERSON.message);
  }
  /** @param {Job} job */
  #send(job) {
    job.expectation = this.#tap.expect(job.prompt, this.#readerFor(job));
    if (job.mode === "automatic") {
      job.phase = "pressed";
      const timer = this.#setTimeout(() => this.#noRequest(job), REQUEST_MS);
      job.signal.addEventListener("abort", () => this.#clearTimeout(timer));
      this.#driver.click(this.#driver.one("send"));
    } else {
      job.phase = "waiting";
      this.#tell({ t: "waiting", job: job.id, for: "human" });
    }
  }
  /** @param {Job} job */
  #noRequest(job) {
    if (job.phase !== "pressed") return;
    this.#fail(job, this.#driver.siteChanged(`no request ${REQUEST_MS / 1e3} s after the click`));
  }
  // --- the answer ---------------------------------------------------------------------------------------
  /** @param {Job} job @returns {import("./tap.js").Reader} */
  #readerFor(job) {
    return {
      sent: () => this.#sent(job),
      refused: (answer) => this.#refused(job, answer),
      text: (text) => this.#tellAll(job, job.stream.push(text)),
      over: () => this.#tellAll(job, job.stream.end()),
      broke: (error) => this.#broke(job, error)
    };
  }
  /** @param {Job} job */
  #sent(job) {
    this.#lastWasOurs = true;
    this.#chat.wasUsed();
    job.phase = "started";
    job.leave();
    if (this.#job !== job) return;
    this.#tell({ t: "started", job: job.id });
    const { shownModel } = this.#driver;
    if (shownModel !== job.model && this.#watch.offers(shownModel)) {
      this.#fail(job, { code: "upstream_error", message: "another model was chosen in the tab" });
    }
  }
  /** @param {Job} job @param {import("./site_rules.js").Answer} answer */
  #refused(job, answer) {
    if (this.#job !== job) return;
    const failure2 = failureOfAnswer(job.profile, answer);
    const sign = this.#driver.sign();
    if (failure2.code === "model_not_found") this.#chat.isOutdated();
    if (sign && (failure2.code === "site_changed" || failure2.code === "upstream_error")) {
      this.#fail(job, { code: sign.code, message: `${failure2.message}; ${described(sign)}` });
    } else this.#fail(job, failure2);
  }
  /** @param {Job} job @param {any} error */
  #broke(job, error) {
    if (this.#job !== job) return;
    const sign = this.#driver.sign();
    if (error?.name === "AbortError") this.#stoppedByPage(job);
    else if (sign) this.#fail(job, { code: sign.code, message: described(sign) });
    else this.#fail(job, { code: "upstream_error", message: "the connection to the site broke" });
  }
  /** Its stop was pressed, not by us: what there is of the answer is all. @param {Job} job */
  #stoppedByPage(job) {
    const events = job.stream.end();
    if (events.at(-1)?.t === "end") this.#tellAll(job, events);
    else this.#fail(job, { code: "cancelled", message: "the answer was stopped in the tab" });
  }
  /** @param {Job} job @param {import("./site_stream.js").Event[]} events */
  #tellAll(job, events) {
    if (this.#job !== job) return;
    for (const event of merged(events)) {
      if (event.t === "notice") this.#tell(event);
      else if (event.t === "piece") this.#tell({ ...event, job: job.id });
      else this.#settle(job, event);
    }
  }
  // --- the end of a job ---------------------------------------------------------------------------------
  /**
   * @param {Job} job
   * @param {{code: string, message: string, retry_after_s?: number, ran?: false}} failure
   */
  #fail(job, { code, message, retry_after_s, ran }) {
    const fail2 = { t: "fail", code, message };
    if (retry_after_s !== void 0) fail2.retry_after_s = retry_after_s;
    if (job.phase === "opening" || ran === false) fail2.ran = false;
    this.#settle(job, fail2);
  }
  /** @param {Job} job @param {{t: string, [member: string]: any}} message its last */
  #settle(job, message) {
    if (this.#job !== job) return;
    this.#job = null;
    job.controller.abort(new Stopped());
    this.#letGo(job);
    if (ATTENTION.includes(message.code)) this.#watch.refused(message);
    this.#tell({ ...message, job: job.id });
  }
  /** @param {Promise<void>} work */
  #windUp(work) {
    this.#wound = Promise.allSettled([this.#wound, work]);
  }
  /** Read along no more. @param {Job} job */
  #letGo({ expectation }) {
    if (!expectation) return;
    this.#tap.forget(expectation);
    expectation.cancel();
  }
  /** Take back what was done for it in the page. @param {Job} job */
  #withdraw(job) {
    this.#letGo(job);
    this.#windUp(this.#chat.withdraw(job));
  }
  /**
   * Press the page's stop, as soon as it is there, and let go of our branch: the connection ends with both.
   * @param {Job} job
   */
  async #stop(job) {
    await this.#within(PART_MS2, job.left);
    const { signal } = new Controller3();
    const patience = job.phase === "started" ? PART_MS2 : 0;
    const stop = await this.#driver.seen(() => this.#driver.one("stop"), patience, signal);
    if (stop) this.#driver.click(stop);
    this.#letGo(job);
  }
  // --- the page and its person --------------------------------------------------------------------------
  #listen() {
    this.#on("input", (event) => this.#wasTyped(event));
    this.#on("click", (event) => this.#wasClicked(event));
    if (this.#driver.isLoading) this.#on("DOMContentLoaded", () => this.#begin());
    else this.#begin();
  }
  /** Before the page itself hears of it. @param {string} type @param {(event: any) => void} listener */
  #on(type, listener) {
    this.#document.addEventListener(type, listener, true);
    this.#closers.push(() => this.#document.removeEventListener(type, listener, true));
  }
  #begin() {
    this.#wake();
    this.#watch.begin();
  }
  /** A prompt that is not a job's. @param {"sent" | "answered"} what */
  #heardStranger(what) {
    this.#chat.wasUsed();
    this.#lastWasOurs = false;
    if (what === "answered") this.#watch.answered();
    else if (this.#job && this.#job.phase !== "started") this.#wasForestalled(this.#job);
  }
  /** Another prompt left where the job's was expected. @param {Job} job */
  #wasForestalled(job) {
    this.#withdraw(job);
    if (job.phase === "opening" || this.#typed) this.#fail(job, { ...PERSON, ran: false });
    else this.#fail(job, this.#driver.siteChanged("a request left without the prompt in its place"));
  }
  #wasTyped({ isTrusted, target }) {
    if (!isTrusted || !this.#driver.isWithin(target, "composer")) return;
    this.#typed = true;
    const job = this.#job;
    if (job?.phase !== "opening") return;
    if (job.hasFilled) this.#driver.fill(target, "");
    this.#withdraw(job);
    this.#fail(job, PERSON);
  }
  #wasClicked({ target }) {
    const job = this.#job;
    if (job?.phase === "started" && this.#driver.isWithin(target, "stop")) this.#stoppedByPage(job);
  }
  /** No job gets anywhere; one whose prompt has left goes on as far as it can. @param {any} why */
  #sawSign(why) {
    const job = this.#job;
    if (!job || job.phase === "started") return;
    this.#withdraw(job);
    this.#fail(job, why);
  }
  // --- small things -------------------------------------------------------------------------------------
  /** Wait for something, but not for ever. @param {number} ms @param {Promise<void>} event */
  async #within(ms, event) {
    let timer;
    const deadline = new Promise((resolve) => {
      timer = this.#setTimeout(resolve, ms);
    });
    await Promise.race([event, deadline]);
    this.#clearTimeout(timer);
  }
  #tell(message) {
    try {
      this.#say(message);
    } catch {
    }
  }
};
function merged(events) {
  const few = [];
  for (const event of events) {
    const last = few.at(-1);
    if (event.t === "piece" && event.text !== void 0 && last?.text !== void 0) {
      last.text += event.text;
    } else few.push({ ...event });
  }
  return few;
}

// src/drawing.js
var { entries: entries5 } = Object;
var createElement = method(Document.prototype, "createElement");
var createTextNode = method(Document.prototype, "createTextNode");
var append = method(Element.prototype, "append");
var getAttribute = method(Element.prototype, "getAttribute");
var setAttribute = method(Element.prototype, "setAttribute");
var removeAttribute = method(Element.prototype, "removeAttribute");
var textOf2 = getter(CharacterData.prototype, "data");
var setText = setter(CharacterData.prototype, "data");
var listen = method(EventTarget.prototype, "addEventListener");
var Drawing = class {
  #document;
  #follow = [];
  #face = null;
  /** @param {Document} document */
  constructor(document2) {
    this.#document = document2;
  }
  /**
   * An element. An attribute given as a function of the face follows it; null: it is absent.
   * @param {string} tag
   * @param {{[name: string]: string | ((face: Face) => string | null)}} [attributes]
   * @param {...(Node | string)} children
   */
  element(tag, attributes = {}, ...children) {
    const element = createElement(this.#document, tag);
    for (const [name, value] of entries5(attributes)) {
      if (typeof value === "function") this.#attribute(element, name, value);
      else setAttribute(element, name, value);
    }
    append(element, ...children);
    return element;
  }
  /** A text that follows the face. @param {(face: Face) => string} of */
  text(of) {
    const node = createTextNode(this.#document, "");
    this.#follow.push((face) => {
      const text = of(face);
      const isNew = textOf2(node) !== text;
      if (isNew) setText(node, text);
      return isNew;
    });
    return node;
  }
  /**
   * A button that heeds a person alone: a page can make clicks, but no trusted ones.
   * @param {{[name: string]: string | ((face: Face) => string | null)}} attributes
   * @param {(face: Face) => void} press gets the face that the person saw
   * @param {...(Node | string)} children
   */
  button(attributes, press, ...children) {
    const button = this.element("button", { type: "button", ...attributes }, ...children);
    listen(button, "click", (event) => {
      if (event.isTrusted) press(this.#face);
    });
    return button;
  }
  /** Returns whether anything had to be touched. @param {Face} face */
  draw(face) {
    this.#face = face;
    let isTouched = false;
    for (const follow of this.#follow) isTouched = follow(face) || isTouched;
    return isTouched;
  }
  #attribute(element, name, of) {
    this.#follow.push((face) => {
      const value = of(face);
      if (getAttribute(element, name) === value) return false;
      if (value === null) removeAttribute(element, name);
      else setAttribute(element, name, value);
      return true;
    });
  }
};
var when = (is) => (face) => is(face) ? "" : null;
var unless = (is) => (face) => is(face) ? null : "";

// src/panel_card.js
var CORNERS = ["bottom-right", "top-right", "top-left", "bottom-left"];
var LINKS = {
  off: "link_off",
  connecting: "link_connecting",
  socket: "link_socket",
  poll: "link_poll",
  ended: "link_ended"
};
var after = (place) => (place + 1) % CORNERS.length;
function toggle({ drawing, say: say2 }, press) {
  const opened = (face) => String(face.open);
  return drawing.button(
    { class: "toggle", "aria-expanded": opened, "aria-controls": "body" },
    press,
    drawing.element("span", { class: "shape", "aria-hidden": "true" }),
    drawing.element("span", { class: "name" }, say2("name")),
    drawing.element(
      "span",
      { class: "headline" },
      drawing.text((face) => say2(face.situation.name))
    ),
    drawing.element("span", { class: "chevron", "aria-hidden": "true" })
  );
}
function corner({ drawing, say: say2, act: act2 }) {
  const there = (face) => CORNERS[after(face.place)];
  const target = drawing.element("span", { class: "target", "data-corner": there });
  return drawing.button(
    { class: "corner", "aria-label": say2("corner"), title: say2("corner") },
    (face) => act2("corner", after(face.place)),
    drawing.element("span", { class: "screen", "aria-hidden": "true" }, target)
  );
}
var adviceOf = (say2, { situation: situation2, job }) => say2(`${situation2.name}_advice`, { model: job?.model ?? "" });
function advice({ drawing, say: say2, act: act2 }) {
  const reason = ({ situation: situation2, link: link2, site: site2 }) => ({ link: link2, site: site2 })[situation2.because]?.reason ?? "";
  const offers = (name, style) => {
    const isOffered = ({ situation: situation2, installUrl }) => situation2.actions.includes(name) && (name !== "update" || installUrl !== null);
    return drawing.button({ class: style, hidden: unless(isOffered) }, () => act2(name), say2(name));
  };
  const main = ["connect", "update", "done", "show-job"].map((name) => offers(name, "primary"));
  const isAny = ({ situation: situation2 }) => situation2.actions.length > 0;
  return drawing.element(
    "div",
    { class: "advice" },
    drawing.element(
      "p",
      {},
      drawing.text((face) => adviceOf(say2, face))
    ),
    drawing.element("p", { class: "reason", hidden: unless(reason) }, drawing.text(reason)),
    drawing.element("div", { class: "actions", hidden: unless(isAny) }, ...main, offers("again", ""))
  );
}
function fact({ drawing, say: say2 }, name, isKnown, value, more) {
  const aside = more && drawing.element("span", { class: "aside" }, drawing.text(more));
  return drawing.element(
    "div",
    { class: "fact", hidden: unless(isKnown) },
    drawing.element("dt", {}, say2(name)),
    drawing.element("dd", {}, drawing.text(value), ...aside ? [aside] : [])
  );
}
function facts(kit) {
  const { drawing, say: say2 } = kit;
  const link2 = ({ link: { state }, again }) => state === "connecting" && again !== null ? say2("link_unreachable", { time: again }) : say2(LINKS[state]);
  const next = ({ next: next2 }) => next2 === null ? "" : say2("next_at", { time: next2 });
  return drawing.element(
    "dl",
    { class: "facts", hidden: unless((face) => face.configured) },
    fact(
      kit,
      "hub",
      (face) => face.hub !== null,
      (face) => face.hub ?? "",
      link2
    ),
    fact(
      kit,
      "today",
      () => true,
      ({ today, daily }) => say2("today_of", { today, daily })
    ),
    fact(kit, "next", next, next)
  );
}
function mode({ drawing, say: say2, act: act2 }) {
  const choice = (name) => {
    const isChosen = (face) => String(face.mode === name);
    return drawing.button({ "aria-pressed": isChosen }, () => act2("mode", name), say2(name));
  };
  const explained = (face) => say2(face.mode === "automatic" ? "automatic_advice" : "assist_advice");
  const isShown = ({ configured, situation: situation2 }) => configured && !situation2.pops;
  return drawing.element(
    "div",
    { class: "mode", role: "group", "aria-label": say2("mode"), hidden: unless(isShown) },
    drawing.element("span", { "aria-hidden": "true" }, say2("mode")),
    drawing.element("div", { class: "choice" }, choice("assist"), choice("automatic")),
    drawing.element("p", { class: "small" }, drawing.text(explained))
  );
}
function controls({ drawing, say: say2, act: act2 }) {
  const pauses = (face) => face.paused ? "resume" : "pause";
  return drawing.element(
    "div",
    { class: "controls", hidden: unless((face) => face.configured) },
    drawing.button(
      {},
      (face) => act2(pauses(face)),
      drawing.text((face) => say2(pauses(face)))
    ),
    drawing.button({}, () => act2("connect"), say2("settings"))
  );
}
function hint({ drawing }, isGiven, text, ...buttons) {
  const words2 = drawing.element("p", {}, drawing.text(text));
  return drawing.element("div", { class: "hint", hidden: unless(isGiven) }, words2, ...buttons);
}
function hints(kit) {
  const { drawing, say: say2, act: act2 } = kit;
  const isNewer2 = ({ newer: newer2, situation: situation2 }) => newer2 !== null && !situation2.actions.includes("update");
  const update = drawing.button(
    { hidden: unless((face) => face.installUrl !== null) },
    () => act2("update"),
    say2("update")
  );
  const faster = drawing.button({}, () => act2("faster"), say2("faster"));
  return [
    hint(
      kit,
      (face) => face.canSpeedUp,
      () => say2("faster_advice"),
      faster
    ),
    hint(kit, isNewer2, ({ newer: newer2 }) => say2("newer_advice", { newer: newer2 ?? "" }), update)
  ];
}
function foot({ drawing, say: say2 }) {
  const version = drawing.text((face) => say2("version", { version: face.version }));
  return drawing.element(
    "div",
    { class: "foot small" },
    drawing.element("p", {}, say2("terms")),
    drawing.element("p", {}, version)
  );
}
function card(kit, head) {
  const { drawing, say: say2 } = kit;
  const body = [advice(kit), facts(kit), mode(kit), controls(kit), ...hints(kit), foot(kit)];
  return drawing.element(
    "section",
    {
      class: "panel",
      lang: say2("language"),
      "aria-label": say2("title"),
      "data-open": when((face) => face.open),
      "data-tone": (face) => face.situation.tone,
      "data-corner": (face) => CORNERS[face.place]
    },
    drawing.element("div", { class: "head" }, head, corner(kit)),
    drawing.element("div", { class: "body", id: "body" }, ...body)
  );
}
function spoken({ drawing, say: say2 }) {
  const text = (face) => {
    const headline = say2(face.situation.name);
    return face.situation.pops ? say2("spoken", { headline, advice: adviceOf(say2, face) }) : headline;
  };
  const status2 = { class: "spoken", role: "status", lang: say2("language") };
  return drawing.element("div", status2, drawing.text(text));
}

// src/panel_style.js
var STYLE = `
/* Important rules inside a shadow root win over the page's: its styles neither reach nor move us. */
:host {
  all: initial !important;
  direction: ltr !important;
  position: fixed !important;
  inset: 0 auto auto 0 !important;
  z-index: 2147483647 !important;
}
@media print { :host { display: none !important; } }

.panel {
  --surface: #ffffff; --text: #1b2027; --muted: #59616e; --line: #d8dde4; --soft: #f2f4f7; --edge: #848c99;
  --accent: #0b6b66; --on-accent: #ffffff;
  --need: #a8480b; --need-soft: #fdf1e4; --stop: #b3261e; --stop-soft: #fcecea;
  --shadow: 0 1px 2px rgb(15 23 42 / .12), 0 10px 28px rgb(15 23 42 / .16);
  box-sizing: border-box;
  position: fixed;
  max-width: calc(100vw - 24px);
  max-height: calc(100dvh - 24px);
  overflow: auto;
  overscroll-behavior: contain;
  color: var(--text);
  background: var(--surface);
  border: 1px solid var(--line);
  border-radius: 18px;
  box-shadow: var(--shadow);
  color-scheme: light dark;
  font: 13px/1.45 system-ui, -apple-system, "Segoe UI", "PingFang SC", "Microsoft YaHei", sans-serif;
  overflow-wrap: anywhere;
}
@media (prefers-color-scheme: dark) {
  .panel {
    --surface: #1a1e25; --text: #e7eaef; --muted: #a3abb8; --line: #363d49; --soft: #252b34; --edge: #7b8492;
    --accent: #5ccfc3; --on-accent: #05211e;
    --need: #f5b14c; --need-soft: #33280f; --stop: #ff8f84; --stop-soft: #3a1f1d;
    --shadow: 0 1px 2px rgb(0 0 0 / .5), 0 10px 28px rgb(0 0 0 / .5);
  }
}
.panel[data-open] { width: 280px; border-radius: 14px; }
.panel[data-corner^="bottom"] { bottom: 16px; }
.panel[data-corner^="top"] { top: 16px; }
.panel[data-corner$="right"] { right: 16px; }
.panel[data-corner$="left"] { left: 16px; }
@media (max-width: 400px) {
  .panel[data-corner$="right"] { right: 12px; }
  .panel[data-corner$="left"] { left: 12px; }
}

[hidden], .panel:not([data-open]) .body, .panel:not([data-open]) .corner { display: none !important; }

button {
  appearance: none;
  box-sizing: border-box;
  min-height: 30px;
  margin: 0;
  padding: 4px 12px;
  border: 1px solid var(--edge);
  border-radius: 8px;
  color: inherit;
  background: transparent;
  font: inherit;
  text-align: center;
  cursor: pointer;
}
button:hover { background: var(--soft); }
button:active { transform: translateY(1px); }
button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
p, dl, dd { margin: 0; }

.head { display: flex; align-items: center; }
.toggle {
  display: flex;
  flex: 1;
  align-items: center;
  gap: 8px;
  min-height: 34px;
  padding: 6px 12px;
  border: 0;
  border-radius: 17px;
  text-align: start;
}
.toggle:focus-visible, .corner:focus-visible { outline-offset: -3px; }
.panel[data-open] .toggle { min-height: 44px; padding-inline-start: 14px; border-radius: 13px; }
.name { color: var(--muted); }
.headline { font-weight: 600; }
.chevron {
  flex: none;
  width: 6px; height: 6px;
  margin-inline-start: auto;
  border: solid var(--muted);
  border-width: 0 1.5px 1.5px 0;
}
.panel[data-corner^="bottom"]:not([data-open]) .chevron, .panel[data-corner^="top"][data-open] .chevron {
  transform: translateY(1px) rotate(-135deg);
}
.panel[data-corner^="top"]:not([data-open]) .chevron, .panel[data-corner^="bottom"][data-open] .chevron {
  transform: translateY(-2px) rotate(45deg);
}
.corner {
  display: grid;
  flex: none;
  place-items: center;
  width: 34px;
  min-height: 34px;
  padding: 0;
  border: 0;
}
.panel[data-open] .corner { margin-inline-end: 6px; }
.screen {
  position: relative;
  width: 15px; height: 12px;
  border: 1.5px solid var(--muted);
  border-radius: 3px;
}
.target { position: absolute; width: 5px; height: 4px; border-radius: 1px; background: var(--muted); }
.target[data-corner^="bottom"] { bottom: 1px; }
.target[data-corner^="top"] { top: 1px; }
.target[data-corner$="right"] { right: 1px; }
.target[data-corner$="left"] { left: 1px; }

/* A tone is a shape before it is a colour: dot, ring, bars, triangle, square. */
.shape { flex: none; box-sizing: border-box; width: 12px; height: 12px; forced-color-adjust: none; }
[data-tone="good"] .shape { border-radius: 50%; background: var(--accent); }
[data-tone="busy"] .shape {
  border: 3px solid var(--accent);
  border-radius: 50%;
  animation: breathe 1.8s ease-in-out infinite;
}
[data-tone="rest"] .shape { border: solid var(--edge); border-width: 0 4px; }
[data-tone="need"] .shape { background: var(--need); clip-path: polygon(50% 2%, 100% 96%, 0 96%); }
[data-tone="stop"] .shape { border-radius: 2px; background: var(--stop); }
[data-tone="need"] .headline { color: var(--need); }
[data-tone="stop"] .headline { color: var(--stop); }
@keyframes breathe { 50% { opacity: .35; } }
@media (prefers-reduced-motion: reduce) { [data-tone="busy"] .shape { animation: none; } }

.body { display: grid; gap: 12px; padding: 0 14px 14px; }
.advice { display: grid; gap: 8px; color: var(--muted); }
[data-tone="need"] .advice, [data-tone="stop"] .advice {
  padding: 10px 12px;
  border-radius: 10px;
  color: var(--text);
}
[data-tone="need"] .advice { background: var(--need-soft); }
[data-tone="stop"] .advice { background: var(--stop-soft); }
.reason { font-size: 12px; color: var(--muted); }
.actions { display: flex; flex-wrap: wrap; gap: 8px; }
.primary {
  border-color: var(--accent);
  color: var(--on-accent);
  background: var(--accent);
  font-weight: 600;
}
.primary:hover { background: var(--accent); filter: brightness(1.08); }

.facts { display: grid; grid-template-columns: auto 1fr; gap: 3px 14px; }
.fact { display: contents; }
dt { color: var(--muted); }
dd { text-align: end; font-variant-numeric: tabular-nums; }
.aside { display: block; color: var(--muted); }

.mode { display: grid; gap: 6px; }
.choice, .controls { display: grid; grid-template-columns: 1fr 1fr; }
.choice { padding: 2px; border-radius: 10px; background: var(--soft); }
.choice button { border-color: transparent; color: var(--muted); }
.choice button[aria-pressed="true"] {
  border-color: var(--edge);
  color: var(--text);
  background: var(--surface);
  font-weight: 600;
}
@media (forced-colors: active) {
  .choice button[aria-pressed="true"] {
    color: HighlightText;
    background: Highlight;
    forced-color-adjust: none;
  }
  .target { forced-color-adjust: none; background: CanvasText; }
}
.controls { gap: 8px; }
.small { font-size: 12px; color: var(--muted); }
.hint { display: grid; gap: 8px; justify-items: start; padding-top: 12px; border-top: 1px solid var(--line); }

.foot { display: grid; gap: 2px; padding-top: 10px; border-top: 1px solid var(--line); }

/* For ears only. */
.spoken {
  position: fixed;
  width: 1px; height: 1px;
  overflow: hidden;
  clip-path: inset(50%);
  white-space: nowrap;
}
`;

// src/situation.js
var { freeze: freeze5, hasOwn: hasOwn5 } = Object;
var situation = (name, tone, { pops = false, because = null, actions = [] } = {}) => freeze5({ name, tone, pops, because, actions: freeze5(actions) });
var stopped = (name, ...actions) => situation(name, "stop", { pops: true, actions });
var asked = (name, ...actions) => situation(name, "need", { pops: true, because: "site", actions });
var SITUATIONS = freeze5({
  unconfigured: situation("unconfigured", "need", { pops: true, actions: ["connect"] }),
  unauthorized: stopped("unauthorized", "connect"),
  replaced: stopped("replaced", "again"),
  removed: stopped("removed", "again"),
  outdated: stopped("outdated", "update", "again"),
  ended: situation("ended", "stop", { pops: true, because: "link", actions: ["again"] }),
  challenge: asked("challenge", "done"),
  login_required: asked("login_required", "done"),
  consent_required: asked("consent_required", "done"),
  site_changed: asked("site_changed"),
  attention: asked("attention", "done"),
  waiting: situation("waiting", "need", { pops: true, actions: ["show-job"] }),
  opening: situation("opening", "busy"),
  sent: situation("sent", "busy"),
  answering: situation("answering", "busy"),
  paused: situation("paused", "rest"),
  off: situation("off", "rest", { actions: ["again"] }),
  connecting: situation("connecting", "busy"),
  unreachable: situation("unreachable", "rest", { because: "link", actions: ["again"] }),
  loading: situation("loading", "busy"),
  late: situation("late", "need"),
  exhausted: situation("exhausted", "rest"),
  cooling: situation("cooling", "rest"),
  ready: situation("ready", "good")
});
var ENDED = freeze5({
  unauthorized: "unauthorized",
  replaced: "replaced",
  removed: "removed",
  unsupported_protocol: "outdated",
  bad_hello: "outdated"
});
var SITE = freeze5({
  challenge: "challenge",
  login_required: "login_required",
  consent_required: "consent_required",
  site_changed: "site_changed"
});
var JOB = freeze5({ opening: "opening", waiting: "waiting", sent: "sent", answering: "answering" });
var among = (table, name, otherwise) => hasOwn5(table, name) ? table[name] : otherwise;
function nameOf3({ configured, link: link2, site: site2, job, paused, late, today, daily, next_in_s }) {
  if (!configured) return "unconfigured";
  if (link2.state === "ended") return among(ENDED, link2.reason, "ended");
  if (site2.state === "attention") return among(SITE, site2.code, "attention");
  if (job !== null) return among(JOB, job.phase, "answering");
  if (paused) return "paused";
  if (link2.state === "off") return "off";
  if (link2.state === "connecting") return link2.again_in_s > 0 ? "unreachable" : "connecting";
  if (site2.state === "loading") return "loading";
  if (late) return "late";
  if (today >= daily) return "exhausted";
  if (next_in_s > 0) return "cooling";
  return "ready";
}
var situationOf = (view) => SITUATIONS[nameOf3(view)];

// src/words.js
var { freeze: freeze6, hasOwn: hasOwn6 } = Object;
var { DateTimeFormat, NumberFormat, Locale } = Intl;
var NativeDate = Date;
var en = freeze6({
  language: "en",
  title: "LMArena Bridge",
  name: "Bridge",
  unconfigured: "Set up",
  unconfigured_advice: "Enter your hub's address and worker token.",
  unauthorized: "Token not accepted",
  unauthorized_advice: "The hub does not accept this worker token. Get a new one, then enter it here.",
  replaced: "Replaced",
  replaced_advice: "Another tab has taken this one's place at the hub. Questions go there now.",
  removed: "Removed",
  removed_advice: "The hub's operator has removed this tab. If that was a mistake, connect again.",
  outdated: "Update needed",
  outdated_advice: "The hub and this script do not understand each other. Update it in your userscript manager.",
  ended: "Disconnected",
  ended_advice: "The hub has ended the connection.",
  challenge: "Security check",
  challenge_advice: "The site asks for a security check. Do it in this page; then press Done. Each try by a script would make it longer, so I wait.",
  login_required: "Sign-in needed",
  login_required_advice: "The site asks you to sign in. Do it in this page; then press Done.",
  consent_required: "Consent needed",
  consent_required_advice: "The site asks for your consent. Read and answer it in this page; then press Done.",
  site_changed: "Site changed",
  site_changed_advice: "The site is not what this script knows. You cannot mend it here: tell your hub's operator, and update the script when a new version is out.",
  attention: "Look at the page",
  attention_advice: "The site wants something from you. See to it in this page; then press Done.",
  waiting: "Your turn",
  waiting_advice: "A question for {model} is in the box: read it and press the site's send button.",
  opening: "Opening a chat",
  opening_advice: "A question for {model} has come.",
  sent: "Question sent",
  sent_advice: "{model} has the question.",
  answering: "Answering",
  answering_advice: "{model} answers; the page shows it as always.",
  paused: "Paused",
  paused_advice: "This tab takes no questions until you resume.",
  off: "Not connected",
  off_advice: "This tab takes no questions.",
  connecting: "Connecting",
  connecting_advice: "Questions come once the hub has answered.",
  unreachable: "No connection",
  unreachable_advice: "The hub does not answer. I try again by myself.",
  loading: "Page is loading",
  loading_advice: "Questions come once the page is there.",
  late: "Reload the page",
  late_advice: "The script started after the page, and may have missed something. Reload the page.",
  exhausted: "Done for today",
  exhausted_advice: "This tab has sent as many questions as a day allows.",
  cooling: "Short break",
  cooling_advice: "A pause between questions, so as not to crowd the site.",
  ready: "Ready",
  ready_advice: "Waiting for a question.",
  spoken: "{headline}. {advice}",
  ask_address: "The address of your hub, such as https://hub.example.org",
  ask_token: "A worker token of that hub",
  wrong_address: "That is no address of a hub: it begins with https:// or http:// and holds no secrets.",
  wrong_token: "That is no worker token: it is one word of letters, digits and signs.",
  connect: "Enter address and token",
  again: "Connect again",
  done: "Done",
  "show-job": "Go to the send button",
  update: "Update",
  hub: "Hub",
  link_off: "not connected",
  link_connecting: "connecting",
  link_unreachable: "next try at {time}",
  link_socket: "connected",
  link_poll: "connected by polling",
  link_ended: "connection ended",
  today: "Today",
  today_of: "{today} of {daily}",
  next: "Next question",
  next_at: "at {time}",
  mode: "Who presses send?",
  assist: "I do",
  automatic: "The script",
  assist_advice: "You read each question, then press the site's send button.",
  automatic_advice: "The script presses the site's send button for you.",
  pause: "Pause",
  resume: "Resume",
  newer_advice: "Version {newer} is out: update in your userscript manager.",
  faster_advice: "Your hub is on this computer. For a faster link the browser will ask for your permission.",
  faster: "Use the faster link",
  terms: "You answer for this tab under the site's terms.",
  version: "Version {version}",
  settings: "Change hub",
  corner: "Move to another corner"
});
var zh = freeze6({
  language: "zh-Hans",
  title: "LMArena Bridge",
  name: "Bridge",
  unconfigured: "待设置",
  unconfigured_advice: "请填写中枢地址和工作令牌。",
  unauthorized: "令牌无效",
  unauthorized_advice: "中枢不再接受这个工作令牌。请获取新令牌，然后在这里填写。",
  replaced: "已被取代",
  replaced_advice: "另一个标签页已取代本页与中枢的连接，问题现在由它回答。",
  removed: "已被移除",
  removed_advice: "中枢管理员移除了本标签页。如果是误操作，请重新连接。",
  outdated: "需要更新",
  outdated_advice: "中枢与本脚本的版本互不兼容。请在用户脚本管理器中更新脚本。",
  ended: "连接已断开",
  ended_advice: "中枢结束了连接。",
  challenge: "安全验证",
  challenge_advice: "网站要求安全验证。请在本页完成，然后按“完成”。脚本每尝试一次都会延长验证，所以我会等你。",
  login_required: "需要登录",
  login_required_advice: "网站要求登录。请在本页登录，然后按“完成”。",
  consent_required: "需要你的同意",
  consent_required_advice: "网站请求你的同意。请在本页阅读并作答，然后按“完成”。",
  site_changed: "网站已改版",
  site_changed_advice: "网站与脚本所知的不同。你无法在这里解决：请告知中枢管理员，并在新版本发布后更新脚本。",
  attention: "请查看页面",
  attention_advice: "网站需要你处理一件事。请在本页处理，然后按“完成”。",
  waiting: "轮到你了",
  waiting_advice: "发给 {model} 的问题已填入输入框：请阅读，然后按网站的发送按钮。",
  opening: "正在打开对话",
  opening_advice: "收到一个发给 {model} 的问题。",
  sent: "问题已发送",
  sent_advice: "{model} 已收到问题。",
  answering: "正在回答",
  answering_advice: "{model} 正在回答，页面照常显示。",
  paused: "已暂停",
  paused_advice: "在你恢复之前，本标签页不接收问题。",
  off: "未连接",
  off_advice: "本标签页不接收问题。",
  connecting: "正在连接",
  connecting_advice: "中枢应答后即可接收问题。",
  unreachable: "无法连接",
  unreachable_advice: "中枢没有应答。我会自动重试。",
  loading: "页面加载中",
  loading_advice: "页面就绪后即可接收问题。",
  late: "请刷新页面",
  late_advice: "脚本在页面之后才启动，可能有所遗漏。请刷新页面。",
  exhausted: "今日已满",
  exhausted_advice: "本标签页今天发送的问题已达上限。",
  cooling: "稍作休息",
  cooling_advice: "两个问题之间稍作停顿，以免给网站造成拥挤。",
  ready: "就绪",
  ready_advice: "正在等待问题。",
  spoken: "{headline}。{advice}",
  ask_address: "中枢的地址，例如 https://hub.example.org",
  ask_token: "该中枢的工作令牌",
  wrong_address: "这不是中枢的地址：地址以 https:// 或 http:// 开头，且不含任何密钥。",
  wrong_token: "这不是工作令牌：令牌是由字母、数字和符号组成的一个词。",
  connect: "填写地址和令牌",
  again: "重新连接",
  done: "完成",
  "show-job": "转到发送按钮",
  update: "更新",
  hub: "中枢",
  link_off: "未连接",
  link_connecting: "正在连接",
  link_unreachable: "{time} 重试",
  link_socket: "已连接",
  link_poll: "已连接（轮询）",
  link_ended: "连接已结束",
  today: "今日",
  today_of: "{today} / {daily}",
  next: "下一个问题",
  next_at: "{time}",
  mode: "由谁按发送？",
  assist: "我来按",
  automatic: "脚本",
  assist_advice: "你阅读每个问题，然后按网站的发送按钮。",
  automatic_advice: "脚本会替你按网站的发送按钮。",
  pause: "暂停",
  resume: "恢复",
  newer_advice: "版本 {newer} 已发布：请在用户脚本管理器中更新。",
  faster_advice: "你的中枢就在这台电脑上。要使用更快的连接，浏览器会请求你的许可。",
  faster: "使用更快的连接",
  terms: "根据网站条款，你对本标签页负责。",
  version: "版本 {version}",
  settings: "更换中枢",
  corner: "移到另一个角落"
});
var TABLES = freeze6({ en, zh });
var PLACE = /\{(\w+)\}/g;
function tableFor(language) {
  const [spoken2] = language.toLowerCase().split(/[-_]/);
  return hasOwn6(TABLES, spoken2) ? spoken2 : "en";
}
function localeFor(language, table) {
  try {
    const locale = new Locale(language);
    return locale.language === table ? locale.baseName : table;
  } catch {
    return table;
  }
}
function clock(locale) {
  const time = { hour: "numeric", minute: "2-digit", second: "2-digit" };
  const soon = new DateTimeFormat(locale, time);
  const later2 = new DateTimeFormat(locale, { ...time, weekday: "short" });
  return (date) => {
    const today = date.toDateString() === new NativeDate().toDateString();
    return (today ? soon : later2).format(date);
  };
}
function words(language) {
  const name = tableFor(language);
  const locale = localeFor(language, name);
  const number = new NumberFormat(locale);
  const time = clock(locale);
  const write = (value) => {
    if (typeof value === "number") return number.format(value);
    return value instanceof NativeDate ? time(value) : value;
  };
  return (key, values2 = {}) => {
    if (!hasOwn6(TABLES[name], key)) throw new RangeError(`no words for ${key}`);
    return TABLES[name][key].replace(PLACE, (_, place) => write(values2[place]));
  };
}

// src/panel.js
var { abs, ceil: ceil2, max: max4 } = Math;
var { now: now4 } = Date;
var NativeDate2 = Date;
var NativeMutationObserver = MutationObserver;
var NativeStyleSheet = CSSStyleSheet;
var createElement2 = method(Document.prototype, "createElement");
var documentElementOf = getter(Document.prototype, "documentElement");
var append2 = method(Element.prototype, "append");
var appendToRoot = method(DocumentFragment.prototype, "append");
var attachShadow = method(Element.prototype, "attachShadow");
var boxOf = method(Element.prototype, "getBoundingClientRect");
var remove = method(Element.prototype, "remove");
var isVisible = method(Element.prototype, "checkVisibility");
var focus = method(HTMLElement.prototype, "focus");
var parentOf = getter(Node.prototype, "parentNode");
var focusedIn = getter(ShadowRoot.prototype, "activeElement");
var listen2 = method(EventTarget.prototype, "addEventListener");
var unlisten = method(EventTarget.prototype, "removeEventListener");
var stopPropagation = method(Event.prototype, "stopPropagation");
var observe = method(MutationObserver.prototype, "observe");
var disconnect = method(MutationObserver.prototype, "disconnect");
var ROOM = { width: 312, height: 440 };
var MARGINS = 32;
var OURS_ALONE = [
  ...["click", "dblclick", "auxclick", "contextmenu", "pointerdown", "pointerup", "mousedown", "mouseup"],
  ...["touchstart", "touchmove", "touchend", "wheel", "keydown", "keypress", "keyup", "focusin", "focusout"]
];
var RETURNS = 10;
function moment() {
  let held = 0;
  return (inSeconds) => {
    const at = inSeconds > 0 ? ceil2(now4() / 1e3 + inSeconds) * 1e3 : 0;
    if (at === 0 || abs(at - held) >= 2e3) held = at;
    return held === 0 ? null : new NativeDate2(held);
  };
}
function covers(corner3, height, box, { innerWidth, innerHeight }) {
  const across = corner3.endsWith("right") ? box.right > innerWidth - ROOM.width : box.left < ROOM.width;
  const along = corner3.startsWith("bottom") ? box.bottom > innerHeight - height : box.top < height;
  return across && along;
}
var Panel = class {
  #document;
  #window;
  #act;
  #clear;
  #drawing;
  #host;
  #root;
  #toggle;
  #card;
  #view = null;
  /** The situation that the person folded away: it opens the panel no more. */
  #foldedAway = "";
  /** Where a panel is that nobody has moved. */
  #place = 0;
  #again = moment();
  #next = moment();
  #returns = RETURNS;
  #observer = new NativeMutationObserver(() => this.#comeBack());
  #onResize = () => {
    if (this.#view !== null) this.#makeWay();
  };
  constructor({ document: document2, language, act: act2, clear = () => null }) {
    this.#document = document2;
    this.#window = document2.defaultView;
    this.#act = act2;
    this.#clear = clear;
    this.#drawing = new Drawing(document2);
    const kit = { drawing: this.#drawing, say: words(language), act: act2 };
    this.#toggle = toggle(kit, (face) => this.#onToggle(face));
    this.#host = createElement2(document2, "div");
    this.#card = card(kit, this.#toggle);
    this.#root = this.#closedRoot(this.#card, spoken(kit));
    listen2(this.#window, "resize", this.#onResize);
    observe(this.#observer, document2, { childList: true });
  }
  /** @param {View} view */
  show(view) {
    this.#view = view;
    this.#returns = RETURNS;
    this.#attach();
    this.#draw();
  }
  close() {
    this.#view = null;
    disconnect(this.#observer);
    unlisten(this.#window, "resize", this.#onResize);
    remove(this.#host);
  }
  /** Focus stays where it is; if its button went away it goes to the one that never does. */
  #draw() {
    const focused = focusedIn(this.#root);
    if (this.#drawing.draw(this.#face())) this.#makeWay();
    if (focused !== null && !isVisible(focused)) focus(this.#toggle, { preventScroll: true });
  }
  #face() {
    const view = this.#view;
    const situation2 = situationOf(view);
    if (this.#foldedAway !== situation2.name) this.#foldedAway = "";
    const open2 = !view.folded || situation2.pops && this.#foldedAway === "";
    const place = view.corner ?? this.#place;
    const again = this.#again(view.link.again_in_s ?? 0);
    return { ...view, situation: situation2, open: open2, place, again, next: this.#next(view.next_in_s) };
  }
  #onToggle({ open: open2, situation: situation2 }) {
    if (open2) this.#foldedAway = situation2.name;
    this.#act(open2 ? "fold" : "unfold");
    if (this.#view !== null) this.#draw();
  }
  /** A panel that nobody has moved goes to a corner in which it covers nothing that must stay clear. */
  #makeWay() {
    const element = this.#clear();
    if (element === null) return;
    const box = boxOf(element);
    const height = max4(ROOM.height, boxOf(this.#card).height + MARGINS);
    const isClear = (place) => !covers(CORNERS[place], height, box, this.#window);
    this.#place = [this.#place, 0, 1, 2, 3].find(isClear) ?? 0;
    this.#drawing.draw(this.#face());
  }
  #closedRoot(...children) {
    const root = attachShadow(this.#host, { mode: "closed" });
    const sheet = new NativeStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    for (const event of OURS_ALONE) listen2(root, event, stopPropagation, { passive: true });
    appendToRoot(root, ...children);
    return root;
  }
  /** At the document's start there may be no element yet; later the page may throw us out with all it has. */
  #attach() {
    const element = documentElementOf(this.#document);
    if (this.#view === null || element === null || parentOf(this.#host) === element) return false;
    append2(element, this.#host);
    observe(this.#observer, element, { childList: true });
    return true;
  }
  #comeBack() {
    if (this.#returns > 0 && this.#attach()) this.#returns -= 1;
  }
};
function openPanel(options) {
  const panel2 = new Panel(options);
  return { show: (view) => panel2.show(view), close: () => panel2.close() };
}

// src/poll_link.js
var { apply: apply5 } = Reflect;
var { freeze: freeze7 } = Object;
var { max: max5, min: min4, random: random2 } = Math;
var { queueMicrotask } = globalThis;
var LocalPromise3 = Promise;
var { race } = LocalPromise3;
var POLL_PACE = freeze7({
  hello_s: 15,
  answer_s: 10,
  grace_s: 2,
  batch_s: 0.1,
  overtake_s: 0.02,
  retry_first_s: 0.1,
  retry_longest_s: 5,
  patience_s: 30,
  bye_s: 3,
  proof_s: 5
});
var MAX_FLIGHTS = 2;
var MAX_NEXT_S = 3600;
var LONG_AGO = -Infinity;
var unasked = () => true;
var GIVEN_UP = freeze7(ended("dropped", "it was given up"));
function byUserscriptManager(GM_xmlhttpRequest2) {
  return ({ method: method2, url, headers, body, timeout_ms }) => {
    let call;
    const answer = new LocalPromise3((resolve, reject) => {
      call = GM_xmlhttpRequest2({
        __proto__: null,
        method: method2,
        url,
        headers,
        data: body,
        timeout: timeout_ms,
        anonymous: true,
        onload: ({ status: status2, responseText, responseHeaders }) => resolve({ status: status2, text: responseText ?? "", headers: responseHeaders ?? "" }),
        onerror: () => reject(new Error("no answer")),
        ontimeout: () => reject(new Error("no answer in time")),
        onabort: () => reject(new Error("given up"))
      });
    });
    return { answer, abort: () => call?.abort?.() };
  };
}
var Refused = class extends Error {
  /** @param {Ended} end */
  constructor(end2) {
    super(end2.reason);
    this.end = end2;
  }
};
var Passing = class extends Error {
  /** @param {string} message @param {number} [retry_after_s] */
  constructor(message, retry_after_s = 0) {
    super(message);
    this.retry_after_s = retry_after_s;
  }
};
var Door = class {
  #hub;
  #credentials;
  #request;
  #clock;
  #pace;
  #flights = /* @__PURE__ */ new Set();
  constructor(hub, { credentials: credentials2, request: request2, clock: clock3, pace }) {
    this.#hub = hub;
    this.#credentials = credentials2;
    this.#request = request2;
    this.#clock = clock3;
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
      timeout_ms: limit_s * 1e3
    });
    const { status: status2, text, headers } = await this.#landing(flight, limit_s);
    if (status2 === 200) return text;
    const end2 = closedByAnswer({ status: status2, text, headers });
    if (end2 !== null) throw new Refused(end2);
    throw new Passing(`HTTP ${status2}`, retryAfter(headers));
  }
  /** Let go of all that are under way. */
  ground() {
    for (const giveUp of [...this.#flights]) giveUp();
  }
  /** The flight's answer, or Passing; a manager that forgets a request is not waited for. */
  async #landing({ answer, abort }, limit_s) {
    let giveUp;
    const givenUp = new LocalPromise3((resolve, reject) => {
      giveUp = () => {
        reject(new Passing("given up"));
        abort();
      };
    });
    const late = this.#clock.setTimeout(giveUp, (limit_s + this.#pace.grace_s) * 1e3);
    this.#flights.add(giveUp);
    try {
      return await apply5(race, LocalPromise3, [[answer, givenUp]]);
    } catch (error) {
      throw error instanceof Passing ? error : new Passing(`${error?.message ?? error}`);
    } finally {
      this.#clock.clearTimeout(late);
      this.#flights.delete(giveUp);
    }
  }
};
var Exchanges = class {
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
  over = () => {
  };
  /**
   * @param {Door} door
   * @param {Session} session
   * @param {import("./protocol.js").Welcome} welcome
   * @param {{clock: Clock, pace: PollPace}} more
   */
  constructor(door, session, { session: id, connection, exchange }, { clock: clock3, pace }) {
    this.#door = door;
    this.#session = session;
    this.#clock = clock3;
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
      this.#pace.proof_s * 1e3
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
    if (this.#session.hasUnsent) return this.#leftAt + this.#batch_s() * 1e3;
    if (this.#inFlight > 0) return null;
    return this.#landedAt + (this.#session.busy > 0 ? NEXT_S_BUSY : this.#next_s) * 1e3;
  }
  #batch_s() {
    if (this.#next_s > 0) return this.#pace.batch_s;
    return this.#inFlight > 0 ? this.#pace.overtake_s : 0;
  }
  #depart() {
    this.#leftAt = this.#clock.now();
    const body = this.#session.packet({ extra: this.#extra, everything: true });
    this.#inFlight += 1;
    this.#exchange(body, this.#pace.answer_s + (this.#session.busy > 0 ? 0 : this.#wait_s));
    this.#turn();
  }
  /** @param {string} body @param {number} limit_s */
  async #exchange(body, limit_s) {
    let text = null;
    let failure2 = null;
    try {
      text = await this.#door.post("exchange", body, limit_s);
    } catch (error) {
      failure2 = error;
    }
    this.#inFlight -= 1;
    if (this.#isOver || this.#isLeaving) return;
    this.#guarded(() => {
      if (failure2 === null) this.#arrived(decodeHubPacket(text));
      else this.#failed(failure2);
    });
    this.#turn();
  }
  /** @param {import("./protocol.js").HubPacket} packet */
  #arrived(packet) {
    this.#failures = 0;
    this.#landedAt = this.#clock.now();
    const wasHeld = this.#landedAt - this.#leftAt > NEXT_S_BUSY * 1e3 || packet.frames.length > 0;
    this.#next_s = min4(max5(packet.next_s, 0), MAX_NEXT_S);
    this.#session.receive(packet);
    if (this.#isProven()) this.#clock.clearTimeout(this.#proof);
    if (this.#next_s === 0 && !wasHeld) this.#landedAt += NEXT_S_BUSY * 500;
  }
  /** @param {Error} error */
  #failed(error) {
    if (!(error instanceof Passing)) throw error;
    const now5 = this.#clock.now();
    if (this.#failures === 0) this.#failingSince = now5;
    else if (now5 - this.#failingSince > this.#pace.patience_s * 1e3) {
      this.#end(ended("lost", `polling broke (${error.message})`));
      return;
    }
    const ceiling = min4(this.#pace.retry_longest_s, this.#pace.retry_first_s * 2 ** this.#failures);
    const jittered = ceiling / 2 * (1 + random2());
    this.#retryAt = now5 + max5(error.retry_after_s, jittered) * 1e3;
    this.#failures = min4(this.#failures + 1, 20);
  }
  async #sayGoodbye() {
    const session = this.#session;
    const reason = session.leaving;
    this.#isLeaving = true;
    this.#door.ground();
    const bye2 = encode({ ...this.#ids, reason });
    try {
      await this.#sayTheRest();
      await this.#door.post("bye", bye2, this.#pace.bye_s);
    } catch (error) {
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
      if (!(error instanceof Passing)) throw error;
    }
  }
  /** Do it; a refusal ends the link, and a breach of the protocol the session too. @param {() => void} act */
  #guarded(act2) {
    try {
      act2();
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
  #end(end2) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#clock.clearTimeout(this.#timer);
    this.#clock.clearTimeout(this.#proof);
    this.#door.ground();
    this.#session.disconnected(this.wake);
    this.over({ ...end2, welcomed: true });
  }
};
var PollLink = class {
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
  constructor({ credentials: credentials2, request: request2, clock: clock3, pace = POLL_PACE }) {
    this.#parts = { __proto__: null, credentials: credentials2, request: request2, clock: clock3, pace };
  }
  /**
   * Say hello, then exchange packets until the connection ends.
   * @param {Session} session
   * @param {() => void} [welcomed] called at the welcome
   * @returns {Promise<Ended>}
   */
  async carry(session, welcomed = () => {
  }) {
    const { credentials: credentials2, pace } = this.#parts;
    const door = new Door(credentials2.hub(), this.#parts);
    this.#door = door;
    let exchanges;
    try {
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
    return new LocalPromise3((resolve) => {
      exchanges.over = (end2) => {
        if (this.#exchanges === exchanges) this.#exchanges = null;
        resolve(end2);
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
};
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

// src/socket_link.js
var { construct: construct2, getPrototypeOf } = Reflect;
var { freeze: freeze8, hasOwn: hasOwn7 } = Object;
var { queueMicrotask: queueMicrotask2 } = globalThis;
var LocalPromise4 = Promise;
var SOCKET_PACE = freeze8({ open_s: 10, welcome_s: 15, silence_margin_s: 5, proof_s: 5 });
var OPEN = 1;
var CLOSED = 3;
var NO_CODE = 1005;
var BROKEN = 1006;
var unasked2 = () => true;
var ownerOf = (prototype, name) => hasOwn7(prototype, name) ? prototype : ownerOf(getPrototypeOf(prototype), name);
function takeSockets({ WebSocket, MessageEvent, CloseEvent }) {
  return freeze8({
    // The subprotocol is no array: the page may have patched how arrays are walked.
    create: (url) => construct2(WebSocket, [url, SUBPROTOCOL]),
    send: method(WebSocket.prototype, "send"),
    close: method(WebSocket.prototype, "close"),
    on: method(WebSocket.prototype, "addEventListener"),
    readyState: getter(ownerOf(WebSocket.prototype, "readyState"), "readyState"),
    data: getter(MessageEvent.prototype, "data"),
    code: getter(CloseEvent.prototype, "code"),
    reason: getter(CloseEvent.prototype, "reason")
  });
}
var Wire = class {
  #sockets;
  #socket = null;
  #isOver = false;
  /** Called once it is open. @type {() => void} */
  opened = () => {
  };
  /** Called with every message. @type {(data: any) => void} */
  heard = () => {
  };
  /** Called once, at the end; also for a socket that never opened. @type {(end: Ended) => void} */
  over = () => {
  };
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
    let socket2;
    try {
      socket2 = sockets.create(url);
    } catch (error) {
      const isMixed = error?.name === "SecurityError";
      const reason = isMixed ? "an https page may not open a ws socket" : `${error?.message ?? error}`;
      this.#finish(ended(isMixed ? "mixed_content" : "refused", reason));
      return;
    }
    this.#socket = socket2;
    if (sockets.readyState(socket2) === CLOSED) {
      this.#finish(ended("csp", "the page's policy forbids sockets to the hub"));
      return;
    }
    sockets.on(socket2, "open", () => this.#isOver || this.opened());
    sockets.on(socket2, "message", (event) => this.#isOver || this.heard(sockets.data(event)));
    sockets.on(socket2, "error", () => this.#finish(ended("refused", "the socket did not open")));
    sockets.on(socket2, "close", (event) => this.#closed(sockets.code(event), sockets.reason(event)));
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
  hangUp(end2, code) {
    if (this.#isOver) return;
    this.#isOver = true;
    if (this.#socket !== null) {
      if (code === void 0) this.#sockets.close(this.#socket);
      else this.#sockets.close(this.#socket, code);
    }
    this.over(end2);
  }
  #closed(code, reason) {
    if (code === NO_CODE || code === BROKEN) {
      this.#finish(ended("refused", "the connection broke"));
    } else {
      this.#finish(ended("closed", reason || `closed with ${code}`, { code }));
    }
  }
  /** @param {Ended} end */
  #finish(end2) {
    if (this.#isOver) return;
    this.#isOver = true;
    this.over(end2);
  }
};
var Connection = class {
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
  #isProven = unasked2;
  /** @type {(end: Ended) => void} */
  over = () => {
  };
  /**
   * @param {Wire} wire an open one
   * @param {Session} session
   * @param {{clock: Clock, pace: SocketPace, welcomed: () => void}} more
   */
  constructor(wire, session, { clock: clock3, pace, welcomed }) {
    this.#wire = wire;
    this.#session = session;
    this.#clock = clock3;
    this.#pace = pace;
    this.#onWelcome = welcomed;
  }
  /** @param {string} hello the hello's text, which nobody keeps; "" if the hub is another one by now */
  begin(hello2) {
    this.#wire.over = (end2) => this.#wireEnded(end2);
    this.#wire.heard = (data) => this.#hear(data);
    if (hello2 === "") {
      this.drop("the hub's address has changed");
      return;
    }
    this.#watch("timeout", "the hub did not say welcome", this.#pace.welcome_s);
    this.#wire.send(hello2);
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
      this.#pace.proof_s * 1e3
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
    queueMicrotask2(() => this.#guarded(() => this.#flush()));
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
      this.#ack = this.#clock.setTimeout(() => this.#guarded(() => this.#flushAck()), due_s * 1e3);
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
    this.#deadline = this.#clock.setTimeout(() => this.#end(cause, reason), seconds * 1e3);
  }
  /** Do it; a breach of the protocol, theirs or ours, ends the session. @param {() => void} act */
  #guarded(act2) {
    if (this.#isOver) return;
    try {
      act2();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#session.forget(`protocol error: ${error.message}`);
      this.#end("closed", error.message, error.code);
    }
  }
  #end(cause, reason, code) {
    const worthSaying = code >= 4e3 ? code : void 0;
    this.#wire.hangUp(ended(cause, reason, { code }), worthSaying);
  }
  /** @param {Ended} end */
  #wireEnded(end2) {
    if (this.#isOver) return;
    this.#isOver = true;
    for (const timer of [this.#deadline, this.#ack, this.#proof]) this.#clock.clearTimeout(timer);
    this.#session.disconnected(this.#wake);
    const cause = end2.cause === "refused" ? "lost" : end2.cause;
    const reason = end2.cause === "refused" ? "the connection broke" : end2.reason;
    this.over({ ...end2, cause, reason, welcomed: this.#isWelcomed });
  }
};
var SocketLink = class {
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
  constructor({ window, credentials: credentials2, clock: clock3, pace = SOCKET_PACE }) {
    this.#sockets = takeSockets(window);
    this.#credentials = credentials2;
    this.#clock = clock3;
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
    return new LocalPromise4((resolve) => {
      const hub = this.#credentials.hub();
      const wire = new Wire(this.#sockets);
      this.#wire = wire;
      this.#hub = hub;
      const late = this.#clock.setTimeout(
        () => wire.hangUp(ended("timeout", "the socket did not open in time")),
        limit_s * 1e3
      );
      wire.opened = () => {
        this.#clock.clearTimeout(late);
        resolve(null);
      };
      wire.over = (end2) => {
        this.#clock.clearTimeout(late);
        if (this.#wire === wire) this.#wire = null;
        resolve(end2);
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
  async carry(session, welcomed = () => {
  }) {
    const failure2 = this.isOpen ? null : await this.open();
    const wire = this.#wire;
    if (failure2 !== null || wire === null) return failure2 ?? ended("lost", "the connection broke");
    this.#wire = null;
    return this.#converse(wire, session, welcomed);
  }
  /** @param {Wire} wire @param {Session} session @param {() => void} welcomed @returns {Promise<Ended>} */
  #converse(wire, session, welcomed) {
    const more = { clock: this.#clock, pace: this.#pace, welcomed };
    const connection = new Connection(wire, session, more);
    this.#connection = connection;
    return new LocalPromise4((resolve) => {
      connection.over = (end2) => {
        if (this.#connection === connection) this.#connection = null;
        resolve(end2);
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
};

// src/updates.js
var VERSION2 = /^\/\/ @version\s+(\d+(?:\.\d+){0,7})\s*$/m;
var PATIENCE_MS2 = 2e4;
var numbers = (version) => version.split(".").map(Number);
function isNewer(one, other) {
  const [left, right] = [numbers(one), numbers(other)];
  for (let at = 0; at < left.length || at < right.length; at += 1) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}
async function newerVersion({ address, version, request: request2 }) {
  try {
    const url = `${address}/userscript/hub.meta.js`;
    const { answer } = request2({ method: "GET", url, headers: {}, timeout_ms: PATIENCE_MS2 });
    const { status: status2, text } = await answer;
    const theirs = status2 === 200 ? VERSION2.exec(text)?.[1] : void 0;
    return theirs !== void 0 && isNewer(theirs, version) ? theirs : null;
  } catch {
    return null;
  }
}

// src/pace.js
var { isFinite: isFinite4 } = Number;
var { max: max6, min: min5 } = Math;
var LocalDate = Date;
var QUIET_SENDS = 5;
var Pace = class {
  /** @type {Limits} */
  #limits;
  /** @type {State} */
  #state;
  /**
   * @param {Limits} limits
   * @param {Partial<State> | null} [state] what `state` gave in an earlier life; anything else is ignored
   */
  constructor(limits, state = null) {
    this.#limits = limits;
    this.#state = {
      gap_s: numberIn(state?.gap_s) ?? limits.between_s,
      sent_at: numberIn(state?.sent_at) ?? 0,
      not_before: numberIn(state?.not_before) ?? 0,
      quiet: numberIn(state?.quiet) ?? 0,
      day: typeof state?.day === "string" ? state.day : "",
      today: numberIn(state?.today) ?? 0
    };
    this.adjust(limits);
  }
  /** A plain object, to be stored. @returns {State} */
  get state() {
    return { ...this.#state };
  }
  /** Sends that a day may have. */
  get daily() {
    return this.#limits.daily;
  }
  /** How many prompts were sent today. @param {number} now ms since 1970 */
  today(now5) {
    return this.#state.day === dayOf(now5) ? this.#state.today : 0;
  }
  /** New limits, from the settings or a new profile; what was counted stays. @param {Limits} limits */
  adjust(limits) {
    const { gap_s } = this.#state;
    this.#state.gap_s = within(gap_s === this.#limits.between_s ? limits.between_s : gap_s, limits);
    this.#limits = limits;
  }
  /**
   * How long until the next send may happen.
   * @param {number} now ms since 1970
   * @returns {number} ms; 0: now
   */
  wait(now5) {
    const { gap_s, sent_at, not_before } = this.#state;
    const gap = min5(sent_at + gap_s * 1e3 - now5, gap_s * 1e3);
    const ceiling = this.today(now5) >= this.#limits.daily ? midnightAfter(now5) - now5 : 0;
    return max6(0, gap, not_before - now5, ceiling);
  }
  /** A prompt left. @param {number} now ms since 1970 */
  sent(now5) {
    const state = this.#state;
    state.today = this.today(now5) + 1;
    state.day = dayOf(now5);
    state.sent_at = now5;
    state.quiet += 1;
    if (state.quiet > QUIET_SENDS) this.#setGap(state.gap_s / 2);
  }
  /**
   * The site said that this was too often.
   * @param {number} now ms since 1970
   * @param {number} [retryAfterS] seconds that it asked for
   */
  limited(now5, retryAfterS = 0) {
    this.#setGap(max6(1, this.#state.gap_s * 2));
    this.#state.not_before = max6(this.#state.not_before, now5 + retryAfterS * 1e3);
  }
  /** @param {number} seconds */
  #setGap(seconds) {
    this.#state.gap_s = within(seconds, this.#limits);
    this.#state.quiet = 0;
  }
};
var within = (gap_s, { between_s, longest_s }) => min5(max6(gap_s, between_s), max6(between_s, longest_s));
var numberIn = (value) => isFinite4(value) && value >= 0 ? value : void 0;
function dayOf(now5) {
  const date = new LocalDate(now5);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}
function midnightAfter(now5) {
  const date = new LocalDate(now5);
  return +new LocalDate(date.getFullYear(), date.getMonth(), date.getDate() + 1);
}

// src/session.js
var { freeze: freeze9, hasOwn: hasOwn8 } = Object;
var { isArray: isArray5 } = Array;
var { isFinite: isFinite5, isSafeInteger: isSafeInteger2 } = Number;
var { abs: abs2, floor, max: max7, min: min6 } = Math;
var utf83 = new TextEncoder();
var encodeUtf83 = utf83.encode.bind(utf83);
var DEFAULT_MAX_BYTES = 1024 * 1024;
var DEFAULT_HEARTBEAT_S = 20;
var MAX_PIECE = 16384;
var MAX_LABEL = 200;
var MAX_SENTENCE = 4e3;
var MAX_PAUSE_S = 10 * 86400;
var PACKET_ROOM = 200;
var UNPRINTABLE = /[\p{C}\p{Z}]/u;
var unheard = () => {
};
var READY = freeze9({ state: "ready", reason: void 0, untilMs: void 0 });
var isText2 = (value) => typeof value === "string";
var isObject3 = (value) => typeof value === "object" && value !== null && !isArray5(value);
function clipped(value, most) {
  const text = new WholeText();
  return text.push(`${value ?? ""}`.slice(0, most)) + text.flush();
}
var pause2 = (value) => isFinite5(value) ? min6(max7(value, 0), MAX_PAUSE_S) : void 0;
var isSame = (one, other) => one.state === other.state && one.reason === other.reason && (one.untilMs === other.untilMs || abs2(one.untilMs - other.untilMs) < 1e3);
var labels = (value) => isArray5(value) ? value.filter(isText2).map((label) => clipped(label, MAX_LABEL)) : void 0;
var isModelId = (id) => isText2(id) && id !== "" && id.length <= MAX_LABEL && !UNPRINTABLE.test(id.replaceAll(" ", ""));
function offered({ id, modalities, kinds, features, context, organization }) {
  return {
    id,
    modalities: isObject3(modalities) ? { in: labels(modalities.in), out: labels(modalities.out) } : void 0,
    kinds: labels(kinds),
    features: labels(features),
    context: isSafeInteger2(context) ? context : void 0,
    organization: isText2(organization) ? clipped(organization, MAX_LABEL) : void 0
  };
}
var Answer = class {
  #job;
  #size;
  #text = new WholeText();
  /** Whether its request may have left. */
  isStarted = false;
  /** @param {Job} job @param {number} maxBytes */
  constructor({ job, model }, maxBytes) {
    this.#job = job;
    this.model = model;
    this.#size = max7(1, min6(MAX_PIECE, floor(maxBytes / 16)));
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
      if (last >= 55296 && last <= 56319) to += 1;
      frames.push(piece(this.#job, text.slice(at, to)));
    }
    return frames;
  }
};
var Session = class {
  #card;
  #take;
  #cancel;
  #clock;
  #onChange;
  #onProfile;
  /** @type {Map<string, Answer>} */
  #jobs = /* @__PURE__ */ new Map();
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
  constructor({ card: card2, take, cancel, clock: clock3, onChange = () => {
  }, onProfile = () => {
  } }) {
    this.#card = {
      worker: card2.worker,
      name: clipped(card2.name, MAX_LABEL),
      kind: "userscript",
      version: clipped(card2.version, MAX_LABEL),
      slots: card2.slots ?? 1,
      region: card2.region === void 0 ? void 0 : clipped(card2.region, MAX_LABEL)
    };
    this.#take = take;
    this.#cancel = cancel;
    this.#clock = clock3;
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
    const resume = this.#id === null ? void 0 : { session: this.#id, received: this.#channel.received };
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
      this.#ackDueAt ??= this.#clock.now() + ACK_EVERY_S * 1e3;
      this.#wake();
    }
  }
  /** Seconds until the hub must be told what we have; null if it knows. */
  ackDueIn() {
    if (this.#ackDueAt === null) return null;
    if (this.#channel.ackOwed >= ACK_EVERY_FRAMES) return 0;
    return max7(0, this.#ackDueAt - this.#clock.now()) / 1e3;
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
    if (answer === void 0) return;
    if (message.t === "waiting") this.#push(waiting(message.job));
    else if (message.t === "started") this.#start(message, answer);
    else if (message.t === "piece") this.#piece(message, answer);
    else if (message.t === "end") this.#end(message, answer);
    else if (message.t === "fail") this.#fail(message, answer);
  }
  #notice({ code, message }) {
    if (code === "site_changed") this.#push(notice(code, clipped(message, MAX_SENTENCE)));
  }
  #start({ job }, answer) {
    answer.isStarted = true;
    this.#push(started(job));
  }
  #piece({ job, text, delta }, answer) {
    answer.isStarted = true;
    if (isText2(text) && text !== "") this.#pushAll(answer.text(text));
    else if (isObject3(delta)) this.#delta(job, delta, answer);
    else this.#push(piece(job));
  }
  #delta(job, delta, answer) {
    const frame = deltaPiece(job, delta);
    if (encodeUtf83(encode(frame)).length > this.#maxBytes - PACKET_ROOM) {
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
    const reason = isText2(finish_reason) ? clipped(finish_reason, MAX_LABEL) : void 0;
    const more = {
      usage: isObject3(usage) ? usage : void 0,
      truncated: truncated === true ? true : void 0
    };
    this.#pushAll([...answer.rest(), end(job, reason, more)]);
  }
  #fail({ job, code, message, retry_after_s, ran }, answer) {
    this.#release(job);
    this.tally.failed += 1;
    const known = hasOwn8(FAILURES, code) ? code : "internal";
    const more = {
      retryAfterS: pause2(retry_after_s),
      ran: typeof ran === "boolean" ? ran : void 0
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
    const models2 = catalogue.filter((model) => isModelId(model?.id)).slice(0, MAX_MODELS).map(offered);
    const text = encode(models2);
    if (text === this.#modelsText) return;
    this.#models = models2;
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
    const seconds = pause2(until);
    const own = {
      state,
      reason: reason === void 0 ? void 0 : clipped(reason, MAX_SENTENCE),
      untilMs: seconds === void 0 ? void 0 : this.#clock.now() + seconds * 1e3
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
    const isOver = state === "cooling" && untilMs !== void 0 && untilMs <= this.#clock.now();
    return isOver ? READY : this.#own;
  }
  /** Tell the hub what it does not know; without a session the next hello says it. */
  #announce() {
    if (this.#id === null) return;
    if (this.#modelsText !== this.#toldModels) {
      this.#toldModels = this.#modelsText;
      this.#push(models(this.#models));
    }
    const now5 = this.#status();
    if (isSame(now5, this.#told)) return;
    this.#told = now5;
    const { state, reason, untilMs } = now5;
    const until = untilMs === void 0 ? void 0 : max7(0, untilMs - this.#clock.now()) / 1e3;
    this.#push(status(state, { reason, until }));
  }
  #changed() {
    this.#onChange();
  }
};

// src/worker.js
var { freeze: freeze10 } = Object;
var PHASES = freeze10({ __proto__: null, waiting: "waiting", started: "sent", piece: "answering" });
var LAST_WORDS = freeze10({ __proto__: null, end: true, fail: true, navigate: true });
var TabWorker = class {
  #page;
  #pace;
  #clock;
  #mode;
  #kept;
  #navigate;
  #onChange;
  #isPaused = false;
  /** What the hub was told of a changed site, over this connection. */
  #noticed = "";
  #site = freeze10({ state: "loading" });
  /** @type {(Doing & {job: string}) | null} */
  #doing = null;
  /** Shows what changes when a pause ends. */
  #timer;
  /**
   * @param {object} options
   * @param {import("./session.js").Card} options.card
   * @param {ReturnType<typeof import("./page.js").openPage>} options.page
   * @param {{pace: object}} options.profile the site profile in force
   * @param {() => "assist" | "automatic"} options.mode what the tab's owner wants for the next job
   * @param {Clock} options.clock
   * @param {Kept} options.kept
   * @param {(url: string) => void} options.navigate load another document in this tab
   * @param {(profile: object) => void} options.onProfile the hub has another site profile
   * @param {() => void} options.onChange something that a person may see has changed
   */
  constructor({ card: card2, page: page2, profile: profile2, mode: mode3, clock: clock3, kept: kept2, navigate, onProfile, onChange }) {
    this.#page = page2;
    this.#pace = new Pace(profile2.pace, kept2.pace());
    this.#clock = clock3;
    this.#mode = mode3;
    this.#kept = kept2;
    this.#navigate = navigate;
    this.#onChange = onChange;
    this.session = new Session({
      card: card2,
      clock: clock3,
      take: (job) => this.#take(job),
      cancel: (job) => this.#cancel(job),
      onChange: () => {
        this.#notice();
        onChange();
      },
      onProfile: (profile3) => {
        this.#page.setProfile(profile3);
        this.#pace.adjust(profile3.pace);
        onProfile(profile3);
      }
    });
  }
  // --- what a person sees -------------------------------------------------------------------------------
  /** @returns {{state: "loading" | "ready" | "attention", code?: string, reason?: string}} */
  get site() {
    return this.#site;
  }
  /** @returns {Doing | null} */
  get doing() {
    return this.#doing;
  }
  get isPaused() {
    return this.#isPaused;
  }
  /** Whether the hub knows of a job here that has not been sent: then the hub decides what becomes of it. */
  get holdsUnsent() {
    return this.#doing !== null && (this.#doing.phase === "opening" || this.#doing.phase === "waiting");
  }
  /** How many prompts were sent today. */
  get today() {
    return this.#pace.today(this.#clock.now());
  }
  /** How many may be sent a day. */
  get daily() {
    return this.#pace.daily;
  }
  /** Seconds until the next prompt may be sent; 0: now. */
  get nextInS() {
    return this.#pace.wait(this.#clock.now()) / 1e3;
  }
  // --- what a person wants ------------------------------------------------------------------------------
  /** Take no more jobs until told otherwise; one in hand is finished. @param {boolean} isPaused */
  pause(isPaused2) {
    this.#isPaused = isPaused2;
    this.#feel();
  }
  /** The human has done what the site wanted. */
  look() {
    this.#page.look();
  }
  // --- what the page says -------------------------------------------------------------------------------
  /** @param {{t: string, [member: string]: any}} message as `page.js` says it */
  heard(message) {
    if (message.t === "site") this.#heardOfSite(message);
    else if (message.job === void 0) this.session.say(message);
    else if (message.job === this.#doing?.job) this.#heardOfJob(message);
  }
  #heardOfSite({ state, code, reason }) {
    this.#site = freeze10({ state, code, reason });
    this.#notice();
    this.#feel();
  }
  /** A page that has changed beyond use is the operator's business: nobody in front of it can mend it. */
  #notice() {
    const { code, reason = "" } = this.#site;
    const seen = this.session.connected && code === "site_changed" ? reason : "";
    if (seen === this.#noticed) return;
    this.#noticed = seen;
    if (seen !== "") this.session.say({ t: "notice", code: "site_changed", message: seen });
  }
  #heardOfJob(message) {
    if (message.t === "started") this.#sent();
    const phase = PHASES[message.t];
    if (phase !== void 0 && phase !== this.#doing.phase) {
      this.#doing.phase = phase;
      this.#onChange();
    }
    if (message.t === "fail" && message.code === "rate_limited") this.#limited(message);
    if (LAST_WORDS[message.t]) this.#over();
    if (message.t === "navigate") this.#leave(message);
    else this.session.say(message);
  }
  #sent() {
    this.#pace.sent(this.#clock.now());
    this.#kept.keepPace(this.#pace.state);
  }
  #limited({ retry_after_s }) {
    this.#pace.limited(this.#clock.now(), retry_after_s);
    this.#kept.keepPace(this.#pace.state);
  }
  /**
   * The page must be another document for this job. The hub gives it again once the new one has said hello.
   * @param {{job: string, url: string}} message
   */
  #leave({ job, url }) {
    this.#kept.keepNavigatedFor(job);
    this.#navigate(url);
  }
  // --- what the hub says --------------------------------------------------------------------------------
  /** @param {Job} job */
  #take({ job, model, body }) {
    if (this.#pace.wait(this.#clock.now()) > 0) {
      this.session.refuse(job, "a pause between two prompts");
      this.#feel();
      return;
    }
    this.#doing = { job, model, phase: "opening" };
    const navigated = this.#kept.navigatedFor() === job;
    this.#page.take({ job, model, body, mode: this.#mode(), navigated });
    this.#onChange();
  }
  /** @param {string} job */
  #cancel(job) {
    this.#page.cancel(job);
    if (this.#doing?.job === job) this.#over();
  }
  #over() {
    this.#doing = null;
    this.#feel();
  }
  // --- how it feels -------------------------------------------------------------------------------------
  /** Say how the tab is, to the hub and to the person. */
  #feel() {
    const wait_s = this.nextInS;
    this.#clock.clearTimeout(this.#timer);
    if (wait_s > 0) this.#timer = this.#clock.setTimeout(() => this.#feel(), wait_s * 1e3);
    if (this.#isPaused) this.session.setState("draining", { reason: "paused by its owner" });
    else if (this.#site.state !== "ready") this.#needsHuman();
    else if (wait_s > 0) this.session.setState("cooling", { reason: "pace", until: wait_s });
    else this.session.setState("ready");
    this.#onChange();
  }
  #needsHuman() {
    const { state, code, reason } = this.#site;
    this.session.setState("attention", { reason: code ?? reason ?? state });
  }
};

// src/main.js
var site = unsafeWindow;
var { document, location, navigator, sessionStorage } = site;
var { parse: parse8, stringify: stringify5 } = JSON;
var { assign } = location;
var open = site.open;
var { apply: apply6 } = Reflect;
var isLate = document.readyState !== "loading";
var PACE = "lmarena-bridge.pace";
var NAVIGATED = "lmarena-bridge.navigated";
var MUTE_PAGE_MS = 15e3;
var LOOK_FOR_UPDATES_MS = 6 * 36e5;
function wish(name, otherwise) {
  let value = GM_getValue(name, otherwise);
  GM_addValueChangeListener(name, (_name, _before, now5) => {
    value = now5 ?? otherwise;
    wishesChanged();
  });
  return {
    get: () => value,
    /** @param {T} wanted */
    set(wanted) {
      value = wanted;
      GM_setValue(name, wanted);
      wishesChanged();
    }
  };
}
var mode2 = wish("mode", "assist");
var isPaused = wish("paused", false);
var isFolded = wish("folded", true);
var corner2 = wish("corner", null);
function wishesChanged() {
  if (worker === null) return;
  if (worker.isPaused !== isPaused.get()) worker.pause(isPaused.get() === true);
  show();
}
function kept(name) {
  try {
    return parse8(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}
function keep(name, value) {
  try {
    sessionStorage.setItem(name, stringify5(value));
  } catch {
  }
}
var stored = GM_getValue("profile", null);
var profile = stored?.selectors ? stored : site_profile_default;
var early = [];
var worker = null;
var hasSpoken = false;
var page = openPage({ window: site, profile, say: heard });
function heard(message) {
  if (worker === null) early.push(message);
  else worker.heard(message);
  if (message.t === "site" && !hasSpoken) {
    hasSpoken = true;
    connect();
  }
}
var clock2 = clockOf(site);
var credentials = openCredentials({
  window: site,
  GM_getValue,
  GM_setValue,
  GM_addValueChangeListener,
  suggested: HUB_ADDRESS
});
var request = byUserscriptManager(GM_xmlhttpRequest);
var socket = new SocketLink({ window: site, credentials, clock: clock2 });
var poll = new PollLink({ credentials, request, clock: clock2 });
var dial = null;
var newer = null;
var lookedForUpdates = 0;
async function begin() {
  const { locks, permissions } = navigator;
  const { worker: id } = await claimWorkerId({ sessionStorage, locks, clock: clock2 });
  worker = new TabWorker({
    card: { worker: id, name: `tab ${id.slice(0, 4)}`, version: SCRIPT_VERSION },
    page,
    profile,
    clock: clock2,
    mode: mode2.get,
    kept: {
      pace: () => kept(PACE),
      keepPace: (state) => keep(PACE, state),
      navigatedFor: () => kept(NAVIGATED),
      keepNavigatedFor: (job) => keep(NAVIGATED, job)
    },
    navigate: (url) => apply6(assign, location, [url]),
    onProfile: (given) => {
      profile = given;
      GM_setValue("profile", given);
    },
    onChange: show
  });
  dial = new Dial({
    session: worker.session,
    socket,
    poll,
    credentials,
    clock: clock2,
    permissions,
    memory: { get: (name) => GM_getValue(name), set: (name, value) => GM_setValue(name, value) },
    onChange: () => {
      show();
      lookForUpdates();
    }
  });
  credentials.listen(() => dial.restart());
  worker.pause(isPaused.get() === true);
  for (const message of early.splice(0)) worker.heard(message);
  if (hasSpoken) dial.start();
  else clock2.setTimeout(connect, MUTE_PAGE_MS);
}
function connect() {
  if (dial !== null && !dial.state.wanted && dial.state.ended === null) dial.start();
}
async function lookForUpdates() {
  const hub = credentials.hub();
  if (!dial.state.connected || hub === null || clock2.now() < lookedForUpdates + LOOK_FOR_UPDATES_MS) return;
  lookedForUpdates = clock2.now();
  newer = await newerVersion({ address: hub.http, version: SCRIPT_VERSION, request });
  show();
}
function awake() {
  if (document.visibilityState !== "hidden") dial?.nudge();
}
for (const name of ["visibilitychange", "resume"]) document.addEventListener(name, awake);
for (const name of ["pageshow", "online"]) site.addEventListener(name, awake);
site.addEventListener("pagehide", ({ persisted }) => {
  if (!persisted && worker !== null && !worker.holdsUnsent) dial?.stop("the tab was closed");
});
var say = words(navigator.language);
var panel = openPanel({ document, language: navigator.language, act, clear: page.sendButton });
function show() {
  if (dial === null) return;
  const hub = credentials.hub();
  panel.show({
    link: link(dial.state),
    hub: hub === null ? null : hub.http.replace(/^https?:\/\//, ""),
    site: worker.site,
    late: isLate,
    job: worker.doing,
    mode: mode2.get(),
    paused: worker.isPaused,
    today: worker.today,
    daily: worker.daily,
    next_in_s: worker.nextInS,
    version: SCRIPT_VERSION,
    newer,
    installUrl: hub === null ? null : `${hub.http}/userscript/hub.user.js`,
    canSpeedUp: dial.state.canSpeedUp,
    configured: hub !== null && credentials.hasToken,
    folded: isFolded.get() === true,
    corner: corner2.get()
  });
}
function link({ link: link2, connected, wanted, reason, ended: ended2, again_at }) {
  if (ended2 !== null) return { state: "ended", reason: ended2 };
  if (!wanted) return { state: "off" };
  if (connected) return { state: link2 ?? "connecting" };
  const again_in_s = again_at === null ? 0 : (again_at - clock2.now()) / 1e3;
  return { state: "connecting", reason: reason ?? void 0, again_in_s };
}
function act(name, value) {
  if (name === "connect") enterHub();
  else if (name === "mode") mode2.set(value);
  else if (name === "pause" || name === "resume") isPaused.set(name === "pause");
  else if (name === "fold" || name === "unfold") isFolded.set(name === "fold");
  else if (name === "corner") corner2.set(value);
  else if (name === "done") worker.look();
  else if (name === "faster") dial.preferSocket();
  else if (name === "again") dial.again();
  else if (name === "show-job") page.focusSend();
  else if (name === "update") apply6(open, site, [`${credentials.hub()?.http}/userscript/hub.user.js`]);
}
function enterHub() {
  const asked2 = {
    address: say("ask_address"),
    token: say("ask_token"),
    wrongAddress: say("wrong_address"),
    wrongToken: say("wrong_token")
  };
  if (credentials.ask(asked2)) show();
}
GM_registerMenuCommand(say("connect"), enterHub);
begin();
})();

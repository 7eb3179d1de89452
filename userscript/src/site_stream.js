/**
 * The site's stream, parsed by line: text in, events out, whatever the cuts. Pure.
 *
 * A line is `<position><code>:<JSON>`; what positions and codes mean is in the site profile. The answer is
 * the first position's; other positions are counted (`battle`) and ignored. Events are a page's messages
 * without `job`: `piece`s, then exactly one `end` or `fail`, before it perhaps a `notice` of what was not
 * understood.
 *
 * What cannot be read is counted and never thrown, and never becomes a wrong answer in silence: with nothing
 * else it is `site_changed`, and an answer that lost a line of text ends `truncated`.
 *
 * @typedef {{t: "piece", text?: string, delta?: object}
 *   | {t: "end", finish_reason: string, usage?: object, truncated?: true}
 *   | {t: "fail", code: string, message: string, retry_after_s?: number}
 *   | {t: "notice", code: "site_changed", message: string}} Event
 */

import { Citations } from "./citations.js";
import { WholeText } from "./protocol.js";
import { failureOfComplaint } from "./site_rules.js";

const { parse } = JSON;
const { isArray } = Array;
const { isSafeInteger } = Number;
const { entries, fromEntries, hasOwn, keys } = Object;

/** Characters in one line; an image may come as a data URL. A longer line is dropped and counted. */
const LONGEST_LINE = 32 * 1024 * 1024;
const MOST_UNKNOWN = 20;
/** In place of a text: the arena refused. As a text of its own in the middle of others it is just text. */
const REFUSAL = "hasArenaError";

const FINISH_REASONS = {
  stop: "stop",
  length: "length",
  "content-filter": "content_filter",
  content_filter: "content_filter",
};
const USAGE = {
  prompt_tokens: ["promptTokens", "input_tokens", "promptTokenCount", "inputTokens", "prompt_tokens"],
  completion_tokens: [
    "completionTokens",
    "output_tokens",
    "candidatesTokenCount",
    "outputTokens",
    "completion_tokens",
  ],
  total_tokens: ["totalTokens", "total_tokens", "totalTokenCount"],
};

const LINE = /^([A-Za-z0-9]{1,4}):/;
const NAME = /^[\w.-]{1,40}$/;

export class SiteStream {
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
  #unknown = new Map();

  /** @param {{profile: any, longestLine?: number}} options `longestLine` in characters */
  constructor({ profile, longestLine = LONGEST_LINE }) {
    this.#profile = profile;
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
    return fromEntries(this.#unknown);
  }

  /**
   * @param {string} text decoded with `stream: true`
   * @returns {Event[]}
   */
  push(text) {
    /** @type {Event[]} */
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
    /** @type {Event[]} */
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
    if (position === undefined || !hasOwn(lines, code)) {
      if (!cut || line.length > 4) this.#count(head ?? "no line");
      return;
    }
    if (position !== positions[0]) {
      this.#battle += 1;
      return;
    }
    const kind = lines[code];
    const value = parsed(line.slice(line.indexOf(":") + 1));
    if (value !== undefined && this.#read(kind, head, value, events)) return;
    if (cut && value === undefined) return;
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
    const items = isArray(value) ? value.flat(4) : [value];
    if (!items.every(isObject)) return false;
    const images = items.filter((item) => item.type === "image").map(imageUrl);
    if (images.includes("")) return false;
    for (const { type } of items) {
      if (type !== "image" && type !== "heartbeat") this.#count(`${head} type ${nameOf(type)}`);
    }
    const shown = images.map((url) => ({ type: "image_url", image_url: { url } }));
    this.#answered ||= shown.length > 0;
    this.#say(shown.length > 0 ? { delta: { images: shown } } : {}, events);
    return true;
  }

  #readCitation(value, events) {
    if (!isObject(value)) return false;
    const annotations = this.#citations.push(value, this.#length);
    this.#say(annotations.length > 0 ? { delta: { annotations } } : {}, events);
    return true;
  }

  #readStepEnd(value, events) {
    if (isObject(value) && value.message) {
      this.#fail(failureOfComplaint(this.#profile, value), events);
    }
    return true;
  }

  #readEnd(head, value, events) {
    if (!isObject(value)) return false;
    const { finishReason: reason } = value;
    const known = typeof reason === "string" && hasOwn(FINISH_REASONS, reason);
    if (!known && reason !== "error") this.#count(`${head} reason ${nameOf(reason)}`);
    if (reason === "error") {
      this.#fail({ code: "upstream_error", message: "the site ended the answer with an error" }, events);
    } else {
      this.#finish(known ? FINISH_REASONS[reason] : "stop", usageOf(value.usage), this.#lost, events);
    }
    return true;
  }

  #finishCut(events) {
    if (this.#said || this.#refused || this.#unknown.size > 0) {
      this.#finish("length", undefined, true, events);
    } else {
      const message =
        this.#battle > 0 ? "only another model of a battle answered" : "the site's answer was empty";
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
      const end = { t: "end", finish_reason: truncated ? "length" : reason };
      if (usage) end.usage = usage;
      if (truncated) end.truncated = true;
      this.#settle(end, events);
    }
  }

  #fail(failure, events) {
    this.#flush(events);
    this.#notice(events);
    this.#settle({ t: "fail", ...failure }, events);
  }

  #settle(event, events) {
    events.push(event);
    this.#isOver = true;
    this.#carry = "";
  }

  #say(members, events) {
    this.#said ||= members.text !== undefined || members.delta !== undefined;
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
}

// --- values -----------------------------------------------------------------------------------------------

/** @param {string} text */
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

const isObject = (value) => typeof value === "object" && value !== null && !isArray(value);

const isWebAddress = (value) => typeof value === "string" && /^https?:\/\//i.test(value);

/** A name that is safe to report: a word, and not something that the model wrote. */
const nameOf = (value) => (typeof value === "string" && NAME.test(value) ? value : "?");

/** An image's address, "" if it has none. */
function imageUrl({ image }) {
  const url = isObject(image) ? image.url : image;
  return isWebAddress(url) || (typeof url === "string" && /^data:image\//i.test(url)) ? url : "";
}

/** OpenAI's usage of whatever the provider calls it; undefined if there is nothing of it. */
function usageOf(value) {
  if (!isObject(value)) return undefined;
  const usage = {};
  for (const [name, aliases] of entries(USAGE)) {
    const alias = aliases.find((key) => isSafeInteger(value[key]) && value[key] >= 0);
    if (alias) usage[name] = value[alias];
  }
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  if (prompt !== undefined && completion !== undefined) usage.total_tokens ??= prompt + completion;
  return keys(usage).length > 0 ? usage : undefined;
}

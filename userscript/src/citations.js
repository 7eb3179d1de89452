/**
 * Citations of a search: they come as the parts of JSON texts and leave as OpenAI annotations. Pure.
 *
 * @typedef {{type: "url_citation", url_citation: {url: string, title: string, start_index: number,
 *   end_index: number}}} Annotation
 */

import { mended } from "./site_rules.js";

const { parse } = JSON;
const { values } = Object;

/** Characters, in all of an answer; what comes after that is ignored. */
const LONGEST = 1024 * 1024;
const DEEPEST = 6;

export class Citations {
  /** By tool call. @type {Map<unknown, Documents>} */
  #calls = new Map();
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
    return sourcesIn(call.push(text).map(parsed)).map(({ url, title }) => ({
      type: "url_citation",
      url_citation: {
        url: mended(url),
        title: mended(typeof title === "string" ? title : url),
        start_index: at,
        end_index: at,
      },
    }));
  }
}

/** Cuts JSON objects and lists out of a text that comes in parts; linear, whatever the parts. */
class Documents {
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
}

/**
 * Every object with an address, however nested.
 * @param {any} value
 * @param {number} [depth]
 * @returns {any[]}
 */
function sourcesIn(value, depth = 0) {
  if (depth > DEEPEST || typeof value !== "object" || value === null) return [];
  if (typeof value.url === "string" && /^https?:\/\//i.test(value.url)) return [value];
  return values(value).flatMap((inner) => sourcesIn(inner, depth + 1));
}

/** @param {string} text */
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

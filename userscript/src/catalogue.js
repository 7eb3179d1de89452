/**
 * The models on offer, read from the Next flight data in the page's scripts. Pure.
 *
 * The data is text in the arguments of `self.__next_f.push([1,"…"])`, cut anywhere. A public name is what
 * callers see; the site's ids change, so they stay in the tab.
 *
 * @typedef {{id: string, modalities: {in: string[], out: string[]}, kinds: ["chat"],
 *   organization?: string}} Model
 * @typedef {{model: Model, id: string}} Entry `model` as the protocol has it; `id` as the site has it today
 */

import { MAX_MODELS } from "./protocol.js";

const { parse, stringify } = JSON;
const { isArray } = Array;
const { entries } = Object;

const PUSH = ".push(";
/** Places where the member's name may stand without being it, as in somebody's text. */
const MOST_PLACES = 50;
const MOST_MODALITIES = 20;
/** What Python's isprintable says, by which the hub checks: no control, format or separator but the space. */
const PRINTABLE = /^(?:[ -~]+|(?:[^\p{C}\p{Z}]| )+)$/u;

/**
 * The models, in the page's order and each name once; null if the member is not there or not of its shape.
 * Linear in the length of the scripts.
 * @param {string[]} scripts the texts of the page's scripts, in their order
 * @param {string} member the name that the profile gives, as in "initialModels"
 * @returns {Entry[] | null}
 */
export function readCatalogue(scripts, member) {
  const flight = scripts.flatMap(flightTexts).join("");
  const listed = listNamed(flight, member);
  if (listed === null) return null;
  const found = new Map();
  for (const raw of listed) {
    const entry = entryOf(raw);
    if (entry && !found.has(entry.model.id)) found.set(entry.model.id, entry);
    if (found.size === MAX_MODELS) break;
  }
  return found.size === 0 && listed.length > 0 ? null : [...found.values()];
}

/** The texts that one script pushes. @param {string} script @returns {string[]} */
function flightTexts(script) {
  if (!script.includes("__next_f")) return [];
  const texts = [];
  for (let at = script.indexOf(PUSH); at >= 0;) {
    const start = at + PUSH.length;
    const end = endOfValue(script, start);
    const argument = end < 0 ? undefined : parsed(script.slice(start, end));
    if (isArray(argument) && argument[0] === 1 && typeof argument[1] === "string") texts.push(argument[1]);
    at = script.indexOf(PUSH, argument === undefined ? start : end);
  }
  return texts;
}

/**
 * The list that is the member's value.
 * @param {string} text
 * @param {string} member
 * @returns {any[] | null}
 */
function listNamed(text, member) {
  const name = `${stringify(member)}:[`;
  let at = text.indexOf(name);
  for (let place = 0; at >= 0 && place < MOST_PLACES; place += 1) {
    const start = at + name.length - 1;
    const end = endOfValue(text, start);
    const list = end < 0 ? undefined : parsed(text.slice(start, end));
    if (isArray(list)) return list;
    at = text.indexOf(name, start);
  }
  return null;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const LIST = 0x5b;
const LIST_END = 0x5d;
const OBJECT = 0x7b;
const OBJECT_END = 0x7d;

/** Just after the list or object that begins at `start`, or -1. @param {string} text @param {number} start */
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

/** @param {any} raw @returns {Entry | null} */
function entryOf(raw) {
  const name = raw?.publicName;
  if (typeof raw?.id !== "string" || !isLabel(name)) return null;
  const { inputCapabilities, outputCapabilities } = raw.capabilities ?? {};
  const modalities = { in: modalitiesOf(inputCapabilities), out: modalitiesOf(outputCapabilities) };
  /** @type {Model} */
  const model = { id: name, modalities, kinds: ["chat"] };
  if (isLabel(raw.organization)) model.organization = raw.organization;
  return { model, id: raw.id };
}

/** A list of names, or an object whose true members are the names. @param {any} capabilities */
function modalitiesOf(capabilities) {
  const names = isArray(capabilities)
    ? capabilities
    : entries(capabilities ?? {}).flatMap(([name, value]) => (value ? [name] : []));
  const known = names.filter(isLabel).slice(0, MOST_MODALITIES);
  return known.length > 0 ? known : ["text"];
}

/** 1 to 200 printable characters. @param {any} value */
const isLabel = (value) =>
  typeof value === "string" &&
  value.length <= 400 &&
  PRINTABLE.test(value) &&
  (value.length <= 200 || [...value].length <= 200);

/** @param {string} text */
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

/**
 * The hub's address and this tab's token: the only holder of both.
 *
 * The page shares our realm, and after the first moment it may have patched anything: `JSON.stringify`, the
 * methods of strings and arrays, `Object.prototype` with setters, getters and `toJSON`. So the token is never
 * a member of an object that others see, never the result of a promise and never matched by a regular
 * expression (`RegExp.$_` would keep it). It is touched by operators and by references taken now, and leaves
 * this file only as a part of a text: the hello for a socket's own `send`, the header for the userscript
 * manager.
 *
 * @typedef {{http: string, ws: string, isLoopback: boolean}} Hub base addresses without a slash at their end
 * @typedef {object} Credentials
 * @property {() => Hub | null} hub the same object as long as neither address nor token changes
 * @property {boolean} hasToken
 * @property {(words?: typeof WORDS) => boolean} ask ask the person for both; whether there are new ones now
 * @property {(listener: () => void) => void} listen called when another hub or token is to be used
 * @property {(introduction: import("./protocol.js").Introduction, hub: Hub) => string} helloText a hello's
 *   JSON text with the token; "" if `hub` is not the present one any more: a token goes to no hub but its own
 * @property {(hub: Hub) => string} authorization an Authorization header's value; "" as above
 */

import { getter, method } from "./natives.js";
import { encode, hello } from "./protocol.js";

const { apply, construct } = Reflect;
const { freeze } = Object;
const { stringify } = JSON;
const Address = URL;
const slice = method(String.prototype, "slice");
const trim = method(String.prototype, "trim");
const protocolOf = getter(Address.prototype, "protocol");
const hostOf = getter(Address.prototype, "host");
const hostnameOf = getter(Address.prototype, "hostname");
const pathOf = getter(Address.prototype, "pathname");
const usernameOf = getter(Address.prototype, "username");
const passwordOf = getter(Address.prototype, "password");
const searchOf = getter(Address.prototype, "search");
const hashOf = getter(Address.prototype, "hash");

/** What is stored under this name: the hub's http address, a space, the token; "" for nothing. */
const STORED = "hub";
const MAX_TOKEN = 200;
const HELLO_BEGINS = '{"hello":{';

/** What a person reads when asked. After a wrong answer the question comes again, with `wrong…` in front. */
export const WORDS = freeze({
  address: "The address of your hub, such as https://hub.example.org",
  token: "A worker token of that hub",
  wrongAddress: "That is no address of a hub: it begins with https:// or http:// and holds no secrets.",
  wrongToken: "That is no worker token: it is one word of letters, digits and signs.",
});

const SECURE = freeze({ __proto__: null, "https:": "s", "wss:": "s", "http:": "", "ws:": "" });

/**
 * The address that a person typed, or null if it is none.
 * @param {any} text
 * @returns {Hub | null}
 */
export function parseHub(text) {
  let url;
  try {
    url = construct(Address, [trim(`${text}`)]);
  } catch {
    return null;
  }
  const s = SECURE[protocolOf(url)];
  const extras = usernameOf(url) + passwordOf(url) + searchOf(url) + hashOf(url);
  if (s === undefined || hostOf(url) === "" || extras !== "") return null;
  let path = pathOf(url);
  while (path[path.length - 1] === "/") path = slice(path, 0, -1);
  const place = hostOf(url) + path;
  return freeze({
    __proto__: null,
    http: `http${s}://${place}`,
    ws: `ws${s}://${place}`,
    isLoopback: isLoopback(hostnameOf(url)),
  });
}

/** @param {string} host */
const isLoopback = (host) => host === "localhost" || host === "127.0.0.1" || host === "[::1]";

/** Whether it could be a token: visible ASCII. @param {string} text */
function isToken(text) {
  if (text.length === 0 || text.length > MAX_TOKEN) return false;
  for (let at = 0; at < text.length; at += 1) {
    if (text[at] <= " " || text[at] > "~") return false;
  }
  return true;
}

/**
 * @param {object} options
 * @param {Window} options.window the page's own (`unsafeWindow`); its `prompt` is taken now
 * @param {(name: string, value?: any) => any} options.GM_getValue the kind that answers at once
 * @param {(name: string, value: any) => void} options.GM_setValue
 * @param {(name: string, heard: (name: string, before: any, now: any, remote: boolean) => void) => any}
 *   options.GM_addValueChangeListener
 * @param {string} [options.suggested] the address to suggest while there is none
 * @returns {Credentials}
 */
export function openCredentials({
  window,
  GM_getValue,
  GM_setValue,
  GM_addValueChangeListener,
  suggested = "",
}) {
  const { prompt } = window;
  /** @type {Hub | null} */
  let hub = null;
  let token = "";
  /** The token as JSON text. */
  let quoted = '""';
  let stored = "";
  let changed = () => {};

  /** @param {any} value what is stored; whatever it is */
  const read = (value) => {
    const text = typeof value === "string" ? value : "";
    if (text === stored) return;
    stored = text;
    let gap = 0;
    while (gap < text.length && text[gap] !== " ") gap += 1;
    hub = parseHub(slice(text, 0, gap));
    const rest = slice(text, gap + 1);
    token = hub !== null && isToken(rest) ? rest : "";
    quoted = stringify(token);
    changed();
  };

  /**
   * Ask until the answer is good; null if the person gave up.
   * @template T
   * @param {string} question
   * @param {string} wrong
   * @param {string} offered
   * @param {(answer: string) => T | null} good
   * @returns {T | null}
   */
  const question = (question, wrong, offered, good) => {
    for (let words = question; ; words = `${wrong}\n\n${question}`) {
      const answer = apply(prompt, window, [words, offered]);
      if (typeof answer !== "string") return null;
      const found = good(trim(answer));
      if (found !== null) return found;
    }
  };

  read(GM_getValue(STORED, ""));
  GM_addValueChangeListener(STORED, (name, before, now) => read(now));

  return freeze({
    __proto__: null,
    hub: () => hub,
    get hasToken() {
      return token !== "";
    },
    ask(words = WORDS) {
      const known = hub ?? parseHub(suggested);
      const place = question(words.address, words.wrongAddress, known?.http ?? "", parseHub);
      if (place === null) return false;
      const secret = question(words.token, words.wrongToken, "", (text) => (isToken(text) ? text : null));
      if (secret === null) return false;
      const value = `${place.http} ${secret}`;
      GM_setValue(STORED, value);
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
    authorization: (to) => (token === "" || to !== hub ? "" : `Bearer ${token}`),
  });
}

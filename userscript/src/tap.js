/**
 * Reading along: the page's own requests that carry a prompt, seen in `window.fetch`.
 *
 * The page gets what the native fetch gives it, the very promise, and every byte. Only the request that a job
 * expects is cloned and read; what a person asks in the tab is noticed and never read. Our branch is read at
 * once and as fast as it comes: the loop awaits nothing but the stream, since unread data piles up in memory.
 *
 * @typedef {object} Reader what a job wants to hear of its request; none of it may throw or be waited for
 * @property {() => void} sent it leaves now
 * @property {(answer: import("./site_rules.js").Answer) => void} refused the answer is no stream of 200
 * @property {(text: string) => void} text a part of the stream, decoded
 * @property {() => void} over the stream has ended
 * @property {(error: any) => void} broke the request or the stream failed; an AbortError if it was stopped
 */

import { getter, method } from "./natives.js";
import { isSamePrompt, matchesHost, matchesPath, memberAt } from "./site_rules.js";

const { parse } = JSON;
const { apply } = Reflect;
const { isView } = ArrayBuffer;
const Address = URL;
const Decoder = TextDecoder;
const PageRequest = Request;
const PageResponse = Response;
const Bytes = ArrayBuffer;
const Binary = Blob;
const then = method(Promise.prototype, "then");
const cloneRequest = method(Request.prototype, "clone");
const cloneResponse = method(Response.prototype, "clone");
const bodyOf = getter(Response.prototype, "body");
const textOfRequest = method(Request.prototype, "text");
const textOfResponse = method(Response.prototype, "text");
const getReader = method(ReadableStream.prototype, "getReader");
const readOf = method(ReadableStreamDefaultReader.prototype, "read");
const cancelOf = method(ReadableStreamDefaultReader.prototype, "cancel");
const later = setTimeout;
const forgetTimer = clearTimeout;

/** What of an answer that is no stream is looked at: bytes, and milliseconds to wait for them. */
const MOST_REFUSAL_BYTES = 64 * 1024;
const REFUSAL_MS = 5_000;
/** Types that are never the stream, whatever the status. */
const NO_STREAM = /^(?:text\/html|application\/(?:[\w.-]+\+)?json)\b/i;

export class Tap {
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
  constructor({ window, profile, heard }) {
    this.#window = window;
    this.#profile = profile;
    this.#heard = heard;
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

  setProfile(profile) {
    this.#profile = profile;
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
    if (!watch) return apply(this.#native, self, given);
    quietly(() => watch.leaves());
    const answer = apply(this.#native, self, given);
    then(
      answer,
      (response) => quietly(() => watch.answered(response)),
      (error) => quietly(() => watch.broke(error)),
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
    const prompt = memberAt(parsed(body), this.#profile.prompt_at);
    const found =
      typeof prompt === "string" && this.#expected.find((one) => isSamePrompt(one.prompt, prompt));
    if (!found) return new Stranger(this);
    this.forget(found);
    return found;
  }

  #carriesPrompt([input, init]) {
    const request = input instanceof PageRequest ? input : null;
    const method = init?.method ?? request?.method;
    if (typeof method !== "string" || method.toUpperCase() !== "POST") return false;
    const { location, document } = this.#window;
    const { host, hostname, pathname } = new Address(request ? request.url : input, document.baseURI);
    const { hosts, requests } = this.#profile;
    return (host === location.host || matchesHost(hosts, hostname)) && matchesPath(requests, pathname);
  }

  /** A prompt that is not a job's. @param {"sent" | "answered" | "broke"} what */
  strangerWas(what) {
    this.#pending += what === "sent" ? 1 : -1;
    if (what !== "broke") this.#heard(what);
  }
}

/**
 * Whatever goes wrong with us, the page must not notice.
 * @template T
 * @param {() => T} act
 * @returns {T | null}
 */
function quietly(act) {
  try {
    return act();
  } catch {
    return null;
  }
}

/** The text of a request's body, or a promise of it; null where it cannot be had without touching it. */
function textOf([input, init]) {
  const body = init?.body;
  if (typeof body === "string") return body;
  if (body instanceof Bytes || isView(body) || body instanceof Binary) {
    return textOfResponse(new PageResponse(body));
  }
  if (body !== undefined && body !== null) return null;
  return input instanceof PageRequest ? textOfRequest(cloneRequest(input)) : null;
}

/** Somebody's own prompt. */
class Stranger {
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
}

/** The body's text is still to come: what happens until then is kept. */
class Undecided {
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
  #once(act) {
    then(this.#decided, (watch) => quietly(() => act(watch)));
  }
}

/** A job's request, and the branch of its answer that is ours. */
export class Expectation {
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
    if (this.#branch) then(cancelOf(this.#branch), undefined, () => {});
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
  async #readRefusal({ status, redirected, headers }) {
    const text = await this.#beginning();
    this.#letGo();
    if (this.#cancelled) return;
    this.#reader.refused({ status, redirected, header: (name) => headers.get(name), text });
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
      // What has come is enough.
    }
    forgetTimer(enough);
    return text;
  }

  /** @returns {Promise<Uint8Array | null>} */
  async #next() {
    const { done, value } = this.#branch ? await readOf(this.#branch) : { done: true };
    return done ? null : value;
  }
}

/** @param {Response} response */
const isStream = ({ status, redirected, headers }) =>
  status === 200 && !redirected && !NO_STREAM.test(headers.get("content-type") ?? "");

/** @param {string} text */
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return undefined;
  }
}

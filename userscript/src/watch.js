/**
 * How the page is: whether it can be used or needs its human, and which models it offers.
 *
 * `attention` stays until the page itself shows that it is fine (the sign gone and a composer there), a
 * person got an answer in it, or its human says so.
 */

import { readCatalogue } from "./catalogue.js";

const { stringify } = JSON;
const { now } = Date;

/** Milliseconds between two looks for signs, however much the page changes. */
const LOOK_EVERY_MS = 500;
/** A new chat that has no composer for so long is no page that is still coming. */
const BARE_PAGE_MS = 10_000;

export class Watch {
  #driver;
  #catalogue;
  #tell;
  #onSign;
  #setTimeout;
  #clearTimeout;
  #models = "";
  #names = new Set();
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
  constructor({ window, driver, profile, tell, onSign }) {
    this.#driver = driver;
    this.#catalogue = profile.catalogue;
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
    // The sign of a refusal may come and go quickly.
    const wait = this.#isRefused ? 0 : this.#lookedAt + LOOK_EVERY_MS - now();
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
    this.#lookedAt = now();
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
    const entries = readCatalogue(this.#driver.scripts(), this.#catalogue);
    if (entries === null) {
      this.#missModels();
      return;
    }
    const models = entries.map(({ model }) => model);
    const text = stringify(models);
    if (text === this.#models) return;
    this.#models = text;
    this.#names = new Set(models.map(({ id }) => id));
    this.#tell({ t: "models", models });
  }

  /** Only a new chat is known to have a catalogue. */
  #missModels() {
    if (!this.#driver.isNewChat || this.#driver.isLoading || this.#driver.sign()) return;
    const message = `the page has no catalogue (${this.#catalogue})`;
    this.#tell({ t: "notice", code: "site_changed", message });
  }
}

/** @param {{title?: string, text?: string, selector?: string}} sign */
export const described = ({ title, text, selector }) => `the page shows "${title ?? text ?? selector}"`;

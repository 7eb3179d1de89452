/**
 * A job's way into the page, up to the press: a new chat, its model, its attachments, its prompt.
 *
 * What the page does about something is waited for and seen; nothing is taken for done because it was asked.
 */

import { JobFailure } from "./site_rules.js";

const Controller = AbortController;

/** Milliseconds. On all but sick pages they add up to less than the hub waits for a start. */
const PART_MS = 5_000;
const URL_MODEL_MS = 2_000;
const OPTION_MS = 3_000;
const CLOSE_MS = 500;
const UPLOAD_MS = 60_000;
/** So often a page may take the prompt out of its composer again, as a React page does while it wakes up. */
const MOST_FILLS = 5;

/** There is no way within the page: the tab has to load a new chat's address. */
export class MustNavigate extends Error {}

/**
 * @typedef {object} Way what a job wants of the chat, and how far it is
 * @property {string} model
 * @property {string} prompt
 * @property {import("./site_rules.js").Attachment[]} attachments
 * @property {boolean} navigated the tab has just loaded a new chat's address for it
 * @property {AbortSignal} signal
 * @property {boolean} isPicking the picker is open by its doing, or about to be
 * @property {boolean} hasFilled the composer has held its prompt
 */

export class Chat {
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
    const link = driver.one("new_chat");
    // On the same address nothing would prove that the chat is a new one.
    if (link && !driver.isNewChat && !this.#isStale) {
      driver.click(link);
      const isThere = () =>
        driver.isNewChat && driver.one("composer") && !driver.one("stop") && driver.composed === "";
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
    if (!(await driver.seen(() => driver.one("picker"), PART_MS, signal))) {
      throw driver.siteChanged("no picker");
    }
    if (shows()) return;
    if (driver.isAskedFor(model) && (await driver.seen(shows, URL_MODEL_MS, signal))) return;
    way.isPicking = true;
    if (
      !(await this.#press(
        way,
        () => driver.one("picker"),
        () => driver.isPickerOpen,
      ))
    ) {
      throw driver.siteChanged("the picker shows no options");
    }
    const filter = driver.one("picker_filter");
    if (filter) driver.fill(filter, model);
    if (!(await driver.seen(() => driver.option(model), OPTION_MS, signal))) {
      throw new JobFailure("model_not_found", "the page's picker does not have the model");
    }
    if (!(await this.#press(way, () => driver.option(model), shows))) {
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
    const { signal } = new Controller();
    const picker = driver.one("picker");
    if (!picker || !(await driver.seen(() => driver.isPickerOpen, CLOSE_MS, signal))) return;
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
      // So that the button is first seen disabled: what it was enabled for is not what will be sent.
      driver.fill(composer, "");
      await driver.seen(() => driver.one("send")?.disabled, PART_MS, way.signal);
    }
    if (way.attachments.length > 0) this.#attach(way);
    const patience = way.attachments.length > 0 ? UPLOAD_MS : PART_MS;
    if (!(await this.#isTaken(way, patience))) throw this.#notTaken(way);
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
      const composer = driver.one("composer");
      fills += 1;
      way.hasFilled = true;
      if (composer) driver.fill(composer, way.prompt);
    };
    const isReady = () => {
      const send = driver.one("send");
      if (driver.holds(way.prompt)) return send && !send.disabled && driver.shows(way.model);
      if (fills < MOST_FILLS) put();
      return false;
    };
    if (await driver.seen(isReady, patience / 2, way.signal)) return true;
    // A page that was not awake yet has the text but never heard of it.
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
}

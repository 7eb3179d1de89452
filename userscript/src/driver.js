/**
 * Hands and eyes in the page: finds its parts by the profile's selectors, waits for them, fills and presses.
 *
 * All of it works in a hidden tab: what is waited for is seen by a MutationObserver, and a timer is only ever
 * a deadline. Values go in by the prototype's own setter, since a page may watch the instance's.
 *
 * @typedef {"composer" | "send" | "stop" | "files" | "new_chat" | "picker" | "picker_filter" | "option"} Part
 */

import { method, setter } from "./natives.js";
import { isSamePrompt, JobFailure } from "./site_rules.js";

export class Driver {
  #window;
  #profile;
  #native;

  /** @param {{window: any, profile: any}} options */
  constructor({ window, profile }) {
    this.#window = window;
    this.#profile = profile;
    this.#native = natives(window);
  }

  setProfile(profile) {
    this.#profile = profile;
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
    const wanted = /** @type {Part[]} */ (["composer", "send", "picker", "new_chat"]);
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
    const isThere = (sign) =>
      sign.title === undefined
        ? this.#find(sign.selector).some(
            (element) => element.textContent.includes(sign.text ?? "") && this.isVisible(element),
          )
        : title.startsWith(sign.title);
    return this.#profile.signs.find(isThere) ?? null;
  }

  isVisible(element) {
    // Two names of the same wish, from two generations of browsers.
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
    const { setTimeout, clearTimeout } = this.#native;
    return new Promise((resolve, reject) => {
      const done = (settle, value) => {
        unobserve();
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
        settle(value);
      };
      const again = () => {
        const found = look();
        if (found) done(resolve, found);
      };
      const stop = () => done(reject, signal.reason);
      const unobserve = this.observe(again);
      const timer = setTimeout(() => done(resolve, look() || null), ms);
      signal.addEventListener("abort", stop);
    });
  }

  /**
   * Call after every change of the document or of the page's address.
   * @param {() => void} changed
   * @returns {() => void} ends it
   */
  observe(changed) {
    const { MutationObserver } = this.#native;
    const { document, navigation } = this.#window;
    const observer = new MutationObserver(changed);
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    // A page may change its address after everything else.
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
    const { setters, Event, dispatchEvent } = this.#native;
    const set = setters.get(field.tagName);
    if (!set) return;
    set(field, text);
    dispatchEvent(field, new Event("input", { bubbles: true }));
  }

  /** @param {any} input @param {import("./site_rules.js").Attachment[]} attachments */
  attach(input, attachments) {
    const { DataTransfer, File, Event, dispatchEvent, setFiles } = this.#native;
    const transfer = new DataTransfer();
    for (const { bytes, name, type } of attachments) {
      transfer.items.add(new File([bytes], name, { type }));
    }
    setFiles(input, transfer.files);
    dispatchEvent(input, new Event("change", { bubbles: true }));
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
}

/** References to what the page may replace later. @param {any} window */
function natives(window) {
  const { Element, EventTarget, HTMLElement, HTMLInputElement, HTMLTextAreaElement } = window;
  return {
    DataTransfer: window.DataTransfer,
    Event: window.Event,
    File: window.File,
    MutationObserver: window.MutationObserver,
    URLSearchParams: window.URLSearchParams,
    setTimeout: window.setTimeout.bind(window),
    clearTimeout: window.clearTimeout.bind(window),
    checkVisibility: method(Element.prototype, "checkVisibility"),
    click: method(HTMLElement.prototype, "click"),
    dispatchEvent: method(EventTarget.prototype, "dispatchEvent"),
    setFiles: setter(HTMLInputElement.prototype, "files"),
    setters: new Map([
      ["TEXTAREA", setter(HTMLTextAreaElement.prototype, "value")],
      ["INPUT", setter(HTMLInputElement.prototype, "value")],
    ]),
  };
}

(() => {
"use strict";


// src/site_rules.js
var { parse } = JSON;
var { isArray } = Array;
var { isFinite } = Number;
var { hasOwn } = Object;
var { ceil, max, min } = Math;
var { now, parse: parseDate } = Date;
var decodePercent = decodeURIComponent;
var decodeBase64 = atob;
var utf8 = new TextEncoder();
var encodeUtf8 = utf8.encode.bind(utf8);
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
  (inner, name) => typeof inner === "object" && inner !== null && hasOwn(inner, name) ? inner[name] : void 0,
  value
);
var isSamePrompt = (one, other) => one === other || squeezed(one) === squeezed(other);
var squeezed = (text) => mended(text).replace(/\s+/gu, " ").trim();
var mended = (text) => text.replace(/\p{Surrogate}/gu, "�");
function ruleFor(rules, { text, status, header }) {
  const lower = text.toLowerCase();
  return rules.find(
    (rule) => (!rule.status || rule.status.some((pattern) => matchesStatus(pattern, status))) && (!rule.text || rule.text.some((part) => lower.includes(part.toLowerCase()))) && (!rule.header || (header?.(rule.header[0]) ?? "").includes(rule.header[1]))
  );
}
function matchesStatus(pattern, status) {
  const digits = `${status}`;
  return pattern.length === digits.length && [...pattern].every((digit, at) => digit === "x" || digit === digits[at]);
}
function failureOfAnswer({ errors }, { status, redirected, header, text }) {
  const seen = redirected ? 301 : status;
  const rule = ruleFor(errors, { status: seen, header, text });
  const type = (header("content-type") ?? "").split(";")[0];
  const said = redirected ? "the site redirected the prompt" : `the site answered ${status}`;
  return {
    code: rule?.code ?? "site_changed",
    message: rule || type === "" ? said : `${said} (${type.slice(0, 100)})`,
    ...pause(retryAfter(header("retry-after")) ?? rule?.pause_s)
  };
}
function failureOfComplaint({ stream_errors: rules }, value) {
  const { message, code } = complaint(value);
  const rule = ruleFor(rules, { text: `${message}
${code}` });
  return {
    code: rule?.code ?? "upstream_error",
    message: short(message || code || "the site gave no reason"),
    ...pause(rule?.pause_s)
  };
}
function complaint(value, depth = 0) {
  if (typeof value === "string") {
    const inner = value.startsWith("{") && depth < 4 ? parsed(value) : void 0;
    return inner === void 0 ? { message: value, code: "" } : complaint(inner, depth + 1);
  }
  if (typeof value !== "object" || value === null || depth > 4) return { message: "", code: "" };
  if (hasOwn(value, "error") && value.error) return complaint(value.error, depth + 1);
  const code = value.code ?? value.type ?? "";
  const { message } = complaint(value.message, depth + 1);
  return { message, code: typeof code === "object" ? "" : `${code}` };
}
function parsed(text) {
  try {
    return parse(text);
  } catch {
    return void 0;
  }
}
var short = (text) => mended(text.slice(0, LONGEST_COMPLAINT));
var pause = (seconds) => seconds === void 0 ? {} : { retry_after_s: seconds };
function retryAfter(text) {
  if (text === null || text.trim() === "") return void 0;
  const seconds = isFinite(+text) ? +text : (parseDate(text) - now()) / 1e3;
  return isFinite(seconds) ? min(LONGEST_PAUSE_S, max(0, ceil(seconds))) : void 0;
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
  if (!isArray(messages) || messages.length !== 1 || messages[0]?.role !== "user") {
    throw unsupported("a tab takes exactly one message, from the user");
  }
  const { content } = messages[0];
  if (typeof content === "string") return { prompt: content, attachments: [] };
  if (!isArray(content)) throw unsupported("the message has no content");
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
    if (!isBase64) return encodeUtf8(decodePercent(data));
    return Uint8Array.from(decodeBase64(data), (character) => character.charCodeAt(0));
  } catch {
    throw unsupported("an image's data URL is malformed");
  }
}

// src/chat.js
var Controller = AbortController;
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
    const link = driver.one("new_chat");
    if (link && !driver.isNewChat && !this.#isStale) {
      driver.click(link);
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
    const { signal } = new Controller();
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

// src/natives.js
var { apply, getOwnPropertyDescriptor } = Reflect;
function method(prototype, name) {
  const native = prototype[name];
  return (self, ...given) => apply(native, self, given);
}
function getter(prototype, name) {
  const { get } = getOwnPropertyDescriptor(prototype, name);
  return (self) => apply(get, self, []);
}
function setter(prototype, name) {
  const { set } = getOwnPropertyDescriptor(prototype, name);
  return (self, value) => apply(set, self, [value]);
}

// src/driver.js
var Driver = class {
  #window;
  #profile;
  #native;
  /** @param {{window: any, profile: any}} options */
  constructor({ window: window2, profile }) {
    this.#window = window2;
    this.#profile = profile;
    this.#native = natives(window2);
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
    const { MutationObserver } = this.#native;
    const { document, navigation } = this.#window;
    const observer = new MutationObserver(changed);
    observer.observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
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
};
function natives(window2) {
  const { Element, EventTarget, HTMLElement, HTMLInputElement, HTMLTextAreaElement } = window2;
  return {
    DataTransfer: window2.DataTransfer,
    Event: window2.Event,
    File: window2.File,
    MutationObserver: window2.MutationObserver,
    URLSearchParams: window2.URLSearchParams,
    setTimeout: window2.setTimeout.bind(window2),
    clearTimeout: window2.clearTimeout.bind(window2),
    checkVisibility: method(Element.prototype, "checkVisibility"),
    click: method(HTMLElement.prototype, "click"),
    dispatchEvent: method(EventTarget.prototype, "dispatchEvent"),
    setFiles: setter(HTMLInputElement.prototype, "files"),
    setters: /* @__PURE__ */ new Map([
      ["TEXTAREA", setter(HTMLTextAreaElement.prototype, "value")],
      ["INPUT", setter(HTMLInputElement.prototype, "value")]
    ])
  };
}

// src/citations.js
var { parse: parse2 } = JSON;
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
    return sourcesIn(call.push(text).map(parsed2)).map(({ url, title }) => ({
      type: "url_citation",
      url_citation: {
        url: mended(url),
        title: mended(typeof title === "string" ? title : url),
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
function parsed2(text) {
  try {
    return parse2(text);
  } catch {
    return void 0;
  }
}

// src/protocol.js
var { parse: parse3, stringify } = JSON;
var { entries, freeze, fromEntries, hasOwn: hasOwn2 } = Object;
var { isArray: isArray2 } = Array;
var { isFinite: isFinite2, isInteger } = Number;
var { max: max2 } = Math;
var utf82 = new TextEncoder();
var encodeUtf82 = utf82.encode.bind(utf82);
var MAX_UNACKED_BYTES = 8 * 1024 * 1024;
var MAX_MODELS = 5e3;
var Close = freeze({
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
var failure = (worker, provesNotRun, error) => freeze({ worker, provesNotRun, error });
var FAILURES = freeze({
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
var REPLACEMENT = "�";
var mended2 = (text) => text.replace(LONE_SURROGATE, REPLACEMENT);
var characters = (text) => [...text].length;
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
    return mended2(all.slice(0, cut));
  }
  /** What is left at the end of the text: the half that never came whole, replaced. */
  flush() {
    const rest = mended2(this.#held);
    this.#held = "";
    return rest;
  }
};
var MOST_SECONDS = 10 * 86400;
var MOST_NUMBER = 2 ** 53;
var isText = (value) => typeof value === "string";
var isFlag = (value) => typeof value === "boolean";
var isObject = (value) => typeof value === "object" && value !== null && !isArray2(value);
var isAnything = () => true;
var isIdentifier = (value) => isText(value) && value !== "" && characters(value) <= 128;
var isNumber = (value) => isInteger(value) && value >= 0 && value <= MOST_NUMBER;
var isSlots = (value) => isInteger(value) && value >= 0 && value <= 1e4;
var isSeconds = (value) => isFinite2(value) && value >= 0 && value <= MOST_SECONDS;
var isOneOf = (...words) => (value) => words.includes(value);
var maybe = (check) => (value) => value === void 0 || value === null || check(value);
var HUB_FRAMES = {
  job: {
    job: isIdentifier,
    kind: isOneOf("chat", "image", "embedding"),
    model: isText,
    body: isAnything,
    deadline_s: isFinite2
  },
  cancel: { job: isIdentifier, reason: isText },
  ping: {},
  drain: {},
  profile: { profile: isObject },
  scale: { slots: isSlots }
};
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

// src/site_stream.js
var { parse: parse4 } = JSON;
var { isArray: isArray3 } = Array;
var { isSafeInteger } = Number;
var { entries: entries2, fromEntries: fromEntries2, hasOwn: hasOwn3, keys } = Object;
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
    if (position === void 0 || !hasOwn3(lines, code)) {
      if (!cut || line.length > 4) this.#count(head ?? "no line");
      return;
    }
    if (position !== positions[0]) {
      this.#battle += 1;
      return;
    }
    const kind = lines[code];
    const value = parsed3(line.slice(line.indexOf(":") + 1));
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
      if (type !== "image" && type !== "heartbeat") this.#count(`${head} type ${nameOf(type)}`);
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
    const known = typeof reason === "string" && hasOwn3(FINISH_REASONS, reason);
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
      const end = { t: "end", finish_reason: truncated ? "length" : reason };
      if (usage) end.usage = usage;
      if (truncated) end.truncated = true;
      this.#settle(end, events);
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
function parsed3(text) {
  try {
    return parse4(text);
  } catch {
    return void 0;
  }
}
var isObject2 = (value) => typeof value === "object" && value !== null && !isArray3(value);
var isWebAddress = (value) => typeof value === "string" && /^https?:\/\//i.test(value);
var nameOf = (value) => typeof value === "string" && NAME.test(value) ? value : "?";
function imageUrl({ image }) {
  const url = isObject2(image) ? image.url : image;
  return isWebAddress(url) || typeof url === "string" && /^data:image\//i.test(url) ? url : "";
}
function usageOf(value) {
  if (!isObject2(value)) return void 0;
  const usage = {};
  for (const [name, aliases] of entries2(USAGE)) {
    const alias = aliases.find((key) => isSafeInteger(value[key]) && value[key] >= 0);
    if (alias) usage[name] = value[alias];
  }
  const { prompt_tokens: prompt, completion_tokens: completion } = usage;
  if (prompt !== void 0 && completion !== void 0) usage.total_tokens ??= prompt + completion;
  return keys(usage).length > 0 ? usage : void 0;
}

// src/tap.js
var { parse: parse5 } = JSON;
var { apply: apply2 } = Reflect;
var { isView } = ArrayBuffer;
var Address = URL;
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
  constructor({ window: window2, profile, heard }) {
    this.#window = window2;
    this.#profile = profile;
    this.#heard = heard;
    this.#native = window2.fetch;
    const call = (self, given) => this.#call(self, given);
    this.#wrapper = function fetch(input) {
      return call(this, arguments);
    };
    window2.fetch = this.#wrapper;
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
    if (!watch) return apply2(this.#native, self, given);
    quietly(() => watch.leaves());
    const answer = apply2(this.#native, self, given);
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
    const prompt = memberAt(parsed4(body), this.#profile.prompt_at);
    const found = typeof prompt === "string" && this.#expected.find((one) => isSamePrompt(one.prompt, prompt));
    if (!found) return new Stranger(this);
    this.forget(found);
    return found;
  }
  #carriesPrompt([input, init]) {
    const request = input instanceof PageRequest ? input : null;
    const method2 = init?.method ?? request?.method;
    if (typeof method2 !== "string" || method2.toUpperCase() !== "POST") return false;
    const { location: location2, document } = this.#window;
    const { host, hostname, pathname } = new Address(request ? request.url : input, document.baseURI);
    const { hosts, requests } = this.#profile;
    return (host === location2.host || matchesHost(hosts, hostname)) && matchesPath(requests, pathname);
  }
  /** A prompt that is not a job's. @param {"sent" | "answered" | "broke"} what */
  strangerWas(what) {
    this.#pending += what === "sent" ? 1 : -1;
    if (what !== "broke") this.#heard(what);
  }
};
function quietly(act) {
  try {
    return act();
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
  #once(act) {
    then(this.#decided, (watch) => quietly(() => act(watch)));
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
var isStream = ({ status, redirected, headers }) => status === 200 && !redirected && !NO_STREAM.test(headers.get("content-type") ?? "");
function parsed4(text) {
  try {
    return parse5(text);
  } catch {
    return void 0;
  }
}

// src/catalogue.js
var { parse: parse6, stringify: stringify2 } = JSON;
var { isArray: isArray4 } = Array;
var { entries: entries3 } = Object;
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
    const end = endOfValue(script, start);
    const argument = end < 0 ? void 0 : parsed5(script.slice(start, end));
    if (isArray4(argument) && argument[0] === 1 && typeof argument[1] === "string") texts.push(argument[1]);
    at = script.indexOf(PUSH, argument === void 0 ? start : end);
  }
  return texts;
}
function listNamed(text, member) {
  const name = `${stringify2(member)}:[`;
  let at = text.indexOf(name);
  for (let place = 0; at >= 0 && place < MOST_PLACES; place += 1) {
    const start = at + name.length - 1;
    const end = endOfValue(text, start);
    const list = end < 0 ? void 0 : parsed5(text.slice(start, end));
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
  const names = isArray4(capabilities) ? capabilities : entries3(capabilities ?? {}).flatMap(([name, value]) => value ? [name] : []);
  const known = names.filter(isLabel).slice(0, MOST_MODALITIES);
  return known.length > 0 ? known : ["text"];
}
var isLabel = (value) => typeof value === "string" && value.length <= 400 && PRINTABLE.test(value) && (value.length <= 200 || [...value].length <= 200);
function parsed5(text) {
  try {
    return parse6(text);
  } catch {
    return void 0;
  }
}

// src/watch.js
var { stringify: stringify3 } = JSON;
var { now: now2 } = Date;
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
  constructor({ window: window2, driver, profile, tell, onSign }) {
    this.#driver = driver;
    this.#catalogue = profile.catalogue;
    this.#tell = tell;
    this.#onSign = onSign;
    this.#setTimeout = window2.setTimeout.bind(window2);
    this.#clearTimeout = window2.clearTimeout.bind(window2);
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
    const wait = this.#isRefused ? 0 : this.#lookedAt + LOOK_EVERY_MS - now2();
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
    this.#lookedAt = now2();
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
    const entries4 = readCatalogue(this.#driver.scripts(), this.#catalogue);
    if (entries4 === null) {
      this.#missModels();
      return;
    }
    const models = entries4.map(({ model }) => model);
    const text = stringify3(models);
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
};
var described = ({ title, text, selector }) => `the page shows "${title ?? text ?? selector}"`;

// src/page.js
var Controller2 = AbortController;
var PART_MS2 = 5e3;
var REQUEST_MS = 15e3;
var PERSON = { code: "upstream_error", message: "its person is using the tab" };
var ATTENTION = ["challenge", "login_required", "consent_required"];
var Stopped = class extends Error {
};
var Job = class {
  /** How far it is. @type {"opening" | "waiting" | "pressed" | "started"} */
  phase = "opening";
  controller = new Controller2();
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
  constructor({ job, model, body, mode, navigated = false }, profile) {
    this.id = job;
    this.model = model;
    this.body = body;
    this.mode = mode;
    this.navigated = navigated;
    this.profile = profile;
    this.stream = new SiteStream({ profile });
  }
};
function openPage(options) {
  const page = new Page(options);
  return {
    /** Do this. It fails at once (`internal`, not run) while another is in hand. @param {Task} task */
    take: (task) => page.take(task),
    /** Stop it; nothing more is said of it. @param {string} id a job's */
    cancel: (id) => page.cancel(id),
    /** From the next job on. @param {any} profile */
    setProfile: (profile) => page.setProfile(profile),
    /** The human says that the page is fine: look again, and say how it is. */
    look: () => page.look(),
    /** Show the person where to press. */
    focusSend: () => page.focusSend(),
    /** What a person presses to send. @returns {HTMLElement | null} */
    sendButton: () => page.sendButton(),
    /** Leave the page as it would be without us. */
    close: () => page.close()
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
  constructor({ window: window2, profile, say }) {
    this.#document = window2.document;
    this.#setTimeout = window2.setTimeout.bind(window2);
    this.#clearTimeout = window2.clearTimeout.bind(window2);
    this.#profile = profile;
    this.#say = say;
    this.#tap = new Tap({ window: window2, profile, heard: (what) => this.#heardStranger(what) });
    this.#driver = new Driver({ window: window2, profile });
    this.#chat = new Chat(this.#driver);
    const tell = (message) => this.#tell(message);
    const onSign = (why) => this.#sawSign(why);
    this.#watch = new Watch({ window: window2, driver: this.#driver, profile, tell, onSign });
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
  setProfile(profile) {
    this.#profile = profile;
    this.#driver.setProfile(profile);
    this.#tap.setProfile(profile);
    this.#watch.setProfile(profile);
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
    const fail = { t: "fail", code, message };
    if (retry_after_s !== void 0) fail.retry_after_s = retry_after_s;
    if (job.phase === "opening" || ran === false) fail.ran = false;
    this.#settle(job, fail);
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
    const { signal } = new Controller2();
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

// src/tab.js
var { parse: parse7, stringify: stringify4 } = JSON;
var DOOR = "__lmarena_tab__";
var LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];
function taken(name) {
  const value = window[name];
  delete window[name];
  return value;
}
function begin() {
  const door = taken(DOOR);
  if (!door) return;
  const { profile } = door;
  const hear = taken(door.hear);
  const tell = taken(door.tell);
  const isOurs = window === window.top && matchesHost([...profile.hosts, ...LOOPBACK], location.hostname);
  if (isOurs) serve(hear, tell, profile);
}
async function serve(hear, tell, profile) {
  const say = (message) => {
    const told = tell(stringify4(message));
    if (told instanceof Promise) told.catch(() => {
    });
  };
  const page = openPage({ window, profile, say });
  try {
    for (; ; ) obey(page, parse7(await hear()));
  } catch {
    page.close();
  }
}
function obey(page, command) {
  if (command.take) page.take(command.take);
  else if (command.cancel) page.cancel(command.cancel);
  else if (command.profile) page.setProfile(command.profile);
  else if (command.look) page.look();
}
begin();
})();

/**
 * The site's page as a worker: one job at a time goes in through the page's own controls, and what the page
 * gets for an answer is read along and told.
 *
 * Everything that it has to say goes out by `say`, as plain objects:
 *
 *     {t: "models", models}                         the catalogue was read, or has changed
 *     {t: "site", state, code?, reason?}            "ready" or "attention": that has changed
 *     {t: "waiting", job, for: "human"}             the prompt is in the composer, a person has to send it
 *     {t: "started", job}                           the prompt leaves now
 *     {t: "piece", job, text? | delta?}             neither: the site is still alive
 *     {t: "end", job, finish_reason, usage?, truncated?}
 *     {t: "fail", job, code, message, retry_after_s?, ran?}
 *     {t: "notice", code: "site_changed", message}  something was not understood, although all went well
 *     {t: "navigate", job, url}                     the tab's owner loads url and gives the job again
 *
 * `end`, `fail` or `navigate` is the last of a job, and after a `cancel` comes nothing. `ran: false` stands
 * only where it is certain that the job's prompt has not left. Messages name selectors, statuses and codes,
 * never a prompt; the site's own complaint about one is repeated, as a caller has to know it.
 *
 * @typedef {{job: string, model: string, body: any, mode: "assist" | "automatic", navigated?: boolean}} Task
 *   `body`: an OpenAI chat body with one user message; `navigated`: it is given again after a `navigate`, so
 *   that a page which still is no new chat must have changed
 */

import { Chat, MustNavigate } from "./chat.js";
import { Driver } from "./driver.js";
import { failureOfAnswer, JobFailure, promptOf } from "./site_rules.js";
import { SiteStream } from "./site_stream.js";
import { Tap } from "./tap.js";
import { described, Watch } from "./watch.js";

const Controller = AbortController;

/** Milliseconds for the page to wake up, or to show what follows from what was done. */
const PART_MS = 5_000;
/** From the press to the request. */
const REQUEST_MS = 15_000;

/** Whoever sits in front of the tab goes first; another worker can have the job. */
const PERSON = { code: "upstream_error", message: "its person is using the tab" };
const ATTENTION = ["challenge", "login_required", "consent_required"];

/** The job was cancelled or has ended: its steps end without a word. */
class Stopped extends Error {}

/** A task in hand. */
class Job {
  /** How far it is. @type {"opening" | "waiting" | "pressed" | "started"} */
  phase = "opening";
  controller = new Controller();
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
}

/**
 * To be called at document-start, before the page's own scripts: wraps `window.fetch` at once.
 * @param {{window: any, profile: any, say: (message: object) => unknown}} options `window` is the page's own;
 *   what `say` returns is not waited for
 */
export function openPage(options) {
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
    close: () => page.close(),
  };
}

class Page {
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

  constructor({ window, profile, say }) {
    this.#document = window.document;
    this.#setTimeout = window.setTimeout.bind(window);
    this.#clearTimeout = window.clearTimeout.bind(window);
    this.#profile = profile;
    this.#say = say;
    this.#tap = new Tap({ window, profile, heard: (what) => this.#heardStranger(what) });
    this.#driver = new Driver({ window, profile });
    this.#chat = new Chat(this.#driver);
    const tell = (message) => this.#tell(message);
    const onSign = (why) => this.#sawSign(why);
    this.#watch = new Watch({ window, driver: this.#driver, profile, tell, onSign });
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
      await this.#within(PART_MS, this.#awake);
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
      // The page still shows the end of the last job's answer.
      await this.#driver.seen(() => !isAnswering(), PART_MS, job.signal);
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
    this.#fail(job, this.#driver.siteChanged(`no request ${REQUEST_MS / 1_000} s after the click`));
  }

  // --- the answer ---------------------------------------------------------------------------------------

  /** @param {Job} job @returns {import("./tap.js").Reader} */
  #readerFor(job) {
    return {
      sent: () => this.#sent(job),
      refused: (answer) => this.#refused(job, answer),
      text: (text) => this.#tellAll(job, job.stream.push(text)),
      over: () => this.#tellAll(job, job.stream.end()),
      broke: (error) => this.#broke(job, error),
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
    // A person may have chosen another one while the prompt waited for them.
    const { shownModel } = this.#driver;
    if (shownModel !== job.model && this.#watch.offers(shownModel)) {
      this.#fail(job, { code: "upstream_error", message: "another model was chosen in the tab" });
    }
  }

  /** @param {Job} job @param {import("./site_rules.js").Answer} answer */
  #refused(job, answer) {
    if (this.#job !== job) return;
    const failure = failureOfAnswer(job.profile, answer);
    const sign = this.#driver.sign();
    if (failure.code === "model_not_found") this.#chat.isOutdated();
    if (sign && (failure.code === "site_changed" || failure.code === "upstream_error")) {
      this.#fail(job, { code: sign.code, message: `${failure.message}; ${described(sign)}` });
    } else this.#fail(job, failure);
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
    if (retry_after_s !== undefined) fail.retry_after_s = retry_after_s;
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
    await this.#within(PART_MS, job.left);
    const { signal } = new Controller();
    const patience = job.phase === "started" ? PART_MS : 0;
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
    // What they typed into our prompt is of no use to anybody.
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
      // Whoever listens has trouble of their own; the page must not notice.
    }
  }
}

/**
 * Texts that came together leave together.
 * @param {import("./site_stream.js").Event[]} events
 */
function merged(events) {
  const few = [];
  for (const event of events) {
    const last = few.at(-1);
    if (event.t === "piece" && event.text !== undefined && last?.text !== undefined) {
      last.text += event.text;
    } else few.push({ ...event });
  }
  return few;
}

/**
 * One tab as a worker: the hub's session on one side, the page on the other, and how often it may send in between.
 *
 * @typedef {import("./clock.js").Clock} Clock
 * @typedef {import("./session.js").Job} Job
 * @typedef {{model: string, phase: "opening" | "waiting" | "sent" | "answering"}} Doing
 */

import { Pace } from "./pace.js";
import { Session } from "./session.js";

const { freeze } = Object;

const PHASES = freeze({ __proto__: null, waiting: "waiting", started: "sent", piece: "answering" });
const LAST_WORDS = freeze({ __proto__: null, end: true, fail: true, navigate: true });

/**
 * What is kept from one document to the next: a tab navigates, and is reloaded.
 * @typedef {object} Kept
 * @property {() => any} pace what `keepPace` was given
 * @property {(state: object) => void} keepPace
 * @property {() => string | null} navigatedFor the job for which the last document was left
 * @property {(job: string) => void} keepNavigatedFor
 */

export class TabWorker {
  #page;
  #pace;
  #clock;
  #mode;
  #kept;
  #navigate;
  #onChange;
  #isPaused = false;
  /** What the hub was told of a changed site, over this connection. */
  #noticed = "";
  #site = freeze({ state: "loading" });
  /** @type {(Doing & {job: string}) | null} */
  #doing = null;
  /** Shows what changes when a pause ends. */
  #timer;

  /**
   * @param {object} options
   * @param {import("./session.js").Card} options.card
   * @param {ReturnType<typeof import("./page.js").openPage>} options.page
   * @param {{pace: object}} options.profile the site profile in force
   * @param {() => "assist" | "automatic"} options.mode what the tab's owner wants for the next job
   * @param {Clock} options.clock
   * @param {Kept} options.kept
   * @param {(url: string) => void} options.navigate load another document in this tab
   * @param {(profile: object) => void} options.onProfile the hub has another site profile
   * @param {() => void} options.onChange something that a person may see has changed
   */
  constructor({ card, page, profile, mode, clock, kept, navigate, onProfile, onChange }) {
    this.#page = page;
    this.#pace = new Pace(profile.pace, kept.pace());
    this.#clock = clock;
    this.#mode = mode;
    this.#kept = kept;
    this.#navigate = navigate;
    this.#onChange = onChange;
    this.session = new Session({
      card,
      clock,
      take: (job) => this.#take(job),
      cancel: (job) => this.#cancel(job),
      onChange: () => {
        this.#notice();
        onChange();
      },
      onProfile: (profile) => {
        this.#page.setProfile(profile);
        this.#pace.adjust(profile.pace);
        onProfile(profile);
      },
    });
  }

  // --- what a person sees -------------------------------------------------------------------------------

  /** @returns {{state: "loading" | "ready" | "attention", code?: string, reason?: string}} */
  get site() {
    return this.#site;
  }

  /** @returns {Doing | null} */
  get doing() {
    return this.#doing;
  }

  get isPaused() {
    return this.#isPaused;
  }

  /** Whether the hub knows of a job here that has not been sent: then the hub decides what becomes of it. */
  get holdsUnsent() {
    return this.#doing !== null && (this.#doing.phase === "opening" || this.#doing.phase === "waiting");
  }

  /** How many prompts were sent today. */
  get today() {
    return this.#pace.today(this.#clock.now());
  }

  /** How many may be sent a day. */
  get daily() {
    return this.#pace.daily;
  }

  /** Seconds until the next prompt may be sent; 0: now. */
  get nextInS() {
    return this.#pace.wait(this.#clock.now()) / 1000;
  }

  // --- what a person wants ------------------------------------------------------------------------------

  /** Take no more jobs until told otherwise; one in hand is finished. @param {boolean} isPaused */
  pause(isPaused) {
    this.#isPaused = isPaused;
    this.#feel();
  }

  /** The human has done what the site wanted. */
  look() {
    this.#page.look();
  }

  // --- what the page says -------------------------------------------------------------------------------

  /** @param {{t: string, [member: string]: any}} message as `page.js` says it */
  heard(message) {
    if (message.t === "site") this.#heardOfSite(message);
    else if (message.job === undefined) this.session.say(message);
    else if (message.job === this.#doing?.job) this.#heardOfJob(message);
  }

  #heardOfSite({ state, code, reason }) {
    this.#site = freeze({ state, code, reason });
    this.#notice();
    this.#feel();
  }

  /** A page that has changed beyond use is the operator's business: nobody in front of it can mend it. */
  #notice() {
    const { code, reason = "" } = this.#site;
    const seen = this.session.connected && code === "site_changed" ? reason : "";
    if (seen === this.#noticed) return;
    this.#noticed = seen;
    if (seen !== "") this.session.say({ t: "notice", code: "site_changed", message: seen });
  }

  #heardOfJob(message) {
    if (message.t === "started") this.#sent();
    const phase = PHASES[message.t];
    if (phase !== undefined && phase !== this.#doing.phase) {
      this.#doing.phase = phase;
      this.#onChange();
    }
    if (message.t === "fail" && message.code === "rate_limited") this.#limited(message);
    // Before its last word: with that the hub may have the next job ready.
    if (LAST_WORDS[message.t]) this.#over();
    if (message.t === "navigate") this.#leave(message);
    else this.session.say(message);
  }

  #sent() {
    this.#pace.sent(this.#clock.now());
    this.#kept.keepPace(this.#pace.state);
  }

  #limited({ retry_after_s }) {
    this.#pace.limited(this.#clock.now(), retry_after_s);
    this.#kept.keepPace(this.#pace.state);
  }

  /**
   * The page must be another document for this job. The hub gives it again once the new one has said hello.
   * @param {{job: string, url: string}} message
   */
  #leave({ job, url }) {
    this.#kept.keepNavigatedFor(job);
    this.#navigate(url);
  }

  // --- what the hub says --------------------------------------------------------------------------------

  /** @param {Job} job */
  #take({ job, model, body }) {
    if (this.#pace.wait(this.#clock.now()) > 0) {
      this.session.refuse(job, "a pause between two prompts");
      this.#feel();
      return;
    }
    this.#doing = { job, model, phase: "opening" };
    const navigated = this.#kept.navigatedFor() === job;
    this.#page.take({ job, model, body, mode: this.#mode(), navigated });
    this.#onChange();
  }

  /** @param {string} job */
  #cancel(job) {
    this.#page.cancel(job);
    if (this.#doing?.job === job) this.#over();
  }

  #over() {
    this.#doing = null;
    this.#feel();
  }

  // --- how it feels -------------------------------------------------------------------------------------

  /** Say how the tab is, to the hub and to the person. */
  #feel() {
    const wait_s = this.nextInS;
    this.#clock.clearTimeout(this.#timer);
    if (wait_s > 0) this.#timer = this.#clock.setTimeout(() => this.#feel(), wait_s * 1000);
    if (this.#isPaused) this.session.setState("draining", { reason: "paused by its owner" });
    else if (this.#site.state !== "ready") this.#needsHuman();
    else if (wait_s > 0) this.session.setState("cooling", { reason: "pace", until: wait_s });
    else this.session.setState("ready");
    this.#onChange();
  }

  #needsHuman() {
    const { state, code, reason } = this.#site;
    this.session.setState("attention", { reason: code ?? reason ?? state });
  }
}

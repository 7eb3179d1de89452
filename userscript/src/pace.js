/**
 * How often a tab sends: a gap between sends that grows when the site says "too many", and a ceiling a day.
 * Pure: the clock comes in as a value, and the state goes out as one, to be kept until the tab's next life.
 *
 * @typedef {{between_s: number, longest_s: number, daily: number}} Limits seconds between sends, the longest
 *   that this may grow to, sends a day (0: none)
 * @typedef {{gap_s: number, sent_at: number, not_before: number, quiet: number, day: string,
 *   today: number}} State times in ms since 1970; `quiet` counts sends since the gap last changed
 */

const { isFinite } = Number;
const { max, min } = Math;
const LocalDate = Date;

/** So many sends without a complaint halve the gap again. */
const QUIET_SENDS = 5;

export class Pace {
  /** @type {Limits} */
  #limits;
  /** @type {State} */
  #state;

  /**
   * @param {Limits} limits
   * @param {Partial<State> | null} [state] what `state` gave in an earlier life; anything else is ignored
   */
  constructor(limits, state = null) {
    this.#limits = limits;
    this.#state = {
      gap_s: numberIn(state?.gap_s) ?? limits.between_s,
      sent_at: numberIn(state?.sent_at) ?? 0,
      not_before: numberIn(state?.not_before) ?? 0,
      quiet: numberIn(state?.quiet) ?? 0,
      day: typeof state?.day === "string" ? state.day : "",
      today: numberIn(state?.today) ?? 0,
    };
    this.adjust(limits);
  }

  /** A plain object, to be stored. @returns {State} */
  get state() {
    return { ...this.#state };
  }

  /** Sends that a day may have. */
  get daily() {
    return this.#limits.daily;
  }

  /** How many prompts were sent today. @param {number} now ms since 1970 */
  today(now) {
    return this.#state.day === dayOf(now) ? this.#state.today : 0;
  }

  /** New limits, from the settings or a new profile; what was counted stays. @param {Limits} limits */
  adjust(limits) {
    const { gap_s } = this.#state;
    // One that was not adapted follows; one that was keeps what the site taught it.
    this.#state.gap_s = within(gap_s === this.#limits.between_s ? limits.between_s : gap_s, limits);
    this.#limits = limits;
  }

  /**
   * How long until the next send may happen.
   * @param {number} now ms since 1970
   * @returns {number} ms; 0: now
   */
  wait(now) {
    const { gap_s, sent_at, not_before } = this.#state;
    // A clock that was set back must not make the gap longer than it is.
    const gap = min(sent_at + gap_s * 1_000 - now, gap_s * 1_000);
    const ceiling = this.today(now) >= this.#limits.daily ? midnightAfter(now) - now : 0;
    return max(0, gap, not_before - now, ceiling);
  }

  /** A prompt left. @param {number} now ms since 1970 */
  sent(now) {
    const state = this.#state;
    state.today = this.today(now) + 1;
    state.day = dayOf(now);
    state.sent_at = now;
    state.quiet += 1;
    if (state.quiet > QUIET_SENDS) this.#setGap(state.gap_s / 2);
  }

  /**
   * The site said that this was too often.
   * @param {number} now ms since 1970
   * @param {number} [retryAfterS] seconds that it asked for
   */
  limited(now, retryAfterS = 0) {
    this.#setGap(max(1, this.#state.gap_s * 2));
    this.#state.not_before = max(this.#state.not_before, now + retryAfterS * 1_000);
  }

  /** @param {number} seconds */
  #setGap(seconds) {
    this.#state.gap_s = within(seconds, this.#limits);
    this.#state.quiet = 0;
  }
}

/** @param {number} gap_s @param {Limits} limits */
const within = (gap_s, { between_s, longest_s }) => min(max(gap_s, between_s), max(between_s, longest_s));

/** @param {any} value */
const numberIn = (value) => (isFinite(value) && value >= 0 ? value : undefined);

/** The local date. @param {number} now */
function dayOf(now) {
  const date = new LocalDate(now);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}

/** @param {number} now */
function midnightAfter(now) {
  const date = new LocalDate(now);
  return +new LocalDate(date.getFullYear(), date.getMonth(), date.getDate() + 1);
}

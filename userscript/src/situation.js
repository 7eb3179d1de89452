/**
 * The one thing that a person should know first about this tab, chosen from everything that is so.
 *
 * Nothing here touches the page, and nothing here is a sentence: `words.js` has a headline for each name
 * below and, as `<name>_advice`, what to do about it.
 *
 * @typedef {object} View all that the panel shows, as plain data
 * @property {{state: "off" | "connecting" | "socket" | "poll" | "ended", reason?: string,
 *   again_in_s?: number}} link `reason` of an ended one: a close code's name in lower case ("replaced")
 * @property {string | null} hub the hub's host
 * @property {{state: "ready" | "attention" | "loading", code?: string, reason?: string}} site
 * @property {boolean} late the script started after the page, and may have missed something of it
 * @property {{model: string, phase: "opening" | "waiting" | "sent" | "answering"} | null} job
 * @property {"assist" | "automatic"} mode
 * @property {boolean} paused
 * @property {number} today questions sent today
 * @property {number} daily questions that may be sent in a day
 * @property {number} next_in_s seconds until the next question may be sent; 0: now
 * @property {string} version
 * @property {string | null} newer a newer version that is out
 * @property {string | null} installUrl
 * @property {boolean} canSpeedUp the hub is on this computer and polled
 * @property {boolean} configured an address and a token are there
 * @property {boolean} folded
 * @property {number | null} [corner] 0 to 3 as the person chose it; null: any that is clear
 *
 * @typedef {object} Situation
 * @property {string} name
 * @property {"good" | "busy" | "rest" | "need" | "stop"} tone
 * @property {boolean} pops it opens a folded panel
 * @property {string[]} actions what the person can do about it, as names of acts
 * @property {"link" | "site" | null} because whose `reason` says more
 */

const { freeze, hasOwn } = Object;

const situation = (name, tone, { pops = false, because = null, actions = [] } = {}) =>
  freeze({ name, tone, pops, because, actions: freeze(actions) });

const stopped = (name, ...actions) => situation(name, "stop", { pops: true, actions });
const asked = (name, ...actions) => situation(name, "need", { pops: true, because: "site", actions });

/** By name. */
export const SITUATIONS = freeze({
  unconfigured: situation("unconfigured", "need", { pops: true, actions: ["connect"] }),
  unauthorized: stopped("unauthorized", "connect"),
  replaced: stopped("replaced", "again"),
  removed: stopped("removed", "again"),
  outdated: stopped("outdated", "update", "again"),
  ended: situation("ended", "stop", { pops: true, because: "link", actions: ["again"] }),
  challenge: asked("challenge", "done"),
  login_required: asked("login_required", "done"),
  consent_required: asked("consent_required", "done"),
  site_changed: asked("site_changed"),
  attention: asked("attention", "done"),
  waiting: situation("waiting", "need", { pops: true, actions: ["show-job"] }),
  opening: situation("opening", "busy"),
  sent: situation("sent", "busy"),
  answering: situation("answering", "busy"),
  paused: situation("paused", "rest"),
  off: situation("off", "rest", { actions: ["again"] }),
  connecting: situation("connecting", "busy"),
  unreachable: situation("unreachable", "rest", { because: "link", actions: ["again"] }),
  loading: situation("loading", "busy"),
  late: situation("late", "need"),
  exhausted: situation("exhausted", "rest"),
  cooling: situation("cooling", "rest"),
  ready: situation("ready", "good"),
});

/** By the name of the close code. */
const ENDED = freeze({
  unauthorized: "unauthorized",
  replaced: "replaced",
  removed: "removed",
  unsupported_protocol: "outdated",
  bad_hello: "outdated",
});

const SITE = freeze({
  challenge: "challenge",
  login_required: "login_required",
  consent_required: "consent_required",
  site_changed: "site_changed",
});

const JOB = freeze({ opening: "opening", waiting: "waiting", sent: "sent", answering: "answering" });

/** What a table has for a name that came from elsewhere. */
const among = (table, name, otherwise) => (hasOwn(table, name) ? table[name] : otherwise);

/** @param {View} view */
function nameOf({ configured, link, site, job, paused, late, today, daily, next_in_s }) {
  if (!configured) return "unconfigured";
  if (link.state === "ended") return among(ENDED, link.reason, "ended");
  if (site.state === "attention") return among(SITE, site.code, "attention");
  if (job !== null) return among(JOB, job.phase, "answering");
  if (paused) return "paused";
  if (link.state === "off") return "off";
  if (link.state === "connecting") return link.again_in_s > 0 ? "unreachable" : "connecting";
  if (site.state === "loading") return "loading";
  if (late) return "late";
  if (today >= daily) return "exhausted";
  if (next_in_s > 0) return "cooling";
  return "ready";
}

/**
 * What comes first: what stops everything, then what only a person can do, then what is going on.
 * @param {View} view
 * @returns {Situation}
 */
export const situationOf = (view) => SITUATIONS[nameOf(view)];

/**
 * What a link is: one face for the WebSocket and for polling, and how each of them ends.
 *
 * `closed`: the hub said so, with `code`. `left`: we said goodbye. `dropped`: we let go of it, to come back.
 * `lost`: it broke or fell silent. `timeout`: no welcome came in time. `refused`: no socket opened, and
 * browsers do not tell why. `csp`: the page's policy forbids sockets to the hub. `mixed_content`: an https
 * page may not open a ws socket there. `unreachable`: a POST had no answer, or one that says: not now.
 *
 * @typedef {"closed" | "left" | "dropped" | "lost" | "timeout" | "refused" | "csp" | "mixed_content"
 *   | "unreachable"} Cause
 * @typedef {{cause: Cause, reason: string, code?: number, welcomed: boolean, retry_after_s: number}} Ended
 *
 * @typedef {object} Link carries one session's packets over one connection at a time, and decides nothing
 * @property {"socket" | "poll"} transport
 * @property {(session: import("./session.js").Session, welcomed?: () => void) => Promise<Ended>} carry says
 *   hello, then carries packets until the connection ends; never rejects for the network
 * @property {() => void} check the connection must prove within a few seconds that it lives, or it is lost
 * @property {(reason: string) => void} drop ends the connection without a goodbye
 */

import { Close } from "./protocol.js";

const { parse } = JSON;
const { hasOwn } = Object;
const { isFinite, isInteger } = Number;
const { min } = Math;

const CLOSE_BY_STATUS = {
  400: Close.PROTOCOL_ERROR,
  401: Close.UNAUTHORIZED,
  403: Close.REMOVED,
  409: Close.REPLACED,
  410: Close.SESSION_GONE,
  413: Close.TOO_BIG,
};
const MAX_RETRY_AFTER_S = 600;
const MAX_REASON = 300;
const RETRY_AFTER = /^retry-after:[ \t]*(\d+(?:\.\d+)?)[ \t]*$/im;

/**
 * @param {Cause} cause
 * @param {string} reason
 * @param {{code?: number, welcomed?: boolean, retry_after_s?: number}} [more]
 * @returns {Ended}
 */
export const ended = (cause, reason, { code, welcomed = false, retry_after_s = 0 } = {}) => ({
  cause,
  reason,
  code,
  welcomed,
  retry_after_s,
});

/**
 * Seconds of a Retry-After header, 0 if there is none that is a number.
 * @param {string} headers lines of "name: value"
 */
export function retryAfter(headers) {
  const seconds = Number(RETRY_AFTER.exec(headers)?.[1] ?? 0);
  return isFinite(seconds) ? min(seconds, MAX_RETRY_AFTER_S) : 0;
}

/**
 * What an HTTP refusal means for a polling worker, or null for a passing failure.
 * @param {{status: number, text: string, headers: string}} answer
 * @returns {Ended | null}
 */
export function closedByAnswer({ status, text, headers }) {
  const { close, message } = complaint(text);
  const reason = message || `HTTP ${status}`;
  if (close !== undefined) {
    return ended("closed", reason, { code: close, retry_after_s: retryAfter(headers) });
  }
  if (!hasOwn(CLOSE_BY_STATUS, status)) return null;
  return ended("closed", reason, { code: CLOSE_BY_STATUS[status] });
}

/** What the hub's error body says; another server's body says nothing. @param {string} text */
function complaint(text) {
  try {
    const { close, message } = parse(text).error;
    const said = typeof message === "string" ? message.slice(0, MAX_REASON) : "";
    return isInteger(close) ? { close, message: said } : {};
  } catch {
    return {};
  }
}

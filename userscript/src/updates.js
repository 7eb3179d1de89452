/**
 * Whether the hub has a newer userscript. Only the person's own userscript manager ever installs it: this only
 * reads the version in the script's metadata.
 */

const VERSION = /^\/\/ @version\s+(\d+(?:\.\d+){0,7})\s*$/m;
const PATIENCE_MS = 20_000;

/** @param {string} version @returns {number[]} */
const numbers = (version) => version.split(".").map(Number);

/**
 * Whether one version comes after another, number by number.
 * @param {string} one @param {string} other
 */
export function isNewer(one, other) {
  const [left, right] = [numbers(one), numbers(other)];
  for (let at = 0; at < left.length || at < right.length; at += 1) {
    const difference = (left[at] ?? 0) - (right[at] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return false;
}

/**
 * The version that a hub has, if it is newer than ours.
 * @param {object} options
 * @param {string} options.address the hub's
 * @param {string} options.version ours
 * @param {ReturnType<typeof import("./poll_link.js").byUserscriptManager>} options.request
 * @returns {Promise<string | null>} null too when the hub does not say
 */
export async function newerVersion({ address, version, request }) {
  try {
    const url = `${address}/userscript/hub.meta.js`;
    const { answer } = request({ method: "GET", url, headers: {}, timeout_ms: PATIENCE_MS });
    const { status, text } = await answer;
    const theirs = status === 200 ? VERSION.exec(text)?.[1] : undefined;
    return theirs !== undefined && isNewer(theirs, version) ? theirs : null;
  } catch {
    return null;
  }
}

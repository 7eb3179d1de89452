/**
 * Time, as something that is passed in.
 *
 * @typedef {{now: () => number, setTimeout: (act: () => void, ms: number) => any,
 *   clearTimeout: (timer: any) => void}} Clock `now` is in milliseconds since 1970: it also runs while the
 *   computer sleeps
 */

const { apply } = Reflect;
const { now } = Date;
const { freeze } = Object;

/**
 * The page's clock, by references taken now.
 * @param {Pick<Window, "setTimeout" | "clearTimeout">} window
 * @returns {Clock}
 */
export function clockOf(window) {
  const { setTimeout, clearTimeout } = window;
  return freeze({
    now,
    setTimeout: (act, ms) => apply(setTimeout, window, [act, ms]),
    clearTimeout: (timer) => apply(clearTimeout, window, [timer]),
  });
}

/**
 * A worker's id: each tab has its own, and keeps it when it is reloaded. A duplicated tab, which starts with
 * a copy of the other's storage, notices by a Web Lock and takes a new one. The held lock also keeps the
 * browser from freezing the tab.
 */

const { crypto } = globalThis;
const getRandomValues = crypto.getRandomValues.bind(crypto);
const Controller = AbortController;
const LocalPromise = Promise;

const KEPT = "lmarena-bridge.worker";
const LOCK = "lmarena-bridge.worker.";
const ID = /^[0-9a-f]{32}$/;
/** How long a document that is on its way out may still hold its id. */
const PATIENCE_MS = 2_000;

/**
 * The id of this tab, held until the document ends or `release` is called. Without storage or locks (a page
 * that is not secure) an id is still given, and only duplicates go unnoticed.
 * @param {object} options
 * @param {Storage} [options.sessionStorage]
 * @param {LockManager} [options.locks]
 * @param {import("./clock.js").Clock} options.clock
 * @returns {Promise<{worker: string, release: () => void}>}
 */
export async function claimWorkerId({ sessionStorage, locks, clock }) {
  const kept = keptId(sessionStorage);
  let release = kept === null ? null : await hold(locks, kept, clock);
  if (release !== null) return { worker: kept, release };
  const worker = newId();
  release = await hold(locks, worker, clock);
  try {
    sessionStorage.setItem(KEPT, worker);
  } catch {
    // The id lives as long as the document, then.
  }
  return { worker, release };
}

/** @param {Storage | undefined} storage @returns {string | null} */
function keptId(storage) {
  try {
    const kept = storage.getItem(KEPT);
    return ID.test(kept) ? kept : null;
  } catch {
    return null;
  }
}

function newId() {
  let id = "";
  for (const byte of getRandomValues(new Uint8Array(16))) id += byte.toString(16).padStart(2, "0");
  return id;
}

/**
 * Hold an id's lock; null if another tab does not let go of it. Waiting in line for it, and not asking again
 * and again, makes a reload as quick as the old document ends.
 * @param {LockManager | undefined} locks
 * @param {string} id
 * @param {import("./clock.js").Clock} clock
 * @returns {Promise<(() => void) | null>}
 */
function hold(locks, id, clock) {
  if (!locks) return LocalPromise.resolve(() => {});
  return new LocalPromise((resolve) => {
    const controller = new Controller();
    const late = clock.setTimeout(() => controller.abort(), PATIENCE_MS);
    const held = () => {
      clock.clearTimeout(late);
      return new LocalPromise((release) => resolve(() => release()));
    };
    locks.request(LOCK + id, { signal: controller.signal }, held).catch(() => {
      clock.clearTimeout(late);
      resolve(null);
    });
  });
}

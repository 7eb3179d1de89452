import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { claimWorkerId } from "../../userscript/src/identity.js";
import { CLOCK } from "./linked_tab.js";

/** A tab's own storage, and a duplicate's copy of it. */
class TabStorage {
  #values;

  constructor(values = []) {
    this.#values = new Map(values);
  }

  getItem(name) {
    return this.#values.get(name) ?? null;
  }

  setItem(name, value) {
    this.#values.set(name, `${value}`);
  }

  copy() {
    return new TabStorage(this.#values);
  }
}

const { locks } = navigator;

/** Claims, with all that it gives back at the end of the test. */
async function claim(t, sessionStorage, more = {}) {
  const claimed = await claimWorkerId({ sessionStorage, locks, clock: CLOCK, ...more });
  t.after(claimed.release);
  return claimed;
}

describe("a worker's id", () => {
  test("is another one for each tab", async (t) => {
    const [one, two] = [await claim(t, new TabStorage()), await claim(t, new TabStorage())];
    assert.match(one.worker, /^[0-9a-f]{32}$/);
    assert.notEqual(one.worker, two.worker);
  });

  test("stays the tab's own when it is reloaded", async (t) => {
    const storage = new TabStorage();
    const before = await claim(t, storage);
    before.release();
    assert.equal((await claim(t, storage)).worker, before.worker);
  });

  test("stays, although the old document takes a moment to end", async (t) => {
    const storage = new TabStorage();
    const before = await claim(t, storage);
    const after = claim(t, storage);
    setImmediate(before.release);
    assert.equal((await after).worker, before.worker);
  });

  test("is a new one in a duplicated tab, which keeps that", async (t) => {
    const storage = new TabStorage();
    const original = await claim(t, storage);
    const copied = storage.copy();
    // The clock is quick: a person would wait two seconds.
    const clock = { ...CLOCK, setTimeout: (act) => CLOCK.setTimeout(act, 10) };
    const duplicate = await claim(t, copied, { clock });
    assert.notEqual(duplicate.worker, original.worker);
    duplicate.release();
    assert.equal((await claim(t, copied)).worker, duplicate.worker);
    assert.equal(storage.getItem("lmarena-bridge.worker"), original.worker);
  });

  test("is held by a lock, until it is released", async (t) => {
    const { worker, release } = await claim(t, new TabStorage());
    const held = async () => (await locks.query()).held.some(({ name }) => name.endsWith(worker));
    assert.equal(await held(), true);
    release();
    await locks.request(`lmarena-bridge.worker.${worker}`, () => {});
    assert.equal(await held(), false);
  });

  for (const kept of ["", "short", "x".repeat(32), `${"a".repeat(32)}\n`]) {
    test(`is not ${JSON.stringify(kept)} because somebody stored that`, async (t) => {
      const storage = new TabStorage([["lmarena-bridge.worker", kept]]);
      assert.match((await claim(t, storage)).worker, /^[0-9a-f]{32}$/);
    });
  }

  test("is there without storage and without locks", async (t) => {
    const refusing = {
      getItem() {
        throw new DOMException("denied", "SecurityError");
      },
      setItem() {
        throw new DOMException("denied", "SecurityError");
      },
    };
    assert.match((await claim(t, refusing, { locks: undefined })).worker, /^[0-9a-f]{32}$/);
    assert.match((await claim(t, undefined)).worker, /^[0-9a-f]{32}$/);
  });
});

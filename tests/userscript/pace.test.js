import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { Pace } from "../../userscript/src/pace.js";

const LIMITS = { between_s: 10, longest_s: 600, daily: 300 };
/** Noon, local time. */
const NOON = +new Date(2026, 5, 15, 12);
const S = 1_000;
const HOUR = 3_600 * S;

/** Sends as soon as that is allowed; the time of the last. @param {Pace} pace */
function sendTimes(pace, count, now) {
  for (let sent = 0; sent < count; sent += 1) {
    now += pace.wait(now);
    pace.sent(now);
  }
  return now;
}

describe("a pace", () => {
  test("begins at once", () => {
    assert.equal(new Pace(LIMITS).wait(NOON), 0);
  });

  test("keeps the gap between two sends", () => {
    const pace = new Pace(LIMITS);
    pace.sent(NOON);
    assert.equal(pace.wait(NOON), 10 * S);
    assert.equal(pace.wait(NOON + 4 * S), 6 * S);
    assert.equal(pace.wait(NOON + 10 * S), 0);
  });

  test("doubles the gap at each complaint, up to the longest", () => {
    const pace = new Pace(LIMITS);
    const gaps = Array.from({ length: 8 }, () => {
      pace.limited(NOON);
      return pace.state.gap_s;
    });
    assert.deepEqual(gaps, [20, 40, 80, 160, 320, 600, 600, 600]);
    pace.sent(NOON);
    assert.equal(pace.wait(NOON), 600 * S);
  });

  test("waits as long as the site asks, even past the longest gap", () => {
    const pace = new Pace(LIMITS);
    pace.sent(NOON);
    pace.limited(NOON + S, 1_200);
    assert.equal(pace.wait(NOON + S), 1_200 * S);
    pace.limited(NOON + 2 * S, 5);
    assert.equal(pace.wait(NOON + 2 * S), 1_199 * S, "a shorter wait does not undo a longer one");
  });

  test("halves the gap slowly, after sends without a complaint", () => {
    const pace = new Pace(LIMITS);
    for (let times = 0; times < 3; times += 1) pace.limited(NOON);
    let now = NOON;
    const gaps = Array.from({ length: 22 }, () => {
      now = sendTimes(pace, 1, now);
      return pace.state.gap_s;
    });
    assert.deepEqual(
      gaps,
      [80, 80, 80, 80, 80, 40, 40, 40, 40, 40, 40, 20, 20, 20, 20, 20, 20, 10, 10, 10, 10, 10],
    );
  });

  test("begins to count anew with each complaint", () => {
    const pace = new Pace(LIMITS);
    pace.limited(NOON);
    let now = sendTimes(pace, 4, NOON);
    pace.limited(now);
    now = sendTimes(pace, 5, now);
    assert.equal(pace.state.gap_s, 40);
  });

  test("grows even from no gap at all", () => {
    const pace = new Pace({ ...LIMITS, between_s: 0 });
    pace.limited(NOON);
    assert.equal(pace.state.gap_s, 1);
  });

  test("stops at the day's ceiling until midnight", () => {
    const pace = new Pace({ ...LIMITS, daily: 3 });
    const now = sendTimes(pace, 3, NOON);
    assert.equal(pace.wait(now), +new Date(2026, 5, 16) - now);
    const midnight = now + pace.wait(now);
    assert.equal(pace.wait(midnight), 0);
    assert.equal(pace.today(midnight), 0);
    pace.sent(midnight);
    assert.deepEqual([pace.today(midnight), pace.daily], [1, 3]);
  });

  test("may never send where the ceiling is nothing", () => {
    const pace = new Pace({ ...LIMITS, daily: 0 });
    assert.equal(pace.wait(NOON), 12 * HOUR);
    assert.equal(pace.wait(NOON + 12 * HOUR), 24 * HOUR);
  });

  test("is not put out by a clock that is set back", () => {
    const pace = new Pace(LIMITS);
    pace.sent(NOON);
    assert.equal(pace.wait(NOON - 5 * HOUR), 10 * S);
  });

  test("takes new limits and keeps its count", () => {
    const pace = new Pace(LIMITS);
    pace.sent(NOON);
    pace.adjust({ between_s: 30, longest_s: 60, daily: 1 });
    assert.equal(pace.state.gap_s, 30);
    assert.equal(pace.wait(NOON), 12 * HOUR);
    pace.adjust({ between_s: 5, longest_s: 60, daily: 300 });
    assert.equal(pace.state.gap_s, 5);
  });

  test("keeps a gap that has grown within new limits", () => {
    const pace = new Pace({ between_s: 30, longest_s: 300, daily: 300 });
    pace.limited(NOON);
    pace.adjust({ between_s: 5, longest_s: 300, daily: 300 });
    assert.equal(pace.state.gap_s, 60);
    pace.adjust({ between_s: 5, longest_s: 20, daily: 300 });
    assert.equal(pace.state.gap_s, 20);
  });

  test("never waits less than the least gap, whatever the longest is", () => {
    const pace = new Pace({ between_s: 10, longest_s: 1, daily: 300 });
    pace.limited(NOON);
    assert.equal(pace.state.gap_s, 10);
  });
});

describe("a pace that is stored", () => {
  test("goes on where it was", () => {
    const before = new Pace({ ...LIMITS, daily: 3 });
    before.sent(NOON);
    before.limited(NOON, 60);
    before.sent(NOON + 60 * S);
    const after = new Pace({ ...LIMITS, daily: 3 }, JSON.parse(JSON.stringify(before.state)));
    assert.deepEqual(after.state, before.state);
    assert.equal(after.wait(NOON + 60 * S), 20 * S);
    after.sent(NOON + 80 * S);
    assert.ok(after.wait(NOON + 80 * S) > 11 * HOUR);
  });

  test("forgets yesterday's count", () => {
    const before = new Pace({ ...LIMITS, daily: 1 });
    before.sent(NOON);
    assert.equal(new Pace({ ...LIMITS, daily: 1 }, before.state).wait(NOON + 24 * HOUR), 0);
  });

  for (const state of [
    null,
    {},
    { gap_s: NaN, day: 7, today: "x" },
    { gap_s: -1, sent_at: null },
    { quiet: Infinity },
  ]) {
    test(`is not misled by ${JSON.stringify(state)}`, () => {
      const pace = new Pace(LIMITS, state);
      assert.equal(pace.wait(NOON), 0);
      pace.sent(NOON);
      assert.equal(pace.wait(NOON), 10 * S);
    });
  }

  test("what it gives is a copy", () => {
    const pace = new Pace(LIMITS);
    pace.state.gap_s = 0;
    assert.equal(pace.state.gap_s, 10);
  });
});

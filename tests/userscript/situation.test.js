import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { SITUATIONS, situationOf } from "../../userscript/src/situation.js";

const READY = {
  link: { state: "socket" },
  hub: "hub.example.org",
  site: { state: "ready" },
  late: false,
  job: null,
  mode: "assist",
  paused: false,
  today: 3,
  daily: 300,
  next_in_s: 0,
  version: "0.1.0",
  newer: null,
  installUrl: null,
  canSpeedUp: false,
  configured: true,
  folded: false,
};
const ended = (reason) => ({ link: { state: "ended", reason } });
const attention = (code) => ({ site: { state: "attention", code } });
const job = (phase) => ({ job: { model: "a-model", phase } });

/** From what comes first to what comes last: each is true of a view together with all that follow it. */
const BY_URGENCY = [
  ["unconfigured", { configured: false }],
  ["replaced", ended("replaced")],
  ["challenge", attention("challenge")],
  ["waiting", job("waiting")],
  ["paused", { paused: true }],
  ["unreachable", { link: { state: "connecting", again_in_s: 4 } }],
  ["loading", { site: { state: "loading" } }],
  ["late", { late: true }],
  ["exhausted", { today: 300 }],
  ["cooling", { next_in_s: 7 }],
  ["ready", {}],
];

const CASES = [
  [ended("unauthorized"), "unauthorized"],
  [ended("removed"), "removed"],
  [ended("unsupported_protocol"), "outdated"],
  [ended("bad_hello"), "outdated"],
  [ended("something new"), "ended"],
  [ended("constructor"), "ended"],
  [ended(undefined), "ended"],
  [attention("login_required"), "login_required"],
  [attention("consent_required"), "consent_required"],
  [attention("site_changed"), "site_changed"],
  [attention("something new"), "attention"],
  [attention("toString"), "attention"],
  [attention(undefined), "attention"],
  [job("opening"), "opening"],
  [job("sent"), "sent"],
  [job("answering"), "answering"],
  [{ link: { state: "poll" } }, "ready"],
  [{ link: { state: "off" } }, "off"],
  [{ link: { state: "connecting" } }, "connecting"],
  [{ link: { state: "connecting", again_in_s: 0 } }, "connecting"],
  [{ ...job("answering"), paused: true }, "answering"],
  [{ ...job("answering"), link: { state: "connecting" } }, "answering"],
];

describe("what comes first", () => {
  for (const [index, [name]] of BY_URGENCY.entries()) {
    test(name, () => {
      const all = BY_URGENCY.slice(index).map(([, change]) => change);
      const view = all.reduceRight((so, change) => ({ ...so, ...change }), READY);
      assert.equal(situationOf(view).name, name);
    });
  }
  for (const [change, name] of CASES) {
    test(`${JSON.stringify(change)} is ${name}`, () => {
      assert.equal(situationOf({ ...READY, ...change }).name, name);
    });
  }
  test("every situation comes up", () => {
    const met = new Set([...BY_URGENCY.map(([name]) => name), ...CASES.map(([, name]) => name)]);
    assert.deepEqual(
      Object.keys(SITUATIONS).filter((name) => !met.has(name)),
      [],
    );
  });
});

describe("situations", () => {
  test("are found under their names", () => {
    for (const [name, situation] of Object.entries(SITUATIONS)) assert.equal(situation.name, name);
  });
  test("that open the panel are those which need a person", () => {
    const popping = Object.values(SITUATIONS).filter(({ pops }) => pops);
    for (const { tone } of popping) assert.ok(tone === "need" || tone === "stop");
    assert.equal(popping.length, 12);
  });
});

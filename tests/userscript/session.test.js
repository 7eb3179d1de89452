import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { MAX_UNACKED_FRAMES, ProtocolError } from "../../userscript/src/protocol.js";
import { Session } from "../../userscript/src/session.js";

const WELCOME = {
  session: "s1",
  connection: "c1",
  resumed: false,
  received: 0,
  heartbeat_s: 20,
  grace_s: 30,
  max_bytes: 1_000_000,
  exchange: { wait_s: 25, next_s: 0 },
};
const FOX = "🦊";

/** A session with a hub in the test's hands, and a clock that moves when it is told to. */
class Rig {
  now = 1_000_000;
  taken = [];
  cancelled = [];
  profiles = [];
  changes = 0;
  wakes = 0;
  #said = 0;

  constructor({ slots, take, ...card } = {}) {
    this.session = new Session({
      card: { worker: "w", name: "tab", version: "1", slots, ...card },
      take: take ?? ((job) => this.taken.push(job)),
      cancel: (job, reason) => this.cancelled.push([job, reason]),
      clock: { now: () => this.now },
      onChange: () => (this.changes += 1),
      onProfile: (profile) => this.profiles.push(profile),
    });
  }

  wake = () => (this.wakes += 1);

  /** A connection begins. */
  connect(welcome = {}) {
    const introduction = this.session.introduction();
    if (!welcome.resumed) this.#said = 0;
    this.session.welcomed({ ...WELCOME, ...welcome }, this.wake);
    return JSON.parse(JSON.stringify(introduction));
  }

  /** The hub says these frames, and has ours up to `ack`. */
  hub(...frames) {
    this.session.receive({ n: this.#said + 1, ack: this.acked ?? 0, frames });
    this.#said += frames.length;
  }

  job(job = "j", more = {}) {
    this.hub({ t: "job", job, kind: "chat", model: "m", body: { messages: [] }, deadline_s: 60, ...more });
  }

  /** The frames that the next packets hold. */
  frames() {
    const frames = [];
    while (this.session.hasUnsent) frames.push(...JSON.parse(this.session.packet()).frames);
    return frames;
  }

  say(...messages) {
    for (const message of messages) this.session.say({ job: "j", ...message });
  }
}

/** With a job in hand, and nothing else to say. */
function working(options) {
  const rig = new Rig(options);
  rig.connect();
  rig.job();
  return rig;
}

const textOf = (frames) => frames.map(({ text = "" }) => text).join("");
const closesWith = (code) => (error) => error instanceof ProtocolError && error.code === code;

describe("a hello", () => {
  test("introduces the tab, without a token", () => {
    const rig = new Rig({ region: "eu" });
    rig.session.offer([{ id: "m", kinds: ["chat"], organization: "o" }]);
    assert.deepEqual(rig.connect(), {
      worker: "w",
      name: "tab",
      kind: "userscript",
      version: "1",
      slots: 1,
      region: "eu",
      models: [{ id: "m", kinds: ["chat"], organization: "o" }],
      state: "ready",
    });
  });

  test("names the session that it would go on with", () => {
    const rig = working();
    assert.deepEqual(rig.session.introduction().resume, { session: "s1", received: 1 });
  });

  test("has no name that the hub would refuse", () => {
    const rig = new Rig({ name: `${"n".repeat(199)}${FOX}`, region: "\ud800" });
    const { name, region } = rig.connect();
    assert.equal(name, `${"n".repeat(199)}\ufffd`);
    assert.equal(region, "\ufffd");
  });

  test("brings the site profile back", () => {
    const rig = new Rig();
    rig.connect({ profile: { version: 1 } });
    rig.hub({ t: "profile", profile: { version: 2 } }, { t: "scale", slots: 9 });
    assert.deepEqual(rig.profiles, [{ version: 1 }, { version: 2 }]);
  });
});

describe("jobs", () => {
  test("are given to the page", () => {
    const rig = working();
    const job = { job: "j", kind: "chat", model: "m", body: { messages: [] }, deadline_s: 60 };
    assert.deepEqual(rig.taken, [job]);
    assert.equal(rig.session.busy, 1);
    assert.deepEqual(rig.frames(), []);
  });

  test("that come twice are taken once", () => {
    const rig = working();
    rig.job();
    assert.equal(rig.taken.length, 1);
    assert.deepEqual(rig.frames(), []);
  });

  for (const [why, prepare, more, reason] of [
    ["without a free slot", (rig) => rig.job("other"), {}, "no free slot"],
    ["of a kind that tabs do not do", () => {}, { kind: "image" }, "a tab does not do image"],
    ["while it drains", (rig) => rig.session.drain(), {}, "the tab is being retired"],
    ["while the hub drains", (rig) => rig.hub({ t: "drain" }), {}, "the hub is shutting down"],
    ["while paused", (rig) => rig.session.setState("draining", { reason: "paused" }), {}, "paused"],
    ["while its human must act", (rig) => rig.session.setState("attention"), {}, "waiting for attention"],
  ]) {
    test(`are refused ${why}`, () => {
      const rig = new Rig();
      rig.connect();
      prepare(rig);
      rig.frames();
      const before = rig.taken.length;
      rig.job("j", more);
      assert.deepEqual(rig.frames(), [{ t: "refuse", job: "j", reason }]);
      assert.equal(rig.taken.length, before);
      assert.equal(rig.session.tally.refused, 1);
    });
  }

  test("are taken while cooling: whoever paces the page decides", () => {
    const rig = new Rig();
    rig.connect();
    rig.session.setState("cooling", { until: 5 });
    rig.job();
    assert.equal(rig.taken.length, 1);
  });

  test("that were taken can still be refused, once", () => {
    const rig = working();
    rig.session.refuse("j", "the page went away");
    rig.session.refuse("j", "again");
    rig.say({ t: "started" });
    assert.deepEqual(rig.frames(), [{ t: "refuse", job: "j", reason: "the page went away" }]);
    assert.equal(rig.session.busy, 0);
  });

  test("fail when the page cannot take them", () => {
    const rig = new Rig({
      take: () => {
        throw new Error("no composer");
      },
    });
    rig.connect();
    rig.job();
    const message = "the page could not take the job: no composer";
    assert.deepEqual(rig.frames(), [{ t: "fail", job: "j", code: "internal", message }]);
    assert.equal(rig.session.busy, 0);
  });

  test("that are cancelled free the slot at once, and nothing more is said of them", () => {
    const rig = working();
    rig.hub({ t: "cancel", job: "j", reason: "the caller left" });
    rig.job("next");
    rig.say({ t: "piece", text: "late" }, { t: "end" });
    assert.deepEqual(rig.cancelled, [["j", "the caller left"]]);
    assert.deepEqual(rig.frames(), []);
    assert.equal(rig.taken.length, 2);
    assert.equal(rig.session.tally.cancelled, 1);
  });

  test("of nobody are not cancelled", () => {
    const rig = working();
    rig.hub({ t: "cancel", job: "never", reason: "r" });
    assert.deepEqual(rig.cancelled, []);
  });
});

describe("an answer", () => {
  test("becomes frames", () => {
    const rig = working();
    rig.say(
      { t: "waiting", for: "human" },
      { t: "started" },
      { t: "piece", text: "one " },
      { t: "piece" },
      { t: "piece", text: "" },
      { t: "piece", delta: { reasoning_content: "hm" } },
      { t: "piece", text: "two" },
      { t: "end", finish_reason: "length", usage: { total_tokens: 3 }, truncated: true },
    );
    assert.deepEqual(rig.frames(), [
      { t: "waiting", job: "j", for: "human" },
      { t: "started", job: "j" },
      { t: "piece", job: "j", text: "one " },
      { t: "piece", job: "j" },
      { t: "piece", job: "j" },
      { t: "piece", job: "j", delta: { reasoning_content: "hm" } },
      { t: "piece", job: "j", text: "two" },
      { t: "end", job: "j", finish_reason: "length", usage: { total_tokens: 3 }, truncated: true },
    ]);
    assert.equal(rig.session.tally.done, 1);
    assert.equal(rig.session.busy, 0);
  });

  test("is whole text however it is cut", () => {
    const rig = working();
    const text = `a${FOX}é日${FOX}`;
    for (const unit of text.split("")) rig.say({ t: "piece", text: unit });
    rig.say({ t: "end" });
    const frames = rig.frames();
    assert.ok(frames.every((frame) => (frame.text ?? "").isWellFormed()));
    assert.equal(textOf(frames), text);
  });

  for (const last of [{ t: "end" }, { t: "fail", code: "upstream_error" }, { t: "piece", delta: { a: 1 } }]) {
    test(`gives up half a character before ${last.t}`, () => {
      const rig = working();
      rig.say({ t: "piece", text: "x\ud83e" }, last);
      const [one, half, other] = rig.frames();
      assert.deepEqual([one.text, half.text, other.t], ["x", "\ufffd", last.t]);
    });
  }

  test("comes in pieces that fit a packet, and cuts no character", () => {
    const rig = new Rig();
    rig.connect({ max_bytes: 1_600 });
    rig.job();
    const text = `x${"\u0001".repeat(500)}${FOX.repeat(500)}`;
    rig.say({ t: "piece", text }, { t: "end" });
    const packets = [];
    while (rig.session.hasUnsent) packets.push(rig.session.packet());
    assert.ok(packets.every((packet) => Buffer.byteLength(packet) <= 1_600));
    const frames = packets.flatMap((packet) => JSON.parse(packet).frames);
    assert.ok(frames.every((frame) => (frame.text ?? "").isWellFormed()));
    assert.equal(textOf(frames), text);
  });

  test("with a delta that fits no packet fails, and the page is told to stop", () => {
    const rig = new Rig();
    rig.connect({ max_bytes: 2_000 });
    rig.job();
    rig.say({ t: "piece", delta: { reasoning_content: "é".repeat(1_000) } }, { t: "end" });
    const [only, ...rest] = rig.frames();
    assert.deepEqual([only.t, only.code, rest], ["fail", "upstream_error", []]);
    assert.equal(rig.cancelled.length, 1);
  });

  test("of a job that is not held is dropped", () => {
    const rig = working();
    for (const t of ["waiting", "started", "piece", "end", "fail"]) rig.session.say({ t, job: "other" });
    rig.session.say({ t: "dance" });
    assert.deepEqual(rig.frames(), []);
  });

  test("ends once", () => {
    const rig = working();
    rig.say({ t: "end" }, { t: "end" }, { t: "fail", code: "internal" }, { t: "piece", text: "no" });
    assert.deepEqual(rig.frames(), [{ t: "end", job: "j" }]);
  });
});

describe("a failure", () => {
  test("is told with all that is known", () => {
    const rig = working();
    rig.say({ t: "fail", code: "rate_limited", message: "slow down", retry_after_s: 7.5, ran: false });
    assert.deepEqual(rig.frames(), [
      { t: "fail", job: "j", code: "rate_limited", message: "slow down", retry_after_s: 7.5, ran: false },
    ]);
    assert.equal(rig.session.tally.failed, 1);
  });

  test("is put into words that the hub takes", () => {
    const rig = working();
    rig.say({ t: "fail", code: "no such code", message: "é".repeat(5_000), retry_after_s: -1, ran: "no" });
    const [{ code, message, retry_after_s, ran }] = rig.frames();
    assert.deepEqual([code, message.length, retry_after_s, ran], ["internal", 4_000, 0, undefined]);
  });

  test("with a time that is none has none", () => {
    const rig = working();
    rig.say({ t: "fail", code: "rate_limited", message: "m", retry_after_s: NaN });
    assert.equal(rig.frames()[0].retry_after_s, undefined);
  });

  test("of a model takes it from the catalogue, after the failure is told", () => {
    const rig = new Rig();
    rig.session.offer([{ id: "m" }, { id: "n" }]);
    rig.connect();
    rig.job();
    rig.say({ t: "fail", code: "model_not_found", message: "gone" });
    const [failed, models] = rig.frames();
    assert.equal(failed.t, "fail");
    assert.deepEqual(models, { t: "models", models: [{ id: "n" }] });
  });

  for (const code of ["challenge", "login_required", "consent_required"]) {
    test(`${code} asks for the human, until somebody says that it is fine`, () => {
      const rig = working();
      rig.say({ t: "fail", code, message: "look here" });
      assert.deepEqual([rig.session.state, rig.session.reason], ["attention", code]);
      rig.frames();
      rig.session.setState("ready");
      assert.deepEqual(rig.frames(), [{ t: "status", state: "ready" }]);
    });
  }
});

describe("the catalogue", () => {
  test("is told when it changes, and only then", () => {
    const rig = new Rig();
    rig.connect();
    rig.say({ t: "models", models: [{ id: "m" }] }, { t: "models", models: [{ id: "m" }] });
    assert.deepEqual(rig.frames(), [{ t: "models", models: [{ id: "m" }] }]);
  });

  test("that changed while there was no link is told by the hello", () => {
    const rig = new Rig();
    rig.session.offer([{ id: "m" }]);
    assert.deepEqual(rig.connect().models, [{ id: "m" }]);
    assert.deepEqual(rig.frames(), []);
  });

  test("holds nothing that would make the hub close the link", () => {
    const rig = new Rig();
    const strange = [
      null,
      "m",
      {},
      { id: 7 },
      { id: "" },
      { id: "line\nbreak" },
      { id: "no-break\u00a0space" },
      { id: "half\ud800" },
      { id: "x".repeat(201) },
      {
        id: "a model",
        modalities: { in: ["text", 7], out: "text" },
        kinds: null,
        features: [null],
        context: 1e300,
        organization: {},
        capabilities: {},
      },
      { id: "b", context: 1.5, organization: "o".repeat(300), modalities: [] },
    ];
    rig.session.offer(strange);
    assert.deepEqual(rig.connect().models, [
      { id: "a model", modalities: { in: ["text"] }, features: [] },
      { id: "b", organization: "o".repeat(200) },
    ]);
  });

  test("has at most as many models as the hub takes", () => {
    const rig = new Rig();
    rig.session.offer(Array.from({ length: 6_000 }, (_, i) => ({ id: `m${i}` })));
    assert.equal(rig.session.models.length, 5_000);
  });
});

describe("a notice", () => {
  test("is passed on, in a bounded sentence", () => {
    const rig = new Rig();
    rig.connect();
    rig.say({ t: "notice", code: "site_changed", message: "x".repeat(5_000) });
    assert.deepEqual(rig.frames(), [{ t: "notice", code: "site_changed", message: "x".repeat(4_000) }]);
  });

  test("with another code is not: the hub would close", () => {
    const rig = new Rig();
    rig.connect();
    rig.say({ t: "notice", code: "weather", message: "rain" });
    assert.deepEqual(rig.frames(), []);
  });
});

describe("the state", () => {
  test("is told when it changes, and only then", () => {
    const rig = new Rig();
    rig.connect();
    rig.session.setState("attention", { reason: "sign in" });
    rig.session.setState("attention", { reason: "sign in" });
    rig.session.setState("attention", { reason: "a check" });
    rig.session.setState("ready");
    assert.deepEqual(rig.frames(), [
      { t: "status", state: "attention", reason: "sign in" },
      { t: "status", state: "attention", reason: "a check" },
      { t: "status", state: "ready" },
    ]);
  });

  test("is in the hello, and what a hello cannot say follows", () => {
    const rig = new Rig();
    rig.session.setState("cooling", { reason: "pacing", until: 10 });
    rig.now += 4_000;
    assert.equal(rig.connect().state, "cooling");
    assert.deepEqual(rig.frames(), [{ t: "status", state: "cooling", reason: "pacing", until: 6 }]);
  });

  test("cooling ends by itself", () => {
    const rig = new Rig();
    rig.session.setState("cooling", { until: 10 });
    assert.equal(rig.session.state, "cooling");
    rig.now += 10_000;
    assert.equal(rig.session.state, "ready");
    assert.equal(rig.connect().state, "ready");
    assert.deepEqual(rig.frames(), []);
  });

  test("a pause that moves by less than a second is no news", () => {
    const rig = new Rig();
    rig.connect();
    rig.session.setState("cooling", { until: 10 });
    rig.now += 500;
    rig.session.setState("cooling", { until: 9.8 });
    assert.equal(rig.frames().length, 1);
    rig.session.setState("cooling", { until: 60 });
    assert.equal(rig.frames()[0].until, 60);
  });

  test("a pause is as long as the hub takes at most", () => {
    const rig = new Rig();
    rig.connect();
    rig.session.setState("cooling", { until: 1e9 });
    assert.equal(rig.frames()[0].until, 864_000);
  });

  test("that changed between hello and welcome is told to a new session too", () => {
    const rig = working();
    rig.session.introduction();
    rig.session.setState("attention", { reason: "sign in" });
    rig.session.offer([{ id: "new" }]);
    rig.session.welcomed({ ...WELCOME, session: "s2" }, rig.wake);
    assert.deepEqual(rig.frames(), [
      { t: "models", models: [{ id: "new" }] },
      { t: "status", state: "attention", reason: "sign in" },
    ]);
  });

  test("the hub's draining ends with its session; ours does not", () => {
    const rig = new Rig();
    rig.connect();
    rig.hub({ t: "drain" });
    assert.deepEqual(rig.frames(), [
      { t: "status", state: "draining", reason: "the hub is shutting down" },
    ]);
    rig.connect({ session: "s2" });
    assert.equal(rig.session.state, "ready");
    // The hello was written while it was draining.
    assert.deepEqual(rig.frames(), [{ t: "status", state: "ready" }]);
    rig.session.drain("enough");
    rig.connect({ session: "s3" });
    assert.deepEqual([rig.session.state, rig.session.reason], ["draining", "enough"]);
  });

  test("whoever looks hears of every change", () => {
    const rig = new Rig();
    const changes = [
      () => rig.connect(),
      () => rig.job(),
      () => rig.say({ t: "end" }),
      () => rig.session.setState("attention"),
      () => rig.session.offer([{ id: "x" }]),
      () => rig.session.disconnected(rig.wake),
    ];
    for (const change of changes) {
      const before = rig.changes;
      change();
      assert.ok(rig.changes > before, change.toString());
    }
    const before = rig.changes;
    rig.session.setState("attention");
    rig.session.offer([{ id: "x" }]);
    assert.equal(rig.changes, before, "nothing has changed");
  });
});

describe("links", () => {
  test("that are lost lose nothing: what was not acknowledged is sent again", () => {
    const rig = working();
    rig.say({ t: "started" }, { t: "piece", text: "a" });
    rig.frames();
    rig.session.disconnected(rig.wake);
    assert.equal(rig.session.connected, false);
    rig.say({ t: "piece", text: "b" });
    assert.equal(rig.connect({ resumed: true, received: 1 }).resume.received, 1);
    assert.equal(textOf(rig.frames()), "ab");
    assert.deepEqual(rig.cancelled, []);
  });

  test("that were replaced touch nothing", () => {
    const rig = working();
    const older = rig.wake;
    rig.session.introduction();
    rig.session.welcomed({ ...WELCOME, resumed: true }, () => {});
    rig.session.disconnected(older);
    assert.equal(rig.session.connected, true);
  });

  test("in a new session carry nothing of the old one", () => {
    const rig = working();
    rig.say({ t: "started" }, { t: "piece", text: "a" });
    rig.connect({ session: "s2" });
    assert.deepEqual(rig.cancelled, [["j", "the hub began a new session"]]);
    rig.job("k");
    rig.session.say({ t: "started", job: "k" });
    assert.equal(rig.session.packet(), '{"n":1,"ack":1,"frames":[{"t":"started","job":"k"}]}');
    assert.equal(rig.session.introduction().resume.session, "s2");
  });

  test("into a session that is not ours are a breach", () => {
    const rig = working();
    rig.session.introduction();
    const welcome = { ...WELCOME, session: "theirs", resumed: true };
    assert.throws(() => rig.session.welcomed(welcome, rig.wake), closesWith(4004));
    assert.throws(() => rig.connect({ resumed: true, received: 99 }), closesWith(4004));
  });

  test("are woken when there is something to say", () => {
    const rig = working();
    rig.session.disconnected(rig.wake);
    rig.connect({ resumed: true });
    rig.wakes = 0;
    rig.say({ t: "started" });
    assert.equal(rig.wakes, 1);
    rig.session.leave("bye");
    assert.ok(rig.wakes > 1);
    rig.session.disconnected(rig.wake);
    rig.wakes = 0;
    rig.session.knock();
    assert.equal(rig.wakes, 0);
  });

  test("answer a ping with their next packet", () => {
    const rig = new Rig();
    rig.connect();
    rig.hub({ t: "ping" });
    assert.equal(rig.session.packet(), '{"n":1,"ack":1,"frames":[{"t":"pong"}]}');
  });

  test("that are in doubt can ask for an ack", () => {
    const rig = working();
    rig.say({ t: "started" });
    const isHeard = rig.session.knock();
    assert.deepEqual(rig.frames().map(({ t }) => t), ["started", "pong"]);
    rig.acked = 1;
    rig.hub({ t: "scale", slots: 1 });
    assert.equal(isHeard(), false);
    rig.acked = 2;
    rig.hub({ t: "scale", slots: 1 });
    assert.equal(isHeard(), true);
  });

  test("by polling repeat what is not acknowledged, with members in front", () => {
    const rig = working();
    rig.say({ t: "started" });
    const options = { extra: '"session":"s1",', everything: true };
    const packet = '{"session":"s1","n":1,"ack":1,"frames":[{"t":"started","job":"j"}]}';
    assert.equal(rig.session.packet(options), packet);
    assert.equal(rig.session.packet(options), packet);
  });
});

describe("acks", () => {
  test("are due after a second", () => {
    const rig = new Rig();
    rig.connect();
    assert.equal(rig.session.ackDueIn(), null);
    rig.job();
    assert.equal(rig.session.ackDueIn(), 1);
    rig.now += 400;
    rig.hub({ t: "scale", slots: 1 });
    assert.equal(rig.session.ackDueIn(), 0.6);
    rig.now += 700;
    assert.equal(rig.session.ackDueIn(), 0);
    rig.session.packet();
    assert.equal(rig.session.ackDueIn(), null);
  });

  test("are due at once after a thousand frames", () => {
    const rig = new Rig();
    rig.connect();
    rig.hub(...Array(999).fill({ t: "scale", slots: 1 }));
    assert.equal(rig.session.ackDueIn(), 1);
    rig.hub({ t: "scale", slots: 1 });
    assert.equal(rig.session.ackDueIn(), 0);
  });
});

describe("a hub that falls behind", () => {
  const flood = (rig) => {
    for (let i = 0; i <= MAX_UNACKED_FRAMES; i += 1) rig.say({ t: "piece", text: "x" });
  };

  test("is waited for up to the bound, and the page never", () => {
    const rig = working();
    for (let i = 0; i < MAX_UNACKED_FRAMES; i += 1) rig.say({ t: "piece", text: "x" });
    assert.equal(rig.session.over, null);
    assert.equal(rig.session.unacked, MAX_UNACKED_FRAMES);
  });

  test("ends the session beyond it", () => {
    const rig = working();
    flood(rig);
    assert.equal(rig.session.over.code, 4002);
    assert.throws(() => rig.session.packet(), closesWith(4002));
    assert.throws(() => rig.hub({ t: "ping" }), closesWith(4002));
    assert.deepEqual(rig.cancelled, [["j", "too much is unacknowledged"]]);
    rig.session.forget("told by the link");
    assert.equal(rig.session.introduction().resume, undefined);
    assert.equal(rig.session.over, null);
  });

  test("ends it while there is no link, too: the next hello is a fresh one", () => {
    const rig = working();
    rig.session.disconnected(rig.wake);
    flood(rig);
    assert.equal(rig.session.over, null);
    assert.equal(rig.cancelled.length, 1);
    assert.equal(rig.connect().resume, undefined);
    assert.deepEqual(rig.frames(), []);
  });
});

describe("leaving", () => {
  test("gives away what was not started, and fails what was", () => {
    const rig = new Rig({ slots: 2 });
    rig.connect();
    rig.job("started");
    rig.job("not");
    rig.session.say({ t: "started", job: "started" });
    rig.frames();
    rig.session.leave("closing");
    rig.session.sayBye();
    assert.deepEqual(rig.frames(), [
      { t: "fail", job: "started", code: "cancelled", message: "the tab is leaving" },
      { t: "refuse", job: "not", reason: "leaving" },
      { t: "bye", reason: "closing" },
    ]);
    assert.deepEqual(rig.cancelled.map(([job]) => job), ["started", "not"]);
    assert.equal(rig.session.leaving, "closing");
    rig.session.stay();
    assert.equal(rig.session.leaving, null);
  });
});

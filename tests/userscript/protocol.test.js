import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import * as protocol from "../../userscript/src/protocol.js";

const { Channel, Close, ProtocolError, WholeText } = protocol;

/** @param {string} name */
function golden(name) {
  const text = readFileSync(new URL(`../frames/${name}.jsonl`, import.meta.url), "utf8");
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line));
}

/** As it would arrive: without undefined members. */
const plain = (value) => JSON.parse(protocol.encode(value));

const closesWith = (code) => (error) => error instanceof ProtocolError && error.code === code;

describe("what the hub says", () => {
  for (const { why, text, value } of golden("hub_frames")) {
    test(why, () => {
      const packet = protocol.decodeHubPacket(`{"n":1,"ack":0,"frames":[${text}]}`);
      assert.deepEqual(packet.frames, [value]);
    });
  }
  for (const { why, text, value } of golden("packets").filter((row) => row.as === "hub_packet")) {
    test(why, () => {
      assert.deepEqual(protocol.decodeHubPacket(text), { next_s: 0, ...value });
    });
  }
  for (const { why, text, value } of golden("hellos").filter((row) => row.as === "welcome")) {
    test(why, () => {
      assert.deepEqual(protocol.decodeWelcome(text), value.welcome);
    });
  }
});

describe("what a hub must not say", () => {
  const decoders = { hub_packet: protocol.decodeHubPacket, welcome: protocol.decodeWelcome };
  for (const { why, as, text, close } of golden("bad").filter((row) => row.as in decoders)) {
    test(`${as}: ${why}`, () => {
      assert.throws(() => decoders[as](text), closesWith(close));
    });
  }
  test("a message that is not text", () => {
    assert.throws(() => protocol.decodeHubPacket(new ArrayBuffer(8)), closesWith(4004));
  });
  test("NaN is not JSON", () => {
    const text = '{"n":1,"ack":0,"frames":[],"next_s":NaN}';
    assert.throws(() => protocol.decodeHubPacket(text), closesWith(4004));
  });
});

describe("what a worker says", () => {
  const builders = {
    status: (frame) => protocol.status(frame.state, frame),
    models: (frame) => protocol.models(frame.models),
    refuse: (frame) => protocol.refuse(frame.job, frame.reason),
    started: (frame) => protocol.started(frame.job),
    waiting: (frame) => protocol.waiting(frame.job),
    piece: (frame) =>
      frame.delta
        ? protocol.deltaPiece(frame.job, frame.delta)
        : protocol.piece(frame.job, frame.text),
    end: (frame) => protocol.end(frame.job, frame.finish_reason, frame),
    fail: (frame) =>
      protocol.fail(frame.job, frame.code, frame.message, {
        retryAfterS: frame.retry_after_s,
        ran: frame.ran,
      }),
    notice: (frame) => protocol.notice(frame.code, frame.message),
    pong: () => protocol.pong(),
    bye: (frame) => protocol.bye(frame.reason),
  };
  for (const { why, value } of golden("worker_frames")) {
    test(why, () => assert.deepEqual(plain(builders[value.t](value)), value));
  }
  for (const { why, value } of golden("hellos").filter((row) => row.as === "hello")) {
    test(why, () => {
      const { protocol: version, ...members } = value.hello;
      assert.deepEqual(plain(protocol.hello(members)), value);
      assert.equal(version, protocol.VERSION);
    });
  }
});

describe("tables", () => {
  test("failure codes", () => {
    const rows = golden("failures").map(({ code, worker, proves_not_run, error }) => [
      code,
      { worker, provesNotRun: proves_not_run, error },
    ]);
    assert.deepEqual({ ...protocol.FAILURES }, Object.fromEntries(rows));
  });
  test("close codes", () => {
    const named = golden("closes").filter((row) => row.name);
    assert.deepEqual({ ...Close }, Object.fromEntries(named.map((row) => [row.name, row.code])));
  });
  for (const { code, final } of golden("closes")) {
    test(`${code} is ${final ? "" : "not "}final`, () => {
      assert.equal(protocol.isFinal(code), final);
    });
  }
});

describe("numbering", () => {
  const STATE = {
    is_full: "isFull",
    has_unsent: "hasUnsent",
    ack_owed: "ackOwed",
  };
  const frameOf = (push) => (typeof push === "number" ? `"${"x".repeat(push - 2)}"` : push);

  /** Does one step; says what came of it. */
  const doers = {
    push(channel, { push, times = 1, exempt = false }) {
      for (let i = 0; i < times; i += 1) channel.push(frameOf(push), { exempt });
    },
    packet(channel, step) {
      const text = channel.packet(step.packet, step.extra);
      const packet = JSON.parse(text);
      if (step.is) assert.deepEqual(packet, step.is);
      if (step.with) assert.deepEqual({ ...packet, ...step.with }, packet);
      if ("count" in step) assert.equal(packet.frames.length, step.count);
      if (step.bytes_at_most) assert.ok(Buffer.byteLength(text) <= step.bytes_at_most);
    },
    rewind: (channel) => channel.rewind(),
    ack: (channel, { ack }) => channel.acknowledge(ack),
    can_resume(channel, step) {
      assert.equal(channel.canResume(step.can_resume), step.is);
    },
    accept(channel, step) {
      assert.deepEqual(channel.accept(step.accept), step.is);
    },
    state(channel, { state }) {
      for (const [name, value] of Object.entries(state)) {
        assert.equal(channel[STATE[name] ?? name], value, name);
      }
    },
  };

  for (const { why, steps } of golden("numbering")) {
    test(why, () => {
      const channel = new Channel();
      for (const step of steps) {
        const [kind] = Object.keys(step).filter((name) => name in doers);
        const act = () => doers[kind](channel, step);
        if (step.error) assert.throws(act, closesWith(step.error));
        else act();
      }
    });
  }
});

describe("whole text", () => {
  test("a pair cut in two is sent as one", () => {
    const text = new WholeText();
    assert.deepEqual([text.push("a\ud83e"), text.push("\udd8ab"), text.flush()], ["a", "🦊b", ""]);
  });
  test("a half alone is held until its other half comes", () => {
    const text = new WholeText();
    assert.deepEqual([text.push("\ud83e"), text.push(""), text.push("\udd8a")], ["", "", "🦊"]);
  });
  test("a half that never comes whole is replaced", () => {
    const text = new WholeText();
    assert.deepEqual([text.push("\ud83e"), text.push("x"), text.flush()], ["", "\ufffdx", ""]);
  });
  test("a half left at the end is replaced", () => {
    const text = new WholeText();
    assert.deepEqual([text.push("a\ud83e"), text.flush(), text.flush()], ["a", "\ufffd", ""]);
  });
  test("a low half without its high one is replaced at once", () => {
    assert.equal(new WholeText().push("\udd8ax"), "\ufffdx");
  });
  test("however text is cut, it arrives as it was", () => {
    const original = "a🦊é👩‍👩‍👧日🦊";
    for (let size = 1; size <= original.length; size += 1) {
      const text = new WholeText();
      let arrived = "";
      for (let at = 0; at < original.length; at += size) {
        const sent = text.push(original.slice(at, at + size));
        assert.ok(sent.isWellFormed());
        arrived += sent;
      }
      assert.equal(arrived + text.flush(), original);
    }
  });
});

// --- two channels and a carrier that does its worst -------------------------------------------------------

/** mulberry32: a failing seed can be run again. */
function seeded(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** One end of a session, with what it said and heard. */
class End {
  channel = new Channel();
  said = [];
  heard = [];
  /** What is on its way from here over the present connection. */
  wire = [];

  say(frame, exempt) {
    this.said.push(frame);
    this.channel.push(JSON.stringify(frame), { exempt });
  }

  hear(packet) {
    this.heard.push(...this.channel.accept(packet));
  }
}

class HostileCarrier {
  worker = new End();
  hub = new End();
  polling = false;
  /** The welcome has arrived: until then a worker says nothing. */
  welcomed = false;

  /** A newer hello takes the session over; what the older connection carried is lost. */
  connect(polling) {
    const { worker, hub } = this;
    this.polling = polling;
    this.welcomed = false;
    worker.wire = [];
    assert.ok(hub.channel.canResume(worker.channel.received));
    hub.channel.rewind();
    hub.channel.acknowledge(worker.channel.received);
    hub.wire = [{ welcome: hub.channel.received }];
  }

  send(end, maxBytes) {
    if (end === this.worker && !this.welcomed) return;
    if (this.polling) end.channel.rewind();
    const text = end.channel.packet(maxBytes);
    const packet = JSON.parse(text);
    assert.ok(packet.frames.length <= 1 || Buffer.byteLength(text) <= maxBytes);
    end.wire.push(packet);
  }

  /** By polling a packet may be lost or come twice; a socket keeps order until it is cut. */
  deliver(from, to, fate) {
    const item = from.wire.shift();
    if (item === undefined) return;
    if ("welcome" in item) this.welcome(item.welcome);
    else if (!this.polling) to.hear(item);
    else if (this.welcomed) for (let i = 0; i < fate; i += 1) to.hear(item);
  }

  welcome(received) {
    const { channel } = this.worker;
    assert.ok(channel.canResume(received));
    channel.rewind();
    channel.acknowledge(received);
    this.welcomed = true;
  }

  check() {
    for (const [from, to] of this.directions()) {
      assert.deepEqual(to.heard, from.said.slice(0, to.heard.length));
      assert.ok(from.channel.weight >= 0);
      assert.equal(from.channel.unacked, from.said.length - from.channel.acked);
      assert.ok(from.channel.acked <= to.channel.received);
    }
  }

  directions() {
    return [
      [this.worker, this.hub],
      [this.hub, this.worker],
    ];
  }

  settle(maxBytes) {
    const rounds = 1 + this.worker.said.length + this.hub.said.length;
    for (let round = 0; round < rounds; round += 1) {
      for (const [from, to] of this.directions()) {
        this.send(from, maxBytes);
        while (from.wire.length > 0) this.deliver(from, to, 1);
      }
    }
  }
}

describe("a hostile carrier", () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    test(`seed ${seed}`, () => {
      const random = seeded(seed);
      const carrier = new HostileCarrier();
      carrier.connect(random(2) === 0);
      const ends = carrier.directions();
      for (let step = 0; step < 150; step += 1) {
        const [from, to] = ends[random(2)];
        const act = random(20);
        if (act < 6) from.say(`${step}${"é".repeat(random(40))}`, random(4) === 0);
        else if (act < 12) carrier.send(from, random(400));
        else if (act < 19) carrier.deliver(from, to, random(3));
        else carrier.connect(random(2) === 0);
        carrier.check();
      }
      carrier.connect(random(2) === 0);
      carrier.settle(150 + random(400));
      carrier.check();
      for (const [from, to] of ends) {
        assert.deepEqual(to.heard, from.said);
        assert.equal(from.channel.weight, 0);
        assert.equal(from.channel.unacked, 0);
      }
    });
  }
});

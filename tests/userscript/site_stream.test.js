import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import { SiteStream } from "../../userscript/src/site_stream.js";

const read = (path) => readFileSync(new URL(path, import.meta.url), "utf8");
const profile = JSON.parse(read("../../hub/rules/site_profile.json"));
const fixtures = read("../frames/site_streams.jsonl")
  .trimEnd()
  .split("\n")
  .map((line) => JSON.parse(line));
const utf8 = new TextEncoder();

/** What comes of bytes that arrive in these parts. @param {Uint8Array[]} parts */
function eventsOf(parts, stream = new SiteStream({ profile })) {
  const decoder = new TextDecoder();
  const events = parts.flatMap((part) => stream.push(decoder.decode(part, { stream: true })));
  return [...events, ...stream.push(decoder.decode()), ...stream.end()];
}

/** Pieces, perhaps a notice, and exactly one end or failure, the last. @param {any[]} events */
function assertOrderly(events) {
  const kinds = events.map(({ t }) => t);
  assert.match(kinds.join(" "), /^(piece )*(notice )?(end|fail)$/);
  for (const { text } of events) if (text !== undefined) assert.ok(text !== "" && text.isWellFormed());
}

describe("a stream", () => {
  for (const { name, stream, events } of fixtures) {
    const bytes = utf8.encode(stream);

    test(`${name}: whole`, () => {
      assert.deepEqual(eventsOf([bytes]), events);
      assertOrderly(events);
    });

    test(`${name}: in two parts, cut at every byte`, () => {
      for (let at = 0; at <= bytes.length; at += 1) {
        assert.deepEqual(eventsOf([bytes.subarray(0, at), bytes.subarray(at)]), events, `cut at ${at}`);
      }
    });

    test(`${name}: byte by byte`, () => {
      const single = Array.from(bytes, (_, at) => bytes.subarray(at, at + 1));
      assert.deepEqual(eventsOf(single), events);
    });
  }
});

describe("a parser", () => {
  test("counts what it does not understand, and the other side's lines", () => {
    const stream = new SiteStream({ profile });
    stream.push('az:1\naz:2\nb0:"x"\nbf:{}\na0:"x"\n');
    assert.deepEqual([stream.unknown, stream.battle, stream.isOver], [{ az: 2 }, 2, false]);
    stream.push('ad:{"finishReason":"stop"}\n');
    assert.ok(stream.isOver);
    assert.deepEqual([stream.push('a0:"late"\n'), stream.end()], [[], []]);
  });

  test("gives each piece as soon as its line is whole", () => {
    const stream = new SiteStream({ profile });
    assert.deepEqual(stream.push('a0:"x"'), []);
    assert.deepEqual(stream.push('\na0:"y"\na0'), [
      { t: "piece", text: "x" },
      { t: "piece", text: "y" },
    ]);
  });

  test("keeps few names of what it does not understand", () => {
    const stream = new SiteStream({ profile });
    for (let code = 100; code < 200; code += 1) stream.push(`a${code}:1\n`);
    const { others, ...named } = stream.unknown;
    assert.deepEqual([Object.keys(named).length, others], [20, 80]);
    const [fail] = stream.end();
    assert.ok(fail.code === "site_changed" && fail.message.length < 500);
  });

  test("reads by the profile that it is given", () => {
    const changed = { ...profile, positions: ["x:"], lines: { t: "text", z: "end" } };
    const renamed = { ...profile, lines: { ...profile.lines, t: "text", z: "end", y: "no such kind" } };
    const parsed = eventsOf(
      [utf8.encode('at:"x"\nay:1\naz:{"finishReason":"stop"}\n')],
      new SiteStream({ profile: renamed }),
    );
    assert.deepEqual(
      parsed.map(({ t }) => t),
      ["piece", "notice", "end"],
    );
    const nothing = eventsOf([utf8.encode('at:"x"\n')], new SiteStream({ profile: changed }));
    assert.deepEqual(
      nothing.map(({ code }) => code),
      ["site_changed"],
    );
  });

  test("drops a line that is too long, and says that something is missing", () => {
    const stream = new SiteStream({ profile, longestLine: 40 });
    const events = [
      ...stream.push('a0:"x"\na0:"'),
      ...stream.push("y".repeat(30)),
      ...stream.push("y".repeat(30)),
      ...stream.push('y"\na0:"z"\nad:{"finishReason":"stop"}\n'),
    ];
    assert.deepEqual(events, [
      { t: "piece", text: "x" },
      { t: "piece", text: "z" },
      {
        t: "notice",
        code: "site_changed",
        message: "not understood in the site's stream: too long (1)",
      },
      { t: "end", finish_reason: "length", truncated: true },
    ]);
  });

  test("takes an image of many MiB as a data URL", () => {
    const url = `data:image/png;base64,${"A".repeat(20 * 1024 * 1024)}`;
    const bytes = utf8.encode(`a2:[{"type":"image","image":"${url}"}]\nad:{"finishReason":"stop"}\n`);
    const parts = [];
    for (let at = 0; at < bytes.length; at += 65_536) parts.push(bytes.subarray(at, at + 65_536));
    const [image, end] = eventsOf(parts);
    assert.ok(image.delta.images[0].image_url.url === url);
    assert.equal(end.finish_reason, "stop");
  });

  // A parser that looks through all it holds at every part would not come to an end here.
  test("takes one line in two million parts", () => {
    const stream = new SiteStream({ profile });
    stream.push('a0:"');
    for (let at = 0; at < 2_000_000; at += 1) stream.push("y");
    const [piece] = stream.push('"\n');
    assert.ok(piece.text === "y".repeat(2_000_000));
  });
});

// --- what nobody would send -------------------------------------------------------------------------------

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

const VALUES = [
  "1",
  "null",
  "true",
  '""',
  '"x"',
  "[]",
  "{}",
  "[[]]",
  "[null]",
  "[1]",
  '[{"type":null}]',
  '[{"type":"image"}]',
  '[{"type":"image","image":[]}]',
  '[{"type":"image","image":{"url":{}}}]',
  '"hasArenaError"',
  '"\\ud800"',
  '{"message":null}',
  '{"message":[[]]}',
  '{"error":null}',
  '{"error":{"error":{"error":{"error":{"error":1}}}}}',
  '"{\\"error\\":\\"{}\\"}"',
  '"{"',
  '{"finishReason":[]}',
  '{"finishReason":"__proto__"}',
  '{"finishReason":"stop","usage":[]}',
  '{"finishReason":"stop","usage":{"promptTokens":1e99}}',
  '{"toolCallId":{},"argsTextDelta":"[[{\\"url\\":\\"https://a\\"}"}',
  '{"argsTextDelta":"]]]]{}"}',
  '{"argsTextDelta":7}',
  "{",
  '"',
  "\u0000",
  "[".repeat(5_000),
  `${"[".repeat(900)}${"]".repeat(900)}`,
  '{"__proto__":{"message":"x"}}',
  '{"code":{"toString":1}}',
  '{"error":{"code":[],"message":7}}',
];

describe("a hostile site", () => {
  for (let seed = 1; seed <= 400; seed += 1) {
    test(`seed ${seed}`, () => {
      const random = seeded(seed);
      const lines = Array.from({ length: 1 + random(12) }, () => {
        const position = "aaaaaabc"[random(8)];
        const code = "0g23cfedz"[random(9)];
        const value = VALUES[random(VALUES.length)];
        return `${position}${code}${random(15) ? ":" : ""}${value}${random(15) ? "\n" : ""}`;
      });
      const bytes = utf8.encode(lines.join(""));
      for (let flips = random(4); flips > 0; flips -= 1) bytes[random(bytes.length)] = random(256);
      const whole = eventsOf([bytes]);
      assertOrderly(whole);
      const at = random(bytes.length + 1);
      assert.deepEqual(eventsOf([bytes.subarray(0, at), bytes.subarray(at)]), whole);
    });
  }
});

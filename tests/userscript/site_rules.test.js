import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import {
  failureOfAnswer,
  failureOfComplaint,
  isSamePrompt,
  JobFailure,
  matchesHost,
  matchesPath,
  memberAt,
  promptOf,
} from "../../userscript/src/site_rules.js";

const profile = JSON.parse(
  readFileSync(new URL("../../hub/rules/site_profile.json", import.meta.url), "utf8"),
);

describe("requests", () => {
  const paths = [
    ["/nextjs-api/stream/create-evaluation", true],
    ["/nextjs-api/stream/post-to-evaluation/0199-abc", true],
    ["/nextjs-api/stream/post-to-evaluation/", false],
    ["/nextjs-api/stream/post-to-evaluation/a/b", false],
    ["/nextjs-api/stream/post-to-evaluation", false],
    ["/nextjs-api/stream/create-evaluation/", false],
    ["/x/nextjs-api/stream/create-evaluation", false],
    ["/", false],
  ];
  for (const [path, expected] of paths) {
    test(`${path} ${expected ? "carries" : "does not carry"} a prompt`, () => {
      assert.equal(matchesPath(profile.requests, path), expected);
    });
  }

  const hosts = [
    ["arena.ai", true],
    ["beta.arena.ai", true],
    ["a.b.lmarena.ai", true],
    ["notarena.ai", false],
    ["arena.ai.evil.example", false],
    ["", false],
  ];
  for (const [host, expected] of hosts) {
    test(`${host || "no host"} is ${expected ? "" : "not "}the site's`, () => {
      assert.equal(matchesHost(profile.hosts, host), expected);
    });
  }

  test("a prompt is where the profile says, or nowhere", () => {
    const at = (value) => memberAt(value, ["userMessage", "content"]);
    assert.equal(at({ userMessage: { content: "x" } }), "x");
    for (const value of [
      null,
      undefined,
      7,
      "x",
      {},
      { userMessage: null },
      { userMessage: "content" },
      [],
    ]) {
      assert.equal(at(value), undefined);
    }
    assert.equal(memberAt({}, ["constructor", "name"]), undefined);
  });

  test("a composer may change white space, and nothing else", () => {
    assert.ok(isSamePrompt("a\r\nb  c\n", "a\nb c"));
    assert.ok(isSamePrompt("a\u00a0b", "a b"));
    assert.ok(isSamePrompt("x\ud800", "x\ufffd"));
    assert.ok(!isSamePrompt("ab", "a b"));
    assert.ok(!isSamePrompt("Hello", "hello"));
    assert.ok(!isSamePrompt("hello", "hello, but mine"));
  });
});

describe("an answer that is no stream", () => {
  const answer = (status, text = "", headers = {}, redirected = false) =>
    failureOfAnswer(profile, { status, text, redirected, header: (name) => headers[name] ?? null });
  const html = { "content-type": "text/html; charset=utf-8" };
  const rows = [
    ["a challenge", answer(403, '{"error":"recaptcha validation failed"}'), "challenge", 1200],
    ["in any case", answer(403, "reCAPTCHA Validation Failed"), "challenge", 1200],
    ["Cloudflare's header", answer(403, "", { "cf-mitigated": "challenge" }), "challenge", 1200],
    ["Cloudflare's page", answer(503, "<title>Just a moment...</title>", html), "challenge", 1200],
    ["Cloudflare's other page", answer(200, "Attention Required! | Cloudflare", html), "challenge", 1200],
    ["not signed in", answer(401, "LOGIN_GATE"), "login_required"],
    ["moderated, tested before the rate", answer(429, "prompt failed"), "moderated"],
    ["moderated", answer(422, "This violates our terms"), "moderated"],
    ["too many", answer(429, "Too Many Requests"), "rate_limited", 1200],
    ["too many, with seconds", answer(429, "", { "retry-after": "17" }), "rate_limited", 17],
    ["too many, with a fraction", answer(429, "", { "retry-after": "0.2" }), "rate_limited", 1],
    ["too many, with an absurd time", answer(429, "", { "retry-after": "1e12" }), "rate_limited", 864_000],
    ["too many, with a time gone by", answer(429, "", { "retry-after": "-5" }), "rate_limited", 0],
    ["too many, with nonsense", answer(429, "", { "retry-after": "soon" }), "rate_limited", 1200],
    ["too many, with nothing", answer(429, "", { "retry-after": " " }), "rate_limited", 1200],
    ["a mode that is not allowed", answer(400, "'direct' mode is not allowed"), "site_changed"],
    ["an unknown 400", answer(400, "no idea"), "site_changed"],
    ["a redirect", answer(200, "", html, true), "site_changed"],
    ["a method not allowed", answer(405), "site_changed"],
    ["a model that is gone", answer(404, "Models not found"), "model_not_found"],
    ["another 404", answer(404, "Not Found"), "site_changed"],
    ["too large", answer(413), "attachment_too_large"],
    ["the server's fault", answer(599), "upstream_error"],
    ["not a status of three digits", answer(0), "site_changed"],
  ];
  for (const [why, failure, code, seconds] of rows) {
    test(why, () => {
      assert.deepEqual([failure.code, failure.retry_after_s], [code, seconds]);
      assert.equal("retry_after_s" in failure, seconds !== undefined);
    });
  }

  test("a date to come again", () => {
    const { retry_after_s: seconds } = answer(429, "", {
      "retry-after": new Date(Date.now() + 90_000).toUTCString(),
    });
    assert.ok(seconds > 80 && seconds <= 91);
  });

  test("the message names the status, and for what nobody knows the type, never the body", () => {
    assert.equal(answer(418, "secret", html).message, "the site answered 418 (text/html)");
    assert.equal(answer(500, "secret", html).message, "the site answered 500");
    assert.equal(answer(200, "secret", html, true).message, "the site redirected the prompt");
  });
});

describe("a complaint within a stream", () => {
  const rows = [
    ["Too many requests", "rate_limited", 60],
    [{ error: { message: "Blocked", code: "moderation_blocked" } }, "moderated"],
    ["context length exceeded", "context_length_exceeded"],
    [null, "upstream_error"],
    [[], "upstream_error"],
    [{ error: null, message: "rate limit" }, "rate_limited", 60],
    ["{not JSON, but moderated", "moderated"],
  ];
  for (const [value, code, seconds] of rows) {
    test(JSON.stringify(value), () => {
      const failure = failureOfComplaint(profile, value);
      assert.deepEqual([failure.code, failure.retry_after_s], [code, seconds]);
      assert.ok(failure.message);
    });
  }

  test("is cut to a bearable length, and whole", () => {
    const { message } = failureOfComplaint(profile, `${"x".repeat(499)}🦊${"y".repeat(9_000)}`);
    assert.equal(message, `${"x".repeat(499)}\ufffd`);
  });
});

describe("what a job puts into the page", () => {
  const body = (content, more = {}) => ({ messages: [{ role: "user", content, ...more }] });
  const image = (url) => ({ type: "image_url", image_url: { url } });
  const refuses = (value) =>
    assert.throws(
      () => promptOf(value),
      (error) => error instanceof JobFailure && error.code === "unsupported",
    );

  test("a text", () => {
    assert.deepEqual(promptOf(body("a\nb")), { prompt: "a\nb", attachments: [] });
  });

  test("parts of text, and images in their order", () => {
    const parts = [
      { type: "text", text: "one" },
      image("data:image/png;base64,AQID"),
      { type: "text", text: "two" },
      image("data:image/svg+xml;charset=utf-8,%3Csvg%2F%3E"),
    ];
    const { prompt, attachments } = promptOf(body(parts));
    assert.equal(prompt, "one\n\ntwo");
    assert.deepEqual(
      attachments.map(({ name, type, bytes }) => [name, type, Buffer.from(bytes).toString("latin1")]),
      [
        ["image-1.png", "image/png", "\x01\x02\x03"],
        ["image-2.svg", "image/svg+xml", "<svg/>"],
      ],
    );
  });

  test("an image of ten MiB", () => {
    const bytes = Buffer.alloc(10 * 1024 * 1024, 7);
    const { attachments } = promptOf(body([image(`data:image/png;base64,${bytes.toString("base64")}`)]));
    assert.ok(bytes.equals(attachments[0].bytes));
  });

  const unsupported = [
    null,
    {},
    { messages: [] },
    {
      messages: [
        { role: "user", content: "a" },
        { role: "user", content: "b" },
      ],
    },
    { messages: [{ role: "system", content: "a" }] },
    body(null),
    body(7),
    body([null]),
    body([{ type: "input_audio" }]),
    body([image("https://a/b.png")]),
    body([image("data:image/png;base64,***")]),
    body([image("data:image/png,%zz")]),
    body([image(7)]),
    body([{ type: "image_url" }]),
  ];
  for (const value of unsupported) {
    test(`refuses ${JSON.stringify(value)}`, () => refuses(value));
  }
});

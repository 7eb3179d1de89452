import assert from "node:assert/strict";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { after, before, beforeEach, describe, test } from "node:test";

import { Tap } from "../../userscript/src/tap.js";

const profile = JSON.parse(
  readFileSync(new URL("../../hub/rules/site_profile.json", import.meta.url), "utf8"),
);
const nativeFetch = globalThis.fetch;
const PATH = "/nextjs-api/stream/create-evaluation";

/** What the server does with a prompt, by the prompt's first word. */
const ANSWERS = {
  hello: (response) => stream(response).end('a0:"Grüße"\n'),
  "split🦊": (response) => {
    const bytes = Buffer.from('a0:"🦊"\n');
    stream(response).write(bytes.subarray(0, 6));
    setTimeout(() => response.end(bytes.subarray(6)), 20);
  },
  held: (response) => {
    held.push(response);
    stream(response).write('a0:"first"\n');
  },
  refused: (response) => response.writeHead(429, { "retry-after": "7" }).end("too many"),
  large: (response) => response.writeHead(500).end("x".repeat(300_000)),
  broken: (response) => {
    response.writeHead(503).write("Service");
    setTimeout(() => response.destroy(), 20);
  },
  html: (response) => response.writeHead(200, { "content-type": "text/html" }).end("<title>Oops</title>"),
  moved: (response) => response.writeHead(302, { location: "/elsewhere" }).end(),
  empty: (response) => stream(response).end(),
  cut: (response) => {
    stream(response).write('a0:"x"\n');
    setTimeout(() => response.destroy(), 20);
  },
};

const stream = (response) => response.writeHead(200, { "content-type": "text/plain; charset=utf-8" });

let server;
let origin;
let held = [];
/** Emits "closed" when a client has left a held answer. */
const arrived = [];

before(async () => {
  server = createServer(async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    const text = Buffer.concat(parts).toString();
    arrived.push(text);
    const prompt = text.startsWith("{") ? (JSON.parse(text).userMessage?.content ?? "") : text;
    (ANSWERS[prompt.split(" ")[0]] ?? ((r) => stream(r).end("other")))(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  origin = `http://127.0.0.1:${server.address().port}`;
});

after(() => {
  server.closeAllConnections();
  server.close();
});

let window;
let tap;
let strangers;

beforeEach(() => {
  held = [];
  arrived.length = 0;
  strangers = [];
  window = { fetch: nativeFetch, location: new URL(origin), document: { baseURI: `${origin}/text/direct` } };
  tap = new Tap({ window, profile, heard: (what) => strangers.push(what) });
});

/** A job's reader that writes down what it hears, and when it is over. */
function listener() {
  const heard = [];
  let finish;
  const over = new Promise((resolve) => (finish = resolve));
  const reader = {
    sent: () => heard.push("sent"),
    refused: ({ status, redirected, header, text }) => {
      heard.push({ status, redirected, retry: header("retry-after"), text });
      finish();
    },
    text: (text) => heard.push(text),
    over: () => {
      heard.push("over");
      finish();
    },
    broke: (error) => {
      heard.push(error.name);
      finish();
    },
  };
  return { heard, over, reader };
}

const bodyOf = (content) => JSON.stringify({ id: "1", userMessage: { content } });
const ask = (prompt, init = {}) =>
  window.fetch(PATH_URL(), { method: "POST", body: bodyOf(prompt), ...init });
const PATH_URL = () => origin + PATH;

describe("a job's request", () => {
  test("is read along, and the page has every byte", async () => {
    const { heard, over, reader } = listener();
    tap.expect("hello", reader);
    const response = await ask("hello");
    assert.equal(await response.text(), 'a0:"Grüße"\n');
    await over;
    assert.deepEqual(heard, ["sent", 'a0:"Grüße"\n', "over"]);
    assert.deepEqual(strangers, []);
  });

  test("is announced before the native fetch is called", () => {
    const order = [];
    const fake = { ...window, fetch: () => (order.push("native"), nativeFetch(`${origin}/other`)) };
    const other = new Tap({ window: fake, profile, heard: () => {} });
    other.expect("hello", { ...listener().reader, sent: () => order.push("sent") });
    fake.fetch(PATH_URL(), { method: "POST", body: bodyOf("hello") });
    assert.deepEqual(order, ["sent", "native"]);
  });

  test("is decoded across cuts", async () => {
    const { heard, over, reader } = listener();
    tap.expect("split🦊", reader);
    await ask("split🦊");
    await over;
    assert.deepEqual(heard.slice(1, -1).join(""), 'a0:"🦊"\n');
  });

  test("is known though its white space has changed", async () => {
    const { heard, over, reader } = listener();
    tap.expect("hello  you\r\nthere\n", reader);
    await ask("hello you\nthere");
    await over;
    assert.equal(heard[0], "sent");
  });

  const inputs = {
    "a Request with a body": () => [new Request(PATH_URL(), { method: "POST", body: bodyOf("hello") })],
    "a Request and a body": () => [new Request(PATH_URL(), { method: "POST" }), { body: bodyOf("hello") }],
    "a URL": () => [new URL(PATH_URL()), { method: "POST", body: bodyOf("hello") }],
    "a lower-case method": () => [PATH_URL(), { method: "post", body: bodyOf("hello") }],
    "a Blob": () => [PATH_URL(), { method: "POST", body: new Blob([bodyOf("hello")]) }],
    bytes: () => [PATH_URL(), { method: "POST", body: new TextEncoder().encode(bodyOf("hello")) }],
    "a buffer": () => [
      PATH_URL(),
      { method: "POST", body: new TextEncoder().encode(bodyOf("hello")).buffer },
    ],
  };
  for (const [name, make] of Object.entries(inputs)) {
    test(`is read when the page gives ${name}`, async () => {
      const { heard, over, reader } = listener();
      tap.expect("hello", reader);
      const response = await window.fetch(...make());
      assert.equal(await response.text(), 'a0:"Grüße"\n');
      await over;
      assert.deepEqual(heard, ["sent", 'a0:"Grüße"\n', "over"]);
      assert.deepEqual(arrived, [bodyOf("hello")]);
    });
  }

  test("is read once: the same prompt again is not the job's", async () => {
    const { heard, over, reader } = listener();
    tap.expect("hello", reader);
    await ask("hello");
    await ask("hello");
    await over;
    assert.equal(heard.filter((what) => what === "sent").length, 1);
    assert.deepEqual(strangers, ["sent", "answered"]);
  });

  test("is told from another job's by its prompt", async () => {
    const [one, two] = [listener(), listener()];
    tap.expect("hello one", one.reader);
    tap.expect("hello two", two.reader);
    await ask("hello two");
    await two.over;
    assert.deepEqual([one.heard.length, two.heard[0]], [0, "sent"]);
  });

  test("an error's text is given, and no more of it than is needed", async () => {
    for (const [prompt, status, length] of [
      ["refused", 429, 8],
      ["large", 500, 65_536],
    ]) {
      const { heard, over, reader } = listener();
      tap.expect(prompt, reader);
      const response = await ask(prompt);
      await over;
      assert.deepEqual([heard[1].status, heard[1].text.length], [status, length]);
      const whole = await response.text();
      assert.equal(whole.length, prompt === "large" ? 300_000 : 8);
    }
  });

  test("an error whose text breaks off is still one", async () => {
    const { heard, over, reader } = listener();
    tap.expect("broken", reader);
    await (await ask("broken")).text().catch(() => {});
    await over;
    assert.deepEqual([heard[1].status, heard[1].text], [503, "Service"]);
  });

  test("a page of 200 is no stream, nor is what was redirected", async () => {
    for (const [prompt, seen] of [
      ["html", false],
      ["moved", true],
    ]) {
      const { heard, over, reader } = listener();
      tap.expect(prompt, reader);
      await ask(prompt);
      await over;
      assert.deepEqual([heard[1].status, heard[1].redirected], [200, seen]);
    }
  });

  test("an empty stream is over at once", async () => {
    const { heard, over, reader } = listener();
    tap.expect("empty", reader);
    await ask("empty");
    await over;
    assert.deepEqual(heard, ["sent", "over"]);
  });

  test("a connection that breaks is heard of", async () => {
    const { heard, over, reader } = listener();
    tap.expect("cut", reader);
    await (await ask("cut")).text().catch(() => {});
    await over;
    assert.deepEqual(heard, ["sent", 'a0:"x"\n', "TypeError"]);
  });

  test("an abort by the page is heard of as one", async () => {
    const { heard, over, reader } = listener();
    tap.expect("held", reader);
    const controller = new AbortController();
    const response = await ask("held", { signal: controller.signal });
    controller.abort();
    await assert.rejects(response.text(), { name: "AbortError" });
    await over;
    assert.equal(heard.at(-1), "AbortError");
  });

  test("a request that cannot be made is heard of", async () => {
    const { heard, over, reader } = listener();
    tap.expect("hello", reader);
    window.location = new URL("http://127.0.0.1:1");
    const asked = window.fetch(`http://127.0.0.1:1${PATH}`, { method: "POST", body: bodyOf("hello") });
    await assert.rejects(asked, TypeError);
    await over;
    assert.deepEqual(heard, ["sent", "TypeError"]);
  });

  test("nothing is heard after a cancel, and the connection ends when the page has left too", async () => {
    const { heard, reader } = listener();
    const expectation = tap.expect("held", reader);
    const response = await ask("held");
    const pages = response.body.getReader();
    await pages.read();
    expectation.cancel();
    const closed = once(held[0], "close");
    await pages.cancel();
    await closed;
    assert.deepEqual(
      heard.filter((what) => what === "over" || /Error/.test(what)),
      [],
    );
  });

  test("a cancel before the answer counts as well", async () => {
    const { heard, reader } = listener();
    const expectation = tap.expect("held", reader);
    const asked = ask("held");
    expectation.cancel();
    const response = await asked;
    const closed = once(held[0], "close");
    await response.body.cancel();
    await closed;
    assert.deepEqual(heard, ["sent"]);
  });

  test("is read whether or not the page reads", async () => {
    const { heard, over, reader } = listener();
    tap.expect("hello", reader);
    await ask("hello");
    await over;
    assert.equal(heard.at(-1), "over");
  });
});

describe("everything else", () => {
  test("gets the very promise of the native fetch", () => {
    const promise = new Promise(() => {});
    const fake = { ...window, fetch: () => promise };
    const other = new Tap({ window: fake, profile, heard: () => {} });
    const calls = [
      [],
      [`${origin}/other`],
      [PATH_URL()],
      [PATH_URL(), { method: "POST", body: bodyOf("mine") }],
      [PATH_URL(), { method: "POST", body: null }],
      ["::", { method: "POST" }],
      [{ toString: () => PATH_URL() }, { method: "POST" }],
      [new Request(PATH_URL(), { method: "POST", body: "x" })],
    ];
    for (const given of calls) assert.equal(fake.fetch(...given), promise);
    other.expect("hello", listener().reader);
    for (const given of calls) assert.equal(fake.fetch(...given), promise);
  });

  test("is called with the caller's this and arguments", () => {
    const seen = [];
    const fake = {
      ...window,
      fetch(...given) {
        seen.push([this, given]);
        return new Promise(() => {});
      },
    };
    new Tap({ window: fake, profile, heard: () => {} });
    const self = {};
    const { fetch: loose } = fake;
    loose("a");
    fake.fetch.call(self, "b", { method: "POST" }, 3);
    fake.fetch.call(self, PATH, { method: "POST" });
    assert.deepEqual(seen, [
      [undefined, ["a"]],
      [self, ["b", { method: "POST" }, 3]],
      [self, [PATH, { method: "POST" }]],
    ]);
    assert.deepEqual([fake.fetch.name, fake.fetch.length], ["fetch", 1]);
  });

  test("is not read, but a person's prompt is noticed", async () => {
    const response = { clone: () => assert.fail("it was cloned") };
    let answer;
    const fake = { ...window, fetch: () => new Promise((resolve) => (answer = resolve)) };
    const said = [];
    const other = new Tap({ window: fake, profile, heard: (what) => said.push(what) });
    other.expect("hello", listener().reader);
    const asked = fake.fetch(PATH_URL(), { method: "POST", body: bodyOf("my own affair") });
    assert.deepEqual([said, other.isBusy], [["sent"], true]);
    answer(Object.assign(new Response(""), response));
    await asked;
    assert.deepEqual([said, other.isBusy], [["sent", "answered"], false]);
  });

  test("a person's prompt that fails is over as well", async () => {
    await ask("refused");
    assert.deepEqual([strangers, tap.isBusy], [["sent"], false]);
    window.location = new URL("http://127.0.0.1:1");
    const asked = window.fetch(`http://127.0.0.1:1${PATH}`, { method: "POST", body: bodyOf("x") });
    await assert.rejects(asked);
    assert.deepEqual([strangers, tap.isBusy], [["sent", "sent"], false]);
  });

  test("is not even looked into while no job waits", () => {
    const fake = { ...window, fetch: () => new Promise(() => {}) };
    new Tap({ window: fake, profile, heard: () => {} });
    const request = new Request(PATH_URL(), { method: "POST", body: bodyOf("mine") });
    const { body } = request;
    fake.fetch(request);
    // A clone would have put another stream in its place.
    assert.equal(request.body, body);
  });

  // Sooner or later a garbage collector would end it as well.
  test("lets a person's connection end, though nobody knew at first whose", { timeout: 5_000 }, async () => {
    tap.expect("hello", listener().reader);
    const request = new Request(PATH_URL(), { method: "POST", body: bodyOf("held mine") });
    const response = await window.fetch(request);
    const closed = once(held[0], "close");
    await response.body.cancel();
    await closed;
  });

  test("a Request of a person's is left as it was while a job waits", async () => {
    tap.expect("hello", listener().reader);
    const response = await window.fetch(new Request(PATH_URL(), { method: "POST", body: bodyOf("mine") }));
    assert.equal(await response.text(), "other");
    assert.deepEqual(strangers, ["sent", "answered"]);
  });

  test("a request to somebody else's site is none of ours", () => {
    const fake = { ...window, fetch: () => new Promise(() => {}) };
    const said = [];
    const other = new Tap({ window: fake, profile, heard: (what) => said.push(what) });
    const post = (url) => fake.fetch(url, { method: "POST", body: bodyOf("hello") });
    post(`https://elsewhere.example${PATH}`);
    assert.deepEqual(said, []);
    post(`https://beta.arena.ai${PATH}`);
    post(PATH);
    assert.deepEqual(said, ["sent", "sent"]);
    other.setProfile({ ...profile, requests: [] });
    post(PATH);
    assert.equal(said.length, 2);
  });

  test("trouble of ours is not the page's", async () => {
    const reader = new Proxy({}, { get: () => () => assert.fail("a reader that throws") });
    tap.expect("hello", reader);
    assert.equal(await (await ask("hello")).text(), 'a0:"Grüße"\n');
  });
});

describe("close", () => {
  test("gives the native fetch back", () => {
    assert.notEqual(window.fetch, nativeFetch);
    tap.close();
    assert.equal(window.fetch, nativeFetch);
  });

  test("leaves a wrapper alone that somebody put around ours", async () => {
    const ours = window.fetch;
    window.fetch = (...given) => ours(...given);
    const { fetch: theirs } = window;
    tap.expect("hello", listener().reader);
    tap.close();
    assert.equal(window.fetch, theirs);
    assert.equal(await (await ask("hello")).text(), 'a0:"Grüße"\n');
  });
});

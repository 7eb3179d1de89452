import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

import { WORDS, openCredentials, parseHub } from "../../userscript/src/credentials.js";
import { startHub, userscriptManager } from "./running_hub.js";

const SPIES = fileURLToPath(new URL("spies.js", import.meta.url));
const TOKEN = "lmw_0123456789";

/** Credentials, and what a person was asked. */
function open({ stored, typed = [], ...more } = {}) {
  const asked = [];
  const window = {
    prompt: (...given) => {
      asked.push(given);
      return typed.shift() ?? null;
    },
  };
  const manager = userscriptManager(stored === undefined ? {} : { hub: stored });
  const credentials = openCredentials({ window, ...manager, ...more });
  return { asked, manager, credentials };
}

const plain = (hub) => (hub === null ? null : { ...hub });

describe("an address", () => {
  for (const [text, http, ws, isLoopback] of [
    ["https://hub.example.org", "https://hub.example.org", "wss://hub.example.org", false],
    ["  HTTPS://Hub.Example.org:443/  ", "https://hub.example.org", "wss://hub.example.org", false],
    ["wss://hub.example:8443/a/b//", "https://hub.example:8443/a/b", "wss://hub.example:8443/a/b", false],
    ["http://192.168.1.5:8080", "http://192.168.1.5:8080", "ws://192.168.1.5:8080", false],
    ["ws://localhost:8080", "http://localhost:8080", "ws://localhost:8080", true],
    ["http://127.0.0.1:8080/", "http://127.0.0.1:8080", "ws://127.0.0.1:8080", true],
    ["http://[::1]:8080", "http://[::1]:8080", "ws://[::1]:8080", true],
    ["http://localhost.example", "http://localhost.example", "ws://localhost.example", false],
  ]) {
    test(text, () => assert.deepEqual(plain(parseHub(text)), { http, ws, isLoopback }));
  }

  for (const text of [
    "",
    "hub.example.org",
    "localhost:8080",
    "ftp://hub.example.org",
    "javascript:alert(1)",
    "https://",
    "https://user@hub.example.org",
    "https://user:secret@hub.example.org",
    "https://hub.example.org/?token=secret",
    "https://hub.example.org/#secret",
    "https://hub example.org",
    "__HUB__",
    undefined,
  ]) {
    test(`${text} is none`, () => assert.equal(parseHub(text), null));
  }
});

describe("what is stored", () => {
  test("is taken at the start", () => {
    const { credentials, asked } = open({ stored: `https://hub.example ${TOKEN}` });
    const hub = credentials.hub();
    assert.equal(hub.http, "https://hub.example");
    assert.equal(credentials.hasToken, true);
    assert.equal(credentials.authorization(hub), `Bearer ${TOKEN}`);
    assert.deepEqual(asked, []);
  });

  const none = [undefined, "", " ", TOKEN, "https://hub.example", "no-address token", "https://h a b", 7, {}];
  for (const stored of [...none, null]) {
    test(`${JSON.stringify(stored)} is no token`, () => {
      const { credentials } = open({ stored });
      assert.equal(credentials.hasToken, false);
      assert.equal(credentials.authorization(credentials.hub()), "");
      assert.equal(credentials.helloText({}, credentials.hub()), "");
    });
  }

  test("and changed elsewhere is used at once, and told once", () => {
    const { credentials, manager } = open({ stored: `https://hub.example ${TOKEN}` });
    let told = 0;
    credentials.listen(() => (told += 1));
    const before = credentials.hub();
    manager.GM_setValue("hub", "https://other.example another");
    manager.GM_setValue("hub", "https://other.example another");
    manager.GM_setValue("mode", "automatic");
    assert.equal(told, 1);
    assert.equal(credentials.authorization(credentials.hub()), "Bearer another");
    assert.equal(credentials.authorization(before), "", "the new token is not for the old hub");
    assert.equal(credentials.helloText({}, before), "");
    manager.GM_setValue("hub", "");
    assert.deepEqual([told, credentials.hub(), credentials.hasToken], [2, null, false]);
  });

  test("under the same address is for the new token's links alone", () => {
    const { credentials, manager } = open({ stored: `https://hub.example ${TOKEN}` });
    const before = credentials.hub();
    manager.GM_setValue("hub", "https://hub.example another");
    assert.notEqual(credentials.hub(), before);
    assert.equal(credentials.authorization(before), "");
  });
});

describe("a hello", () => {
  test("has the token among its members, as JSON", () => {
    for (const token of [TOKEN, 'a"b\\c', "</script>", "x".repeat(200)]) {
      const { credentials } = open({ stored: `https://hub.example ${token}` });
      const introduction = { worker: "w", models: [{ id: "🦊" }], region: undefined };
      const text = credentials.helloText(introduction, credentials.hub());
      assert.deepEqual(JSON.parse(text), {
        hello: { protocol: 1, token, worker: "w", models: [{ id: "🦊" }] },
      });
    }
  });
});

describe("a person", () => {
  test("is asked for both, and both are stored", () => {
    const typed = [" https://hub.example/ ", ` ${TOKEN}\n`];
    const { credentials, asked, manager } = open({ typed, suggested: "https://suggested.example" });
    let told = 0;
    credentials.listen(() => (told += 1));
    assert.equal(credentials.ask(), true);
    assert.deepEqual(asked, [[WORDS.address, "https://suggested.example"], [WORDS.token, ""]]);
    assert.equal(manager.GM_getValue("hub"), `https://hub.example ${TOKEN}`);
    assert.equal(credentials.authorization(credentials.hub()), `Bearer ${TOKEN}`);
    assert.equal(told, 1);
  });

  test("is asked again after a wrong answer, and told why", () => {
    const typed = ["hub", "https://hub.example", "two words", "x".repeat(201), "ümlaut", TOKEN];
    const { credentials, asked } = open({ typed });
    assert.equal(credentials.ask(), true);
    const wrongAddress = `${WORDS.wrongAddress}\n\n${WORDS.address}`;
    const wrongToken = `${WORDS.wrongToken}\n\n${WORDS.token}`;
    const wanted = [WORDS.address, wrongAddress, WORDS.token, wrongToken, wrongToken, wrongToken];
    assert.deepEqual(asked.map(([words]) => words), wanted);
  });

  for (const typed of [[], ["https://other.example"], ["nonsense"]]) {
    test(`who gives up after ${typed.length ? typed : "nothing"} changes nothing`, () => {
      const { credentials, asked } = open({ stored: `https://hub.example ${TOKEN}`, typed: [...typed] });
      const hub = credentials.hub();
      assert.equal(credentials.ask(), false);
      assert.equal(credentials.hub(), hub);
      assert.equal(asked[0][1], "https://hub.example");
    });
  }

  test("is not suggested an address that was not filled in", () => {
    const { credentials, asked } = open({ suggested: "__HUB__" });
    credentials.ask();
    assert.equal(asked[0][1], "");
  });

  test("reads the words that the panel has", () => {
    const { credentials, asked } = open({ typed: ["https://hub.example"] });
    credentials.ask({ address: "地址", token: "令牌", wrongAddress: "", wrongToken: "" });
    assert.deepEqual(asked.map(([words]) => words), ["地址", "令牌"]);
  });
});

test("the holder shows nothing: no member, no text, no JSON has the token", () => {
  const { credentials } = open({ stored: `https://hub.example ${TOKEN}` });
  const values = [credentials, credentials.hub()].map((object) => `${Object.values(object)}`);
  const shown = [JSON.stringify(credentials), ...values];
  assert.ok(shown.every((text) => !text.includes(TOKEN)));
  assert.equal(Object.getPrototypeOf(credentials), null);
  assert.ok(Object.isFrozen(credentials));
});

test("a page that has replaced every built-in never sees the token", async (t) => {
  const { url, key, token } = await startHub(t);
  const env = { ...process.env, SPIES: JSON.stringify({ url, key, token }) };
  const program = promisify(execFile)(process.execPath, ["--experimental-vm-modules", SPIES], { env });
  const { calls, answers, seen, caught, careless } = JSON.parse((await program).stdout);
  assert.deepEqual(answers, ["by socket", "by poll"]);
  assert.deepEqual(seen, []);
  assert.equal(caught, careless, "the spies notice every careless use");
  assert.ok(calls > 1_000, `${calls} calls were looked through`);
});

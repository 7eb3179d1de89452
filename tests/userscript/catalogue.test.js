import assert from "node:assert/strict";
import { describe, test } from "node:test";

import { readCatalogue } from "../../userscript/src/catalogue.js";
import { MAX_MODELS } from "../../userscript/src/protocol.js";

const MEMBER = "initialModels";

const entry = (publicName, more = {}) => ({
  id: `id-of-${publicName}`,
  publicName,
  organization: "Example Labs",
  provider: "example",
  capabilities: { inputCapabilities: ["text"], outputCapabilities: ["text"] },
  ...more,
});

/** Flight data around these models, as Next writes it. @param {any} models */
const flight = (models) =>
  `1:"$Sreact.fragment"\n3:{"metadata":"] } \\" ["}\n5:["$","$L2",null,{"a":{"b":[1]},` +
  `"${MEMBER}":${JSON.stringify(models)},"initialModelAId":"$undefined"}]\n6:["footer"]\n`;

const push = (chunk) => `self.__next_f.push([1,${JSON.stringify(chunk)}])`;
const BOOT = "(self.__next_f=self.__next_f||[]).push([0])";

/** The scripts of a page whose flight data is cut after so many characters each. */
function scriptsOf(text, size = text.length) {
  const scripts = [BOOT];
  for (let at = 0; at < text.length; at += size) scripts.push(push(text.slice(at, at + size)));
  return scripts;
}

const read = (models, size) => readCatalogue(scriptsOf(flight(models), size), MEMBER);
const namesOf = (found) => found.map(({ model }) => model.id);

describe("the catalogue", () => {
  test("has the public names, and the site's ids beside them", () => {
    assert.deepEqual(read([entry("orion-1"), entry("orion-2")]), [
      {
        model: {
          id: "orion-1",
          modalities: { in: ["text"], out: ["text"] },
          kinds: ["chat"],
          organization: "Example Labs",
        },
        id: "id-of-orion-1",
      },
      {
        model: {
          id: "orion-2",
          modalities: { in: ["text"], out: ["text"] },
          kinds: ["chat"],
          organization: "Example Labs",
        },
        id: "id-of-orion-2",
      },
    ]);
  });

  test("reads capabilities as lists and as objects", () => {
    const capabilities = [
      { inputCapabilities: ["text", "image"], outputCapabilities: ["image"] },
      {
        inputCapabilities: { text: true, image: { most: 3 } },
        outputCapabilities: { text: false, image: true },
      },
      { inputCapabilities: [], outputCapabilities: {} },
      {},
      null,
    ];
    const found = read(capabilities.map((value, at) => entry(`m${at}`, { capabilities: value })));
    assert.deepEqual(
      found.map(({ model }) => model.modalities),
      [
        { in: ["text", "image"], out: ["image"] },
        { in: ["text", "image"], out: ["image"] },
        { in: ["text"], out: ["text"] },
        { in: ["text"], out: ["text"] },
        { in: ["text"], out: ["text"] },
      ],
    );
  });

  test("is found however the chunks are cut", () => {
    const odd = ['say "hello"', "back\\slash", "père-noël", "模型", "parrot-🦜", "<b>bold</b> & co", "[{]}"];
    const text = flight(odd.map((name) => entry(name)));
    const escaped = text.replace(
      /[^\x20-\x7e\n]/g,
      (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`,
    );
    for (const written of [text, escaped]) {
      for (const size of [1, 2, 3, 5, 7, 64, 1_000]) {
        assert.deepEqual(namesOf(readCatalogue(scriptsOf(written, size), MEMBER)), odd, `parts of ${size}`);
      }
    }
  });

  test("is found cut in two at every place", () => {
    const text = flight([entry("parrot-🦜"), entry('a "b"')]);
    for (let at = 1; at < text.length; at += 1) {
      const scripts = [BOOT, push(text.slice(0, at)), push(text.slice(at))];
      assert.deepEqual(namesOf(readCatalogue(scripts, MEMBER)), ["parrot-🦜", 'a "b"'], `cut at ${at}`);
    }
  });

  test("is found where one script pushes several times, and among other scripts", () => {
    const text = flight([entry("orion")]);
    const together = `${push(text.slice(0, 90))};${push(text.slice(90))};self.x.push({y:1})`;
    const scripts = ["queue.push([1,2])", 'x.push([1,"no flight"])', `${BOOT};${together}`, ""];
    assert.deepEqual(namesOf(readCatalogue(scripts, MEMBER)), ["orion"]);
  });

  test("keeps the first of each name", () => {
    const found = read([entry("a", { id: "1" }), entry("b", { id: "2" }), entry("a", { id: "3" })]);
    assert.deepEqual(
      found.map(({ id }) => id),
      ["1", "2"],
    );
  });

  test("drops names that the hub would not take", () => {
    const long = "x".repeat(200);
    const wide = "🦜".repeat(200);
    const bad = [
      "",
      `${long}x`,
      `${wide}🦜`,
      "a\nb",
      "a\u200bb",
      "a\u00a0b",
      "\ud800",
      "a\u2028",
      7,
      null,
      undefined,
    ];
    const good = ["a b", long, wide, "ñ", "é"];
    assert.deepEqual(namesOf(read([...bad, ...good].map((name) => entry(name)))), good);
  });

  test("drops what is no model", () => {
    const found = read([null, 7, "x", [], {}, { publicName: "a" }, { id: 7, publicName: "a" }, entry("b")]);
    assert.deepEqual(namesOf(found), ["b"]);
  });

  test("leaves an organization out that is no name", () => {
    const found = read([entry("a", { organization: "" }), entry("b", { organization: { name: "x" } })]);
    assert.deepEqual(
      found.map(({ model }) => "organization" in model),
      [false, false],
    );
  });

  test("has a bound", () => {
    const many = Array.from({ length: MAX_MODELS + 10 }, (_, at) => entry(`m-${at}`));
    assert.equal(read(many).length, MAX_MODELS);
  });

  test("may be empty", () => {
    assert.deepEqual(read([]), []);
  });
});

describe("no catalogue", () => {
  test("when there is no flight data", () => {
    assert.equal(readCatalogue([], MEMBER), null);
    assert.equal(readCatalogue([BOOT], MEMBER), null);
  });
  test("when its member has another name", () => {
    assert.equal(readCatalogue(scriptsOf(flight([entry("a")])), "models"), null);
  });
  test("when its member is no list", () => {
    assert.equal(read({ a: 1 }), null);
    assert.equal(read("$5:props"), null);
  });
  test("when none of its entries has the members that we know", () => {
    assert.equal(read([{ id: "1", displayName: "a" }]), null);
  });
  test("when the list never ends", () => {
    const text = flight([entry("a")]);
    assert.equal(readCatalogue(scriptsOf(text.slice(0, text.indexOf("Example"))), MEMBER), null);
  });
  test("but a text that quotes the member's name is passed over", () => {
    const before = `0:"somebody wrote \\"${MEMBER}\\":[ and then"\n1:{"${MEMBER}":[oops]}\n`;
    const text = before + flight([entry("a")]);
    assert.deepEqual(namesOf(readCatalogue(scriptsOf(text), MEMBER)), ["a"]);
  });
  test("when a script is broken", () => {
    assert.equal(
      readCatalogue(['self.__next_f.push([1,"\\x"])', 'self.__next_f.push([1,"unended'], MEMBER),
      null,
    );
  });
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Script } from "node:vm";

import { bundles, DIST } from "../../userscript/build.js";

const { transformSync } = createRequire(join(DIST, "../build.js"))("esbuild");

const KIB = 1024;
/** Bytes that a bundle may have: a page parses it on every load, and a person should be able to read it. */
const BOUNDS = { "hub.user.js": 256 * KIB, "tab.js": 128 * KIB };
/** What runs text as code, fetches code, or is refused by Trusted Types. */
const FORBIDDEN = [
  /\beval\b/,
  /\bFunction\s*\(/,
  /\bimport\s*\(/,
  /\bimportScripts\b/,
  /\b(?:inner|outer)HTML\b/,
  /\binsertAdjacentHTML\b/,
  /\bdocument\s*\.\s*write/,
  /\bcreateElement\(\s*["'`](?:script|style|iframe)/,
  /\bset(?:Timeout|Interval)\(\s*["'`]/,
  /\bnew\s+(?:Shared)?Worker\b/,
];
const HEADER = [
  ["@name", "LMArena Bridge"],
  ["@namespace", "lmarena-bridge"],
  ["@version", "__VERSION__"],
  ["@license", "MIT"],
  ["@match", "__MATCH__"],
  ["@run-at", "document-start"],
  ["@early-start", ""],
  ["@inject-into", "page"],
  ["@noframes", ""],
  ["@grant", "GM_xmlhttpRequest"],
  ["@grant", "GM_getValue"],
  ["@grant", "GM_setValue"],
  ["@grant", "GM_addValueChangeListener"],
  ["@grant", "GM_registerMenuCommand"],
  ["@grant", "unsafeWindow"],
  ["@connect", "__CONNECT__"],
  ["@connect", "127.0.0.1"],
  ["@connect", "localhost"],
  ["@connect", "*"],
  ["@updateURL", "__HUB__/userscript/hub.meta.js"],
  ["@downloadURL", "__HUB__/userscript/hub.user.js"],
];

const built = await bundles();

/** @param {string} name */
const committed = (name) => readFileSync(join(DIST, name), "utf8");

/** The program alone: types in comments say `import("./file.js")`. @param {string} text */
const withoutComments = (text) => transformSync(text, { minifyWhitespace: true, legalComments: "none" }).code;

/** The metadata as [key, value] pairs. @param {string} text */
function metadata(text) {
  const lines = text.slice(0, text.indexOf("// ==/UserScript==")).split("\n");
  assert.equal(lines.shift(), "// ==UserScript==");
  assert.equal(lines.pop(), "");
  return lines.map((line) => {
    const found = line.match(/^\/\/ (@[\w:-]+)(?: +(.*))?$/);
    assert.ok(found, `no metadata: ${line}`);
    return [found[1], found[2] ?? ""];
  });
}

/** @param {string} text @param {string} part */
const count = (text, part) => text.split(part).length - 1;

for (const [name, bound] of Object.entries(BOUNDS)) {
  describe(name, () => {
    const { text, inputs } = built[name];

    test("is what its sources give (otherwise: make userscript)", () => {
      assert.ok(committed(name) === text, `dist/${name} is stale`);
    });

    test("is one strict classic script", () => {
      new Script(text);
      const code = text.slice(text.indexOf("(() => {"));
      assert.ok(code.startsWith('(() => {\n"use strict";\n'));
      assert.ok(code.endsWith("})();\n"));
    });

    test("is made of our own files alone", () => {
      const foreign = inputs.filter((path) => !/^(src|\.\.\/hub\/rules)\/[\w/.-]+$/.test(path));
      assert.deepEqual(foreign, []);
    });

    test("runs no text as code and writes no markup", () => {
      const code = withoutComments(text);
      const found = FORBIDDEN.map((pattern) => code.match(pattern)?.[0]).filter(Boolean);
      assert.deepEqual(found, []);
    });

    test("stays small enough to read", () => {
      const bytes = Buffer.byteLength(text);
      assert.ok(bytes <= bound, `${bytes} bytes, and ${bound} are allowed`);
    });

    test("names no place on the machine that built it", () => {
      assert.ok(!text.includes(join(DIST, "..")));
    });
  });
}

describe("the metadata", () => {
  const { text } = built["hub.user.js"];
  const lines = metadata(text);

  for (const [key, value] of HEADER) {
    test(`${key} ${value}`.trim(), () => {
      assert.ok(lines.some(([k, v]) => k === key && v === value));
    });
  }

  test("speaks of itself in both languages and has an icon of its own", () => {
    const only = (wanted) => lines.filter(([key]) => key === wanted).map(([, value]) => value);
    assert.match(only("@description")[0], /\.$/);
    assert.match(only("@description:zh-CN")[0], /\p{Script=Han}/u);
    assert.match(decodeURIComponent(only("@icon")[0]), /^data:image\/svg\+xml,<svg .*<\/svg>$/);
  });

  test("asks for no more than that", () => {
    const described = ["@description", "@description:zh-CN", "@icon"];
    const others = lines.filter(([key]) => !described.includes(key));
    assert.deepEqual(others, HEADER);
  });
});

describe("what the hub fills in", () => {
  const { text } = built["hub.user.js"];

  test("stands in the code once each, as a JSON string", () => {
    assert.equal(count(text, '"__HUB__"'), 1);
    assert.equal(count(text, '"__VERSION__"'), 1);
    assert.equal(count(text, "__HUB__"), 3);
    assert.equal(count(text, "__VERSION__"), 2);
    assert.equal(count(text, "__MATCH__"), 1);
    assert.equal(count(text, "__CONNECT__"), 1);
  });

  test("is nothing in the tab's bundle", () => {
    assert.doesNotMatch(built["tab.js"].text, /__(HUB|VERSION|MATCH|CONNECT)__|HUB_ADDRESS|SCRIPT_VERSION/);
  });
});

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";

import { SITUATIONS } from "../../userscript/src/situation.js";
import { TABLES, words } from "../../userscript/src/words.js";

const source = (name) => readFileSync(new URL(`../../userscript/src/${name}`, import.meta.url), "utf8");
const placesIn = (text) => [...text.matchAll(/\{(\w*)\}/g)].map(([, name]) => name).sort();
const languages = Object.entries(TABLES);

/** What the files that speak to a person name in quotes, and what they say by a situation's name. */
function keysInUse() {
  const code = ["panel.js", "panel_card.js", "main.js"].map(source).join("");
  const quoted = [...code.matchAll(/"([\w-]+)"/g)].map(([, name]) => name);
  const situations = Object.values(SITUATIONS);
  const named = situations.flatMap(({ name, actions }) => [name, `${name}_advice`, ...actions]);
  return { said: [...code.matchAll(/\bsay\("([\w-]+)"/g)].map(([, name]) => name), quoted, named };
}

describe("tables", () => {
  for (const [language, table] of languages) {
    test(`${language} has the keys of English, in its order`, () => {
      assert.deepEqual(Object.keys(table), Object.keys(TABLES.en));
    });
    test(`${language} has the places of English`, () => {
      for (const [key, text] of Object.entries(table)) {
        assert.deepEqual(placesIn(text), placesIn(TABLES.en[key]), key);
      }
    });
    test(`${language} has no text that is empty or has space around it`, () => {
      for (const [key, text] of Object.entries(table)) assert.match(text, /^\S(.*\S)?$/s, key);
    });
  }

  test("every language but English says almost everything in words of its own", () => {
    const shared = new Set(["title", "name"]);
    for (const [language, table] of languages.slice(1)) {
      const same = Object.keys(table).filter((key) => table[key] === TABLES.en[key] && !shared.has(key));
      assert.deepEqual(same, [], language);
    }
  });

  test("the panel says nothing that is not there", () => {
    const { said, named } = keysInUse();
    assert.ok(said.length > 10);
    assert.deepEqual(
      [...said, ...named].filter((key) => !(key in TABLES.en)),
      [],
    );
  });

  test("nothing is there that the panel does not say", () => {
    const { quoted, named } = keysInUse();
    const used = new Set([...quoted, ...named]);
    assert.deepEqual(
      Object.keys(TABLES.en).filter((key) => !used.has(key)),
      [],
    );
  });
});

describe("languages", () => {
  for (const language of ["zh", "zh-CN", "zh-TW", "ZH-hans-cn", "zh_CN", "zh-Hant"]) {
    test(`${language} is Chinese`, () => assert.equal(words(language)("ready"), "就绪"));
  }
  for (const language of [
    "en",
    "en-GB",
    "EN",
    "fr-FR",
    "",
    "en_US.UTF-8",
    "constructor",
    "__proto__",
    "zhx",
  ]) {
    test(`${language || "nothing"} is English`, () => assert.equal(words(language)("ready"), "Ready"));
  }
});

describe("values", () => {
  const withDay = (language, days) => {
    const date = new Date();
    date.setDate(date.getDate() + days);
    date.setHours(14, 5, 30, 0);
    return words(language)("next_at", { time: date });
  };

  test("text goes in as it is", () => {
    const model = "$& {model} \\ <b>";
    assert.equal(words("en")("sent_advice", { model }), `${model} has the question.`);
  });
  test("numbers are written as the reader's country does", () => {
    const said = (language) => words(language)("today_of", { today: 1_234_567, daily: 2_000 });
    assert.equal(said("en-US"), "1,234,567 of 2,000");
    assert.equal(said("en-IN"), "12,34,567 of 2,000");
    assert.equal(said("zh-CN"), "1,234,567 / 2,000");
    assert.equal(said("de-DE"), "1,234,567 of 2,000", "English words have English numbers");
  });
  test("times are clock times", () => {
    assert.equal(withDay("en-GB", 0), "at 14:05:30");
    assert.match(withDay("en-US", 0), /^at 2:05:30\sPM$/);
    assert.equal(withDay("zh-CN", 0), "14:05:30");
  });
  test("another day's time has its weekday", () => {
    assert.match(withDay("en-GB", 1), /^at [A-Z][a-z]{2},? 14:05:30$/);
    assert.match(withDay("zh-CN", 1), /^周. ?14:05:30$/);
  });
  test("what nobody wrote cannot be said", () => {
    for (const key of ["nonsense", "constructor", "__proto__"]) {
      assert.throws(() => words("en")(key), RangeError);
    }
  });
});

/**
 * Bundles the userscript: src/main.js becomes dist/hub.user.js, src/tab.js becomes dist/tab.js.
 *
 * The output is meant to be read, and the same sources always give the same bytes. hub.user.js starts with
 * the metadata of header.txt. When the hub serves it, it fills in:
 *
 *     // @match        __MATCH__      the whole line, once for each host of the site profile
 *     // @connect      __CONNECT__    the hub's host
 *     __VERSION__                     in the metadata, the hub's version
 *     __HUB__                         in the metadata, the hub's public address without a slash at its end
 *     "__HUB__"  "__VERSION__"        in the code, each once, quotes included: the same as a JSON string
 *
 * The code reads the last two as the constants HUB_ADDRESS and SCRIPT_VERSION, which stand in front of the
 * modules. dist/tab.js has neither metadata nor these constants.
 */

import { mkdir, readFile, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { argv } from "node:process";
import { fileURLToPath } from "node:url";

import { build } from "esbuild";

const HERE = dirname(fileURLToPath(import.meta.url));
export const DIST = join(HERE, "dist");

const CONSTANTS = `const HUB_ADDRESS = "__HUB__";
const SCRIPT_VERSION = "__VERSION__";
`;

/**
 * One bundle, and the files that it was made of (relative to this folder). A bundler's warning is an error.
 *
 * The function around it is ours and not esbuild's (`format: "iife"`), because that one has its "use strict"
 * after the banner, where it means nothing, and the constants outside, where others could see them.
 * @param {string} entry
 * @param {{header?: string, constants?: string}} [front] what stands before the function, and first in it
 * @returns {Promise<{text: string, inputs: string[]}>}
 */
async function bundle(entry, { header = "", constants = "" } = {}) {
  const { outputFiles, metafile, warnings } = await build({
    absWorkingDir: HERE,
    entryPoints: [entry],
    banner: { js: `${header}(() => {\n"use strict";\n${constants}` },
    bundle: true,
    charset: "utf8",
    footer: { js: "})();" },
    format: "esm",
    legalComments: "none",
    logLevel: "warning",
    metafile: true,
    supported: { "regexp-unicode-property-escapes": true, "top-level-await": false },
    target: ["chrome110", "firefox115"],
    write: false,
  });
  if (warnings.length > 0) throw new Error(`${entry}: the bundler warned`);
  return { text: outputFiles[0].text, inputs: Object.keys(metafile.inputs).sort() };
}

/**
 * All that dist/ holds, by name.
 * @param {string} [sources] the folder of main.js and tab.js
 */
export async function bundles(sources = join(HERE, "src")) {
  const header = await readFile(join(HERE, "header.txt"), "utf8");
  return {
    "hub.user.js": await bundle(join(sources, "main.js"), { header: `${header}\n`, constants: CONSTANTS }),
    "tab.js": await bundle(join(sources, "tab.js")),
  };
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  await mkdir(DIST, { recursive: true });
  for (const [name, { text }] of Object.entries(await bundles())) {
    await writeFile(join(DIST, name), text);
  }
}

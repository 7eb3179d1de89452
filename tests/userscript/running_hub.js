/**
 * A real hub in a process of its own, what callers ask of it, and the wire to it. For tests of the
 * userscript's links; Python is `$LMARENA_PYTHON`, or the one in `.venv`.
 */

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { rmSync } from "node:fs";
import { cp, mkdtemp, rm } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const PYTHON = process.env.LMARENA_PYTHON ?? join(ROOT, ".venv/bin/python");
const PATIENCE_MS = 30_000;

/** Our environment without settings of a hub. */
const ENVIRONMENT = Object.fromEntries(
  Object.entries(process.env).filter(([name]) => !/^(HUB|LMARENA|TIKTOKEN)_/.test(name)),
);

// --- waiting ----------------------------------------------------------------------------------------------

/** The promise's result, or an error that says what was waited for. */
export async function within(promise, what, ms = PATIENCE_MS) {
  const given = new AbortController();
  const late = sleep(ms, undefined, { signal: given.signal }).then(() => assert.fail(`in vain: ${what}`));
  try {
    return await Promise.race([promise, late]);
  } finally {
    late.catch(() => {});
    given.abort();
  }
}

/** Wait for something of which no event tells; what it was. */
export async function eventually(isTrue, what = isTrue.toString(), ms = PATIENCE_MS) {
  const until = Date.now() + ms;
  for (;;) {
    const found = isTrue();
    if (found) return found;
    assert.ok(Date.now() < until, `in vain: ${what}`);
    await sleep(5);
  }
}

// --- processes --------------------------------------------------------------------------------------------

const running = new Set();

/** No hub outlives the tests, however they end. */
function killAll() {
  for (const child of running) child.kill("SIGKILL");
}
process.on("exit", killAll);
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

const options = (directory, environment) => ({
  cwd: directory,
  env: { ...ENVIRONMENT, PYTHONPATH: ROOT, HUB_PORT: "0", HUB_LOG_FORMAT: "json", ...environment },
});

/** One command of `lmarena-hub`; what it printed. */
async function command(directory, ...words) {
  const ran = promisify(execFile)(PYTHON, ["-m", "hub", ...words], options(directory, {}));
  return (await within(ran, `hub ${words.join(" ")}`)).stdout.trim();
}

/** Settings as the environment has them: `{workers: {grace_s: 1}}` is HUB_WORKERS_GRACE_S=1. */
function environment(settings, path = "HUB") {
  return Object.entries(settings).reduce((all, [name, value]) => {
    const key = `${path}_${name.toUpperCase()}`;
    return { ...all, ...(typeof value === "object" ? environment(value, key) : { [key]: `${value}` }) };
  }, {});
}

/** A data directory with a key and a token, made once for all hubs of a test file. */
let prepared = null;
async function prepare() {
  const directory = await mkdtemp(join(tmpdir(), "hub-"));
  process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
  const key = await command(directory, "key", "create", "--name", "from a test");
  const token = await command(directory, "worker-token", "create", "--name", "from a test");
  return { directory, key, token };
}

/** A hub that listens. */
export class RunningHub {
  #child = null;
  #news = [];
  lines = [];

  constructor(directory, key, token, settings) {
    Object.assign(this, { directory, key, token, settings });
  }

  /** Start it, again on the port that it had; or after a while on another, if somebody took it. */
  async start() {
    const port = this.url ? new URL(this.url).port : "0";
    const given = { ...environment(this.settings), HUB_PORT: port };
    const child = spawn(PYTHON, ["-m", "hub", "serve"], {
      ...options(this.directory, given),
      stdio: ["ignore", "ignore", "pipe"],
    });
    running.add(child);
    this.#child = child;
    child.once("exit", () => running.delete(child));
    createInterface(child.stderr).on("line", (line) => this.#hear(line));
    this.lines = [];
    const ready = await this.said("hub is ready");
    this.url = JSON.parse(ready).address;
    return this;
  }

  #hear(line) {
    this.lines.push(line);
    for (const look of [...this.#news]) look(line);
  }

  /** The first log line with these words, once it comes. */
  said(...words) {
    const fits = (line) => words.every((word) => line.includes(word));
    const line = this.lines.find(fits);
    if (line !== undefined) return Promise.resolve(line);
    const heard = new Promise((resolve) => {
      const look = (line) => {
        if (!fits(line)) return;
        this.#news.splice(this.#news.indexOf(look), 1);
        resolve(line);
      };
      this.#news.push(look);
    });
    return within(heard, `the hub says ${words}`).catch((error) => {
      throw new Error(`${error.message}; it said:\n${this.lines.join("\n")}`);
    });
  }

  /** End it with a signal, and wait until it has. */
  async end(signal = "SIGTERM") {
    const child = this.#child;
    if (child === null || child.exitCode !== null || child.signalCode !== null) return;
    const gone = once(child, "exit");
    child.kill(signal);
    await within(gone, "the hub ends");
  }

  /** Send it a signal. */
  signal(signal) {
    this.#child.kill(signal);
  }

  /** A new worker token. */
  newToken() {
    return command(this.directory, "worker-token", "create", "--name", "another");
  }

  /** Revoke every worker token. */
  async revokeTokens() {
    const tokens = JSON.parse(await command(this.directory, "worker-token", "list", "--json"));
    for (const { id } of tokens) await command(this.directory, "worker-token", "revoke", id);
  }

  /** Ask for a chat completion. */
  ask(body) {
    return new Caller(this).ask(body);
  }
}

/**
 * A hub for a test, or for a whole file; it ends with it.
 * @param {{after: (act: () => any) => void}} test
 * @param {object} [settings] as in `hub.toml`
 */
export async function startHub(test, settings = {}) {
  prepared ??= prepare();
  const { directory: source, key, token } = await prepared;
  const directory = await mkdtemp(join(tmpdir(), "hub-"));
  await cp(source, directory, { recursive: true });
  const hub = new RunningHub(directory, key, token, { deadlines: { drain_s: 0.2 }, ...settings });
  test.after(async () => {
    await hub.end("SIGKILL");
    await rm(directory, { recursive: true, force: true });
  });
  return hub.start();
}

// --- callers ----------------------------------------------------------------------------------------------

/** Somebody who asks for one chat completion, and what is seen of it so far. */
export class Caller {
  #hub;
  #controller = new AbortController();
  #asking;
  seen = { text: "" };

  constructor(hub) {
    this.#hub = hub;
  }

  /** `content` is the question; the rest is the body's. */
  ask({ content = "hi", ...body }) {
    const messages = [{ role: "user", content }];
    this.#asking = this.#ask({ ...body, messages }).catch((error) => {
      if (!this.#controller.signal.aborted) throw error;
    });
    this.#asking.catch(() => {});
    return this;
  }

  async leave() {
    this.#controller.abort();
    await this.#asking;
  }

  reads(text) {
    return eventually(() => this.seen.text === text, `the caller reads ${text.slice(0, 50)}`);
  }

  /** All that is seen, once it is over. */
  async outcome() {
    await within(this.#asking, "an outcome");
    return this.seen;
  }

  async #ask(body) {
    const response = await fetch(`${this.#hub.url}/v1/chat/completions`, {
      method: "POST",
      headers: { Authorization: `Bearer ${this.#hub.key}`, "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: this.#controller.signal,
    });
    const retryAfter = response.headers.get("retry-after");
    this.seen.status = response.status;
    if (retryAfter !== null) this.seen.retry_after = Number(retryAfter);
    if (response.headers.get("content-type").startsWith("text/event-stream")) await this.#stream(response);
    else this.#whole(await response.json());
  }

  #whole({ error, choices }) {
    if (error) {
      this.seen.code = error.code;
      return;
    }
    this.seen.text = choices[0].message.content;
    this.seen.finish_reason = choices[0].finish_reason;
  }

  async #stream(response) {
    let rest = "";
    for await (const chunk of response.body.pipeThrough(new TextDecoderStream())) {
      const lines = (rest + chunk).split("\n");
      rest = lines.pop();
      for (const line of lines) if (line.startsWith("data: ")) this.#event(line.slice(6).trim());
    }
  }

  #event(data) {
    assert.ok(!this.seen.done, "nothing comes after [DONE]");
    if (data === "[DONE]") {
      this.seen.done = true;
      return;
    }
    const { error, choices = [] } = JSON.parse(data);
    if (error) this.seen.event = error.code;
    for (const { delta, finish_reason } of choices) {
      this.seen.text += delta.content ?? "";
      if (finish_reason !== null) this.seen.finish_reason = finish_reason;
    }
  }
}

// --- the wire ---------------------------------------------------------------------------------------------

/** A TCP proxy in front of a hub that can be cut, and can fall silent without a word. */
export class Cable {
  #server;
  #pairs = new Set();
  #dead = new Set();
  /** How many connections there were. */
  connections = 0;
  /** Whether it lets anybody in. */
  isOpen = true;

  constructor(hub) {
    const { hostname, port } = new URL(hub.url);
    this.#server = createServer((near) => {
      this.connections += 1;
      if (!this.isOpen) {
        near.destroy();
        return;
      }
      const far = connect(Number(port), hostname);
      const pair = [near, far];
      this.#pairs.add(pair);
      for (const [from, to] of [pair, [far, near]]) {
        from.on("data", (data) => this.#dead.has(pair) || to.write(data));
        from.on("error", () => {});
        from.on("close", () => {
          this.#pairs.delete(pair);
          to.destroy();
        });
      }
    });
  }

  async open(test) {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    this.url = `http://127.0.0.1:${this.#server.address().port}`;
    test.after(() => {
      this.cut();
      this.#server.close();
    });
    return this;
  }

  /** Break what is connected now. */
  cut() {
    for (const pair of [...this.#pairs]) for (const socket of pair) socket.destroy();
  }

  /** What is sent over what is connected now is lost, and nobody is told. */
  fallSilent() {
    for (const pair of this.#pairs) this.#dead.add(pair);
  }
}

/** @param {RunningHub} hub */
export const cable = (test, hub) => new Cable(hub).open(test);

// --- the userscript manager -------------------------------------------------------------------------------

/**
 * The storage and the requests of a userscript manager: requests leave without Origin and cookies, know a
 * timeout, and can be aborted up to the server. It notes each request's details.
 */
export function userscriptManager(stored = {}) {
  const values = new Map(Object.entries(stored));
  const listeners = [];
  const requests = [];

  const GM_xmlhttpRequest = (details) => {
    requests.push(details);
    const controller = new AbortController();
    let isLate = false;
    const late = setTimeout(() => {
      isLate = true;
      controller.abort();
    }, details.timeout);
    const { method, headers, data: body } = details;
    fetch(details.url, { method, headers: { ...headers }, body, signal: controller.signal })
      .then(async (response) => {
        const lines = [...response.headers].map(([name, value]) => `${name}: ${value}`);
        const responseHeaders = lines.join("\r\n");
        const responseText = await response.text();
        return { status: response.status, responseText, responseHeaders };
      })
      .then(
        (answer) => details.onload(answer),
        () => {
          if (isLate) details.ontimeout();
          else if (controller.signal.aborted) details.onabort();
          else details.onerror();
        },
      )
      .finally(() => clearTimeout(late));
    return { abort: () => controller.abort() };
  };
  const GM_setValue = (name, value) => {
    const before = values.get(name);
    values.set(name, value);
    for (const heard of listeners) heard(name, before, value, false);
  };
  return {
    requests,
    GM_xmlhttpRequest,
    GM_setValue,
    GM_getValue: (name, otherwise) => values.get(name) ?? otherwise,
    GM_addValueChangeListener: (name, heard) =>
      listeners.push((changed, ...more) => changed === name && heard(changed, ...more)),
  };
}

/**
 * The golden traces of tests/frames/traces, with the userscript's session and links in the workers' place and
 * a real hub in the middle. See tests/hub/test_traces.py for what a step means.
 *
 * A page speaks through the session, so what a session never says cannot be played: broken packets, a mute
 * worker, other numbers of slots. `unplayable` says why a trace is left to the hub's own tests.
 */

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";

import { startHub, within } from "./running_hub.js";
import { newLinks, newSession } from "./linked_tab.js";

const TRACES = new URL("../frames/traces/", import.meta.url);
const OTHER = { socket: "poll", poll: "socket" };
const LAST_WORDS_MS = 500;

// --- the traces -------------------------------------------------------------------------------------------

function readTraces(file) {
  const traces = [];
  for (const line of readFileSync(new URL(file, TRACES), "utf8").split("\n")) {
    if (line === "") continue;
    const step = JSON.parse(line);
    if ("why" in step) traces.push({ ...step, file: file.replace(".jsonl", ""), steps: [] });
    else traces.at(-1).steps.push(step);
  }
  return traces;
}

/** Why a worker that is made of our modules cannot be in this trace; null if it can. */
function unplayable({ steps }) {
  const hasStarted = steps.some(({ send }) => send?.some(({ t }) => t === "started"));
  for (const { send, raw, mute, hello, resume, bye, of } of steps) {
    if (raw !== undefined) return "a session sends no broken packets";
    if (mute) return "a session answers pings";
    if (send?.some((frame) => typeof frame === "string")) return "a session writes its own frames";
    if (send?.some(({ slots }) => slots !== undefined)) return "a tab's slots do not change";
    if (hello?.slots === 0 || hello?.slots < 0) return "a tab has slots";
    if (hello?.protocol) return "a session speaks its own version";
    if (resume?.received !== undefined || resume?.session || of) return "a session tells the truth";
    if (bye && hasStarted) return "a session that leaves fails what it has started";
  }
  return null;
}

const all = readdirSync(TRACES).sort().flatMap(readTraces);
const playable = all.filter((trace) => unplayable(trace) === null);

// --- a worker ---------------------------------------------------------------------------------------------

/** One tab in a trace: a session, the link that carries it, and the one before. */
class Actor {
  welcomed = null;
  older = null;
  jobs = [];
  heard = [];

  constructor(stage, name, id) {
    Object.assign(this, { stage, name, id, by: stage.door, token: stage.hub.token });
  }

  /** A new session over a new link. */
  async hello({ models = ["m"], slots = 1, state, token }) {
    if (token !== undefined) this.token = token;
    this.card = { models: models.map((model) => this.stage.renamed(model)), slots, state };
    return this.reload();
  }

  async reload() {
    Object.assign(this, newSession({ worker: this.id, ...this.card }));
    return this.connect();
  }

  /** Carry the session over a new link; how that began. */
  async connect() {
    this.older = this.link ?? null;
    const link = newLinks({ url: this.stage.hub.url, token: this.token })[this.by];
    this.link = link;
    const welcome = new Promise((resolve) => {
      this.end = link.carry(this.session, () => resolve(this.session.welcomes.at(-1)));
      link.end = this.end;
    });
    return within(Promise.race([welcome, this.end]), `${this.name} is welcomed`, 10_000);
  }

  /** Lose the link; what was said before still arrives. */
  async cut() {
    const { link, session } = this;
    if (!link) return;
    const until = Date.now() + LAST_WORDS_MS;
    while (session.unacked > 0 && Date.now() < until && this.by === "poll") await sleep(5);
    await new Promise(setImmediate);
    link.drop("cut");
    this.link = null;
    this.older = link;
    await this.end;
  }

  /** What the page says, or the tab itself. */
  say(frame) {
    const { session } = this;
    const job = this.named(frame.job) ?? this.jobs.at(-1);
    if (frame.t === "status") session.setState(frame.state, frame);
    else if (frame.t === "models") session.offer(frame.models.map((model) => this.stage.renamed(model)));
    else if (frame.t === "refuse") session.refuse(job, frame.reason);
    else if (frame.t === "bye") session.leave(frame.reason ?? "");
    else session.say({ ...frame, job });
  }

  /** `"$2"` stands for the second job that this tab got. */
  named(job) {
    return job?.startsWith("$") ? this.jobs[Number(job.slice(1)) - 1] : job;
  }

  async expect(wanted) {
    const frame = await this.inbox.next(`${this.name} expects ${JSON.stringify(wanted)}`);
    if (frame.t === "job") this.jobs.push(frame.job);
    this.heard.push(frame);
    const named = { ...wanted };
    if (wanted.job) named.job = this.named(wanted.job);
    if (wanted.model) named.model = this.stage.renamed(wanted.model);
    assert.deepEqual({ ...frame, ...named }, frame);
  }

  unheard(members) {
    const found = this.inbox.all.filter((frame) => Object.entries(members).every(([k, v]) => frame[k] === v));
    // What was expected before is in a trace's past only where it says so.
    assert.deepEqual(found, []);
  }

  async closed(code, link) {
    const end = await within(link.end, `${this.name} is closed with ${code}`, 10_000);
    // After its own goodbye a link does not wait for the hub's.
    if (end.cause !== "left") assert.equal(end.code, code);
  }
}

// --- a play -----------------------------------------------------------------------------------------------

class Stage {
  actors = new Map();
  callers = new Map();

  /** @param {number} number makes names that no other trace has used on this hub */
  constructor(hub, door, number) {
    Object.assign(this, { hub, door, number });
  }

  renamed(model) {
    if (typeof model === "string") return `${model}-${this.number}`;
    return { ...model, id: this.renamed(model.id) };
  }

  async play(step) {
    if (step.caller) await this.playCaller(step);
    else await this.playWorker(step);
  }

  async playCaller({ caller: name, ask, reads, leave, expect }) {
    if (ask) this.callers.set(name, this.hub.ask({ ...ask, model: this.renamed(ask.model) }));
    else if (reads !== undefined) await this.callers.get(name).reads(reads);
    else if (leave) await this.callers.get(name).leave();
    else check(await this.callers.get(name).outcome(), expect);
  }

  async playWorker(step) {
    const actor = this.actor(step);
    if (step.hello) await this.hello(actor, step);
    else if (step.reload) {
      await actor.cut();
      assert.equal((await actor.reload()).resumed, false);
    } else if (step.resume) await this.resume(actor, step);
    else if (step.send) step.send.forEach((frame) => actor.say(frame));
    else if (step.expect) await actor.expect(step.expect);
    else if (step.unheard) actor.unheard(step.unheard);
    else if (step.beat) await beat(actor, step.beat);
    else if (step.bye) actor.session.leave(step.bye);
    else if (step.cut) await actor.cut();
    else if (step.closed) await actor.closed(step.closed, step.older ? actor.older : actor.link);
    else assert.fail(`no such step: ${JSON.stringify(step)}`);
  }

  actor({ worker, id = worker }) {
    if (!this.actors.has(worker)) this.actors.set(worker, new Actor(this, worker, `${id}-${this.number}`));
    return this.actors.get(worker);
  }

  async hello(actor, { hello, refused }) {
    const begun = await actor.hello(hello);
    if (refused) assert.equal(begun.code, refused);
    else assert.equal(begun.resumed, false);
  }

  async resume(actor, { by, resumed = true, token }) {
    if (by === "other") actor.by = OTHER[actor.by];
    if (token === "another") actor.token = await this.hub.newToken();
    assert.equal((await actor.connect()).resumed, resumed);
  }

  async end() {
    for (const caller of this.callers.values()) await caller.leave();
    for (const actor of this.actors.values()) {
      for (const link of [actor.link, actor.older]) link?.drop("the trace is over");
    }
  }
}

async function beat(actor, [times, pause_s]) {
  for (let i = 0; i < times; i += 1) {
    actor.say({ t: "piece" });
    await sleep(pause_s * 1000);
  }
}

/** Compare an outcome; a complete answer has no error, and a broken one no finish_reason. */
function check(seen, { retry_after, ...wanted }) {
  if (retry_after === "some") assert.ok(seen.retry_after >= 1);
  else if (retry_after !== undefined) assert.equal(seen.retry_after, retry_after);
  assert.deepEqual({ ...seen, ...wanted }, seen);
  const isBroken = "code" in seen || "event" in seen;
  assert.equal("finish_reason" in seen, !isBroken, JSON.stringify(seen));
  assert.equal("event" in seen, "event" in wanted, JSON.stringify(seen));
}

// --- the plays --------------------------------------------------------------------------------------------

const bySettings = new Map();
for (const trace of playable) {
  const key = JSON.stringify(trace.settings ?? {});
  bySettings.set(key, [...(bySettings.get(key) ?? []), trace]);
}

let number = 0;
for (const [settings, traces] of bySettings) {
  // Where a hub's times are short, its traces are played one by one.
  const concurrency = settings === "{}" ? 8 : 1;
  describe(`a hub with ${settings}`, { concurrency }, () => {
    const ends = [];
    let hub;
    before(async () => {
      hub = await startHub({ after: (act) => ends.push(act) }, JSON.parse(settings));
    });
    after(() => Promise.all(ends.map((end) => end())));
    for (const trace of traces) {
      for (const door of Object.keys(OTHER).filter((door) => (trace.only ?? door) === door)) {
        test(`${trace.file}: ${trace.why} (${door})`, async () => {
          number += 1;
          const stage = new Stage(hub, door, number);
          try {
            for (const step of trace.steps) {
              await stage.play(step).catch((error) => {
                error.message += `\nin ${JSON.stringify(step)}`;
                throw error;
              });
            }
          } finally {
            await stage.end();
          }
        });
      }
    }
  });
}

test("most traces can be played", () => {
  const reasons = all.map(unplayable).filter((reason) => reason !== null);
  assert.ok(playable.length >= 100, `${playable.length} of ${all.length}: ${reasons.join("; ")}`);
});

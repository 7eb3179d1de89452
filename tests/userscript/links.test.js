/** Both links and the dial against a real hub: the same life by socket and by polling. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { once } from "node:events";
import { after, before, describe, test } from "node:test";

import { closedByAnswer, retryAfter } from "../../userscript/src/link.js";
import { Session } from "../../userscript/src/session.js";
import { SocketLink } from "../../userscript/src/socket_link.js";
import {
  CLOCK,
  QUICK_DIAL,
  QUICK_POLL,
  QUICK_SOCKET,
  connected,
  credentialsOf,
  newLinks,
  newSession,
  openTab,
} from "./linked_tab.js";
import { cable, eventually, startHub, userscriptManager, within } from "./running_hub.js";

const BOTH = ["socket", "poll"];
const OTHER = { socket: "poll", poll: "socket" };

/** A test by each link. */
function byBoth(name, act) {
  for (const by of BOTH) test(`${name} (${by})`, (t) => act(t, by));
}

/** The hub of all tests that neither end nor change it. */
let shared;
const ends = [];
before(async () => {
  shared = await startHub({ after: (act) => ends.push(act) });
});
after(() => Promise.all(ends.map((end) => end())));

let scenes = 0;

/**
 * A hub, a wire to it, and a tab over that; nobody else offers the tab's model.
 * @param {"socket" | "poll" | "both"} by
 * @param {{settings?: object}} [options] settings for a hub of its own; others are the tab's
 */
async function scene(t, by, { settings, ...more } = {}) {
  const hub = settings ? await startHub(t, settings) : shared;
  scenes += 1;
  const model = `m${scenes}`;
  const wire = await cable(t, hub);
  const card = { worker: `tab-${scenes}`, models: [model], ...more };
  const tab = openTab(t, { url: wire.url, token: hub.token, by, ...card });
  return { hub, wire, tab, model, card, ask: (body) => hub.ask({ model, stream: true, ...body }) };
}

/** A scene whose tab is connected. */
async function connectedScene(t, by, options) {
  const stage = await scene(t, by, options);
  await connected(stage.tab, by);
  return stage;
}

/** A question that has reached the page. */
async function asked({ ask, tab }, body) {
  const caller = ask(body);
  const { job } = await tab.inbox.nextJob();
  const say = (message) => tab.session.say({ job, ...message });
  say({ t: "started" });
  return { caller, job, say };
}

const done = ({ seen }, text) =>
  assert.deepEqual(seen, { status: 200, text, finish_reason: "stop", done: true });

/** A job can still be answered. */
async function answers(stage, text = "still here") {
  const { caller, say } = await asked(stage);
  say({ t: "piece", text });
  say({ t: "end" });
  await caller.outcome();
  done(caller, text);
}

describe("an answer", () => {
  byBoth("reaches its caller", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller, job, say } = await asked(stage, { content: "why?" });
    const [taken] = stage.tab.inbox.all;
    assert.deepEqual([taken.kind, taken.model, job], ["chat", stage.model, taken.job]);
    assert.deepEqual(taken.body.messages, [{ role: "user", content: "why?" }]);
    say({ t: "piece", text: "because " });
    await caller.reads("because ");
    say({ t: "piece", text: "🦊".slice(0, 1) });
    say({ t: "piece", text: "🦊".slice(1) });
    say({ t: "end", finish_reason: "stop" });
    await caller.outcome();
    done(caller, "because 🦊");
    assert.equal(stage.tab.session.tally.done, 1);
    assert.ok(stage.tab.profiles[0].selectors, "the welcome brings the site profile");
  });

  byBoth("of many pieces survives a link that is cut again and again", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller, say } = await asked(stage);
    const words = Array.from({ length: 1_500 }, (_, n) => `word${n} `);
    for (let at = 0; at < words.length; at += 150) {
      for (const text of words.slice(at, at + 75)) say({ t: "piece", text });
      await eventually(() => caller.seen.text.length > words.slice(0, at).join("").length);
      stage.wire.cut();
      for (const text of words.slice(at + 75, at + 150)) say({ t: "piece", text });
    }
    say({ t: "end" });
    await caller.outcome();
    done(caller, words.join(""));
    assert.ok(stage.wire.connections > 9);
    assert.deepEqual(stage.tab.session.welcomes.map(({ resumed }) => resumed).filter((is) => !is), [false]);
  });

  test("moves from one link to the other and back, and nothing is lost or doubled", async () => {
    const links = newLinks(shared);
    const tab = newSession({ worker: "mover", models: ["moving"] });
    const ask = (body) => shared.ask({ model: "moving", stream: true, ...body });
    let by = "socket";
    let carrying = null;
    const carry = (link) =>
      new Promise((resolve) => {
        carrying = links[link].carry(tab.session, resolve);
      });
    await carry(by);
    const { caller, say } = await asked({ ask, tab });
    const words = Array.from({ length: 800 }, (_, n) => `word${n} `);
    for (let at = 0; at < words.length; at += 100) {
      for (const text of words.slice(at, at + 50)) say({ t: "piece", text });
      // What is on its way may be lost, or may arrive and be said again.
      if (at % 200 === 0) await eventually(() => caller.seen.text.length > 0);
      links[by].drop("to the other link");
      assert.equal((await carrying).cause, "dropped");
      for (const text of words.slice(at + 50, at + 100)) say({ t: "piece", text });
      by = OTHER[by];
      await carry(by);
    }
    say({ t: "end" });
    await caller.outcome();
    links[by].drop("done");
    done(caller, words.join(""));
    assert.deepEqual(tab.session.welcomes.map(({ resumed }) => resumed), [false, ...Array(8).fill(true)]);
  });

  byBoth("may be long and in one piece", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller, say } = await asked(stage);
    const text = "\u0001🦊é".repeat(100_000);
    say({ t: "piece", text });
    say({ t: "end" });
    await caller.outcome();
    done(caller, text);
  });

  byBoth("is stopped when its caller leaves, and the next job comes", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller, job } = await asked(stage);
    await caller.leave();
    const cancel = await stage.tab.inbox.next();
    assert.deepEqual([cancel.t, cancel.job], ["cancel", job]);
    await answers(stage);
  });
});

describe("what a tab says of itself", () => {
  byBoth("reaches the hub: models, state and notices", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { hub, tab, model } = stage;
    tab.session.say({ t: "notice", code: "site_changed", message: `line code z on ${model}` });
    await hub.said(`line code z on ${model}`);
    tab.session.setState("attention", { reason: `a check on ${model}` });
    await hub.said("attention", `a check on ${model}`);
    tab.session.setState("ready");
    await answers(stage);
    tab.session.say({ t: "models", models: [{ id: `${model}-new` }] });
    await eventually(() => tab.session.unacked === 0);
    await answers({ ...stage, ask: (body) => stage.ask({ ...body, model: `${model}-new` }) });
  });

  byBoth("never makes the hub close, however strange", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { tab } = stage;
    const long = "x".repeat(9_000);
    const odd = [undefined, null, 0, -1, NaN, 1e300, "", "\ud800", long, [], {}, { a: "\udfff" }];
    for (const value of odd) {
      const { caller, say } = await asked(stage);
      tab.session.say({ t: "notice", code: value, message: value });
      tab.session.say({ t: "notice", code: "site_changed", message: value });
      tab.session.setState("cooling", { reason: value ?? undefined, until: value });
      tab.session.setState("ready");
      say({ t: "waiting", for: value });
      say({ t: "piece", text: value, delta: value });
      say({ t: "piece", delta: { reasoning_content: value } });
      say({ t: "fail", code: value, message: value, retry_after_s: value, ran: value });
      await caller.outcome();
      const next = await asked(stage);
      next.say({ t: "end", finish_reason: value, usage: value, truncated: value });
      await next.caller.outcome();
    }
    await answers(stage);
    assert.equal(tab.session.welcomes.length, 1);
  });

  test("by polling: the token in the header alone, no cookies, time for a held answer", async (t) => {
    const { tab } = await connectedScene(t, "poll");
    await eventually(() => tab.manager.requests.length > 1);
    for (const { headers, data, anonymous, timeout, url } of tab.manager.requests) {
      assert.equal(headers.Authorization, `Bearer ${shared.token}`);
      assert.equal(anonymous, true);
      assert.ok(!data.includes(shared.token) && !url.includes(shared.token));
      assert.equal(timeout, url.endsWith("/hello") ? QUICK_POLL.hello_s * 1000 : (25 + 10) * 1000);
    }
  });
});

describe("a link that is dead without a word", () => {
  byBoth("is found out by a nudge, and what was said is said again", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller, say } = await asked(stage);
    say({ t: "piece", text: "before " });
    await caller.reads("before ");
    stage.wire.fallSilent();
    say({ t: "piece", text: "meanwhile " });
    stage.tab.dial.nudge();
    await caller.reads("before meanwhile ");
    assert.equal(stage.tab.session.welcomes.at(-1).resumed, true);
    assert.equal(stage.tab.session.welcomes.length, 2);
    say({ t: "end" });
    await caller.outcome();
    done(caller, "before meanwhile ");
  });

  byBoth("that lives passes a nudge", async (t, by) => {
    const timers = new Map();
    const clock = {
      now: CLOCK.now,
      setTimeout(act, ms) {
        const timer = CLOCK.setTimeout(act, ms);
        timers.set(timer, ms);
        return timer;
      },
      clearTimeout(timer) {
        timers.delete(timer);
        CLOCK.clearTimeout(timer);
      },
    };
    const { tab } = await connectedScene(t, by, { clock });
    const watched = () => [...timers.values()].includes(QUICK_SOCKET.proof_s * 1000);
    tab.dial.nudge();
    assert.ok(watched(), "it must prove itself");
    await eventually(() => !watched(), "it proves itself");
    assert.equal(tab.session.unacked, 0);
    assert.equal(tab.session.welcomes.length, 1);
  });

  test("is given up after twice the hub's heartbeat", async (t) => {
    const settings = { workers: { heartbeat_s: 0.2 } };
    const pace = { ...QUICK_SOCKET, silence_margin_s: 0.2 };
    const { hub, tab } = await connectedScene(t, "socket", { settings, pace });
    hub.signal("SIGSTOP");
    await eventually(() => tab.states.some(({ reason }) => reason === "the hub fell silent"));
    hub.signal("SIGCONT");
    await connected(tab, "socket");
  });

  test("stays when the hub pings and it answers", async (t) => {
    const settings = { workers: { heartbeat_s: 0.1 } };
    const { hub, tab } = await connectedScene(t, "socket", { settings });
    await eventually(() => tab.session.introduction().resume.received > 5, "five pings");
    assert.equal(tab.session.welcomes.length, 1);
  });

  test("to a hub that does not answer at all is given up while it opens", async (t) => {
    const hub = await startHub(t);
    hub.signal("SIGSTOP");
    const pace = { ...QUICK_SOCKET, open_s: 0.1, welcome_s: 0.1 };
    const { socket } = newLinks({ ...hub, pace });
    const end = await within(socket.carry(newSession().session), "an end");
    assert.deepEqual([end.cause, end.welcomed], ["timeout", false]);
  });
});

describe("a hub that ends", () => {
  byBoth("by force: the tab finds the next one, and jobs of the old one are dropped", async (t, by) => {
    const stage = await connectedScene(t, by, { settings: {} });
    const { job } = await asked(stage);
    await stage.hub.end("SIGKILL");
    await eventually(() => stage.tab.states.some(({ again_at }) => again_at !== null));
    await stage.hub.start();
    const reason = "the hub began a new session";
    assert.deepEqual(await stage.tab.inbox.next(), { t: "cancel", job, reason });
    await connected(stage.tab, by);
    assert.equal(stage.tab.session.welcomes.at(-1).resumed, false);
    await answers(stage);
  });

  byBoth("orderly: what is in hand is finished, no more is taken, and the tab comes back", async (t, by) => {
    const stage = await connectedScene(t, by, { settings: { deadlines: { drain_s: 20 } } });
    const { caller, say } = await asked(stage);
    say({ t: "piece", text: "slowly" });
    await caller.reads("slowly");
    stage.hub.signal("SIGTERM");
    await eventually(() => stage.tab.session.state === "draining");
    say({ t: "end" });
    await caller.outcome();
    done(caller, "slowly");
    await eventually(() => !stage.tab.session.connected);
    await stage.hub.end();
    await stage.hub.start();
    await connected(stage.tab, by);
    assert.equal(stage.tab.session.state, "ready");
    await answers(stage);
  });
});

describe("final ends", () => {
  byBoth("a revoked token", async (t, by) => {
    const stage = await connectedScene(t, by, { settings: {} });
    const { job } = await asked(stage);
    await stage.hub.revokeTokens();
    await eventually(() => stage.tab.dial.state.ended !== null);
    const { ended, wanted, connected: is, again_at } = stage.tab.dial.state;
    assert.deepEqual([ended, wanted, is, again_at], ["unauthorized", false, false, null]);
    assert.equal((await stage.tab.inbox.next()).job, job);
    assert.equal(stage.tab.session.busy, 0);
  });

  byBoth("a token that the hub does not know", async (t, by) => {
    const tab = openTab(t, { url: shared.url, token: "wt-unknown", by });
    await eventually(() => tab.dial.state.ended === "unauthorized");
    assert.equal(tab.session.welcomes.length, 0);
  });

  byBoth("another tab under the same id", async (t, by) => {
    const stage = await connectedScene(t, by);
    const twin = openTab(t, { url: stage.wire.url, token: stage.hub.token, by, ...stage.card });
    await connected(twin, by);
    await eventually(() => stage.tab.dial.state.ended === "replaced");
    await answers({ ...stage, tab: twin });
    assert.equal(twin.session.welcomes.length, 1);
  });

  byBoth("a hello that the hub does not take", async (t, by) => {
    const { tab } = await scene(t, by, { slots: -1 });
    await eventually(() => tab.dial.state.ended === "bad_hello");
  });

  byBoth("after a final end, a person can try again", async (t, by) => {
    const stage = await connectedScene(t, by);
    const twin = openTab(t, { url: stage.wire.url, token: stage.hub.token, by, ...stage.card });
    await eventually(() => stage.tab.dial.state.ended === "replaced");
    stage.tab.dial.again();
    await eventually(() => twin.dial.state.ended === "replaced");
    await answers(stage);
  });

  byBoth("a goodbye", async (t, by) => {
    const stage = await connectedScene(t, by);
    const { caller } = await asked(stage);
    await stage.tab.dial.stop("the tab was closed");
    await stage.hub.said("worker left", stage.card.worker, "the tab was closed");
    assert.equal((await caller.outcome()).event ?? caller.seen.code, "upstream_error");
    assert.deepEqual([stage.tab.dial.state.wanted, stage.tab.dial.state.ended], [false, null]);
    stage.tab.dial.start();
    await connected(stage.tab, by);
    await answers(stage);
  });
});

describe("breaches of the protocol", () => {
  /** A session that says one packet which no session would say. */
  class Stumbling extends Session {
    isGood = true;

    packet(options) {
      if (this.isGood) return super.packet(options);
      this.isGood = true;
      return `{${options?.extra ?? ""}"n":99,"ack":0,"frames":[{"t":"pong"}]}`;
    }
  }

  byBoth("ours: the tab stays away for a while, whatever nudges it, and begins anew", async (t, by) => {
    const stage = await connectedScene(t, by, { Kind: Stumbling });
    const { tab } = stage;
    const { job } = await asked(stage);
    await eventually(() => tab.session.unacked === 0, "the hub knows that it was started");
    tab.session.isGood = false;
    tab.session.knock();
    await eventually(() => tab.dial.state.again_at !== null);
    const began = Date.now();
    tab.dial.nudge();
    assert.ok(tab.dial.state.again_at - began > QUICK_DIAL.protocol_error_s * 900);
    assert.equal((await tab.inbox.next()).job, job);
    await connected(tab, by);
    assert.ok(Date.now() - began > QUICK_DIAL.protocol_error_s * 900);
    await answers(stage);
  });

  /** A WebSocket that a test speaks through. */
  class Driven extends EventTarget {
    static made = [];
    sent = [];
    closed = [];

    constructor() {
      super();
      Driven.made.push(this);
    }

    get readyState() {
      return 1;
    }

    send(text) {
      this.sent.push(text);
    }

    close(...code) {
      this.closed.push(code);
    }

    say(data) {
      this.dispatchEvent(new MessageEvent("message", { data }));
    }
  }

  const welcome = JSON.stringify({
    welcome: {
      session: "s",
      connection: "c",
      resumed: false,
      received: 0,
      heartbeat_s: 20,
      grace_s: 30,
      max_bytes: 100_000,
      exchange: { wait_s: 25, next_s: 0 },
    },
  });
  const packet = (n, ...frames) => JSON.stringify({ n, ack: 0, frames });

  for (const [why, ...messages] of [
    ["no welcome", "{}"],
    ["no packet", welcome, "[]"],
    ["no text", welcome, new ArrayBuffer(3)],
    ["a gap", welcome, packet(7, { t: "ping" })],
  ]) {
    test(`theirs: ${why} is answered with 4004, and the session is over`, async () => {
      const window = { WebSocket: Driven, MessageEvent, CloseEvent };
      const credentials = credentialsOf(userscriptManager({ hub: "https://hub.example token" }));
      const link = new SocketLink({ window, credentials, clock: CLOCK, pace: QUICK_SOCKET });
      const { session } = newSession();
      const ending = link.carry(session);
      const socket = Driven.made.at(-1);
      socket.dispatchEvent(new Event("open"));
      await eventually(() => socket.sent.length === 1);
      for (const message of messages) socket.say(message);
      const end = await within(ending, "an end");
      assert.deepEqual([end.cause, end.code, end.welcomed], ["closed", 4004, messages.length > 1]);
      assert.deepEqual(socket.closed, [[4004]]);
      assert.equal(session.introduction().resume, undefined);
      socket.say(packet(1, { t: "job", job: "late", kind: "chat", model: "m", body: {}, deadline_s: 1 }));
      assert.equal(session.busy, 0);
    });
  }

  test("a ping is answered in the handler of its message", async () => {
    const window = { WebSocket: Driven, MessageEvent, CloseEvent };
    const credentials = credentialsOf(userscriptManager({ hub: "https://hub.example token" }));
    const link = new SocketLink({ window, credentials, clock: CLOCK, pace: QUICK_SOCKET });
    link.carry(newSession().session);
    const socket = Driven.made.at(-1);
    socket.dispatchEvent(new Event("open"));
    await eventually(() => socket.sent.length === 1);
    socket.say(welcome);
    socket.say(packet(1, { t: "ping" }));
    assert.equal(socket.sent.at(-1), '{"n":1,"ack":1,"frames":[{"t":"pong"}]}');
    link.drop("done");
  });
});

describe("what a door says by polling", () => {
  /** A server that answers every POST in the same way. */
  async function door(t, status, text, headers = {}) {
    const hits = [];
    const server = createServer((request, response) => {
      hits.push(request.url);
      response.writeHead(status, headers).end(text);
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    t.after(() => server.close());
    return { url: `http://127.0.0.1:${server.address().port}`, hits };
  }

  const rows = readFileSync(new URL("../frames/closes.jsonl", import.meta.url), "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line))
    .filter(({ http }) => http);
  for (const { code, http } of rows) {
    test(`${http} with close ${code}`, async (t) => {
      const error = JSON.stringify({ error: { message: "because", close: code } });
      const { url } = await door(t, http, error);
      const { poll } = newLinks({ url, token: "t" });
      const end = await poll.carry(newSession().session);
      assert.deepEqual([end.cause, end.code, end.reason], ["closed", code, "because"]);
    });
  }

  const unnamed = { 400: 4004, 401: 4501, 403: 4505, 409: 4503, 410: 4005, 413: 1009 };
  for (const [status, code] of Object.entries(unnamed)) {
    test(`${status} from somebody who names no code`, () => {
      assert.equal(closedByAnswer({ status, text: "<html>", headers: "" }).code, code);
    });
  }

  for (const status of [301, 404, 429, 500, 502, 503]) {
    test(`${status} from somebody else is a passing failure`, () => {
      assert.equal(closedByAnswer({ status, text: '{"error":{"close":"no"}}', headers: "" }), null);
    });
  }

  test("503 with Retry-After: the tab comes back then, and a nudge does not hurry it", async (t) => {
    const { url, hits } = await door(t, 503, "busy", { "Retry-After": "30" });
    const tab = openTab(t, { url, token: "t", by: "poll" });
    await eventually(() => tab.dial.state.again_at !== null);
    assert.ok(tab.dial.state.again_at - Date.now() > 29_000);
    tab.dial.nudge();
    assert.match(tab.dial.state.reason, /HTTP 503/);
    assert.equal(hits.length, 1);
  });

  test("Retry-After is a bounded number of seconds", () => {
    const headers = (value) => `content-type: text/html\r\nRetry-After: ${value}\r\nserver: x`;
    assert.deepEqual(["5", "0.5", "99999", "-1", "Wed, 21 Oct", ""].map(headers).map(retryAfter), [
      5, 0.5, 600, 0, 0, 0,
    ]);
  });

  test("a manager that forgets a request is not waited for", async () => {
    const manager = { ...userscriptManager({ hub: "https://hub.example t" }), GM_xmlhttpRequest() {} };
    const pace = { ...QUICK_POLL, hello_s: 0.02, grace_s: 0.02 };
    const { poll } = newLinks({ manager, pace });
    const end = await within(poll.carry(newSession().session), "an end");
    assert.equal(end.cause, "unreachable");
  });
});

describe("while exchanges are not held", () => {
  test("the hub says when to come, and jobs in hand are not kept waiting", async (t) => {
    const settings = { workers: { wait_s: 0 } };
    const stage = await connectedScene(t, "poll", { settings });
    await answers(stage);
    const before = stage.tab.manager.requests.length;
    const { caller, say } = await asked(stage);
    for (let n = 0; n < 500; n += 1) say({ t: "piece", text: "x" });
    say({ t: "end" });
    await caller.outcome();
    done(caller, "x".repeat(500));
    assert.ok(stage.tab.manager.requests.length - before < 20);
  });
});

describe("what the page said before the link was there", () => {
  byBoth("is in the hello", async (t, by) => {
    const stage = await connectedScene(t, by, { state: "attention" });
    const asking = asked(stage);
    stage.tab.session.setState("ready");
    const { caller, say } = await asking;
    say({ t: "end" });
    assert.equal((await caller.outcome()).status, 200);
  });
});

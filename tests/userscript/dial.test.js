/** Which link, when again, and what is remembered: against a real hub, and doors that do not open. */

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";

import { Dial } from "../../userscript/src/dial.js";
import { CLOCK, QUICK_DIAL, connected, newLinks, newSession, openTab } from "./linked_tab.js";
import { eventually, startHub, userscriptManager } from "./running_hub.js";

let hub;
const ends = [];
before(async () => {
  hub = await startHub({ after: (act) => ends.push(act) });
});
after(() => Promise.all(ends.map((end) => end())));

let tabs = 0;

/** A tab of its own name, on a window whose sockets are of this class. */
function open(t, WebSocket, more = {}) {
  tabs += 1;
  const window = { WebSocket, MessageEvent, CloseEvent };
  return openTab(t, { url: hub.url, token: hub.token, worker: `tab-${tabs}`, window, ...more });
}

// --- sockets as browsers have them ------------------------------------------------------------------------

/** Counts its kind. */
const counted = (Kind) =>
  class extends Kind {
    static made = 0;

    constructor(...given) {
      super(...given);
      new.target.made += 1;
    }
  };

/** What the page's policy forbids: closed at once, `error` alone, and never `close`. */
const forbidden = () =>
  counted(
    class extends EventTarget {
      constructor() {
        super();
        queueMicrotask(() => this.dispatchEvent(new Event("error")));
      }

      get readyState() {
        return 3;
      }

      send() {}

      close() {}
    },
  );

/** What an https page may not open. */
const mixed = () =>
  class extends WebSocket {
    static made = 0;

    constructor() {
      new.target.made += 1;
      throw new DOMException("An insecure WebSocket connection may not be initiated", "SecurityError");
    }
  };

/** What a proxy does not let through, until it does. */
const refused = () =>
  class extends WebSocket {
    static made = 0;
    static isRefused = true;

    constructor(url, protocol) {
      super(new.target.isRefused ? url.replace("/worker/socket", "/nothing/here") : url, protocol);
      new.target.made += 1;
    }
  };

/** What a person is asked about, who does not answer. */
const asking = () =>
  class extends EventTarget {
    static made = 0;

    constructor() {
      super();
      new.target.made += 1;
    }

    get readyState() {
      return 0;
    }

    send() {}

    close() {}
  };

/** What is stored, as the userscript manager keeps it. */
const memory = () => {
  const { GM_getValue, GM_setValue } = userscriptManager();
  return { get: (name) => GM_getValue(name), set: GM_setValue };
};

/** A clock that can be moved, by hours and days. */
function movable() {
  let ahead = 0;
  return { ...CLOCK, now: () => Date.now() + ahead, move: (seconds) => (ahead += seconds * 1000) };
}

const HOUR = 3_600;
const DAY = 24 * HOUR;

// --- the tests --------------------------------------------------------------------------------------------

describe("a hub somewhere else", () => {
  test("is reached by the socket", async (t) => {
    const Sockets = counted(WebSocket);
    const tab = open(t, Sockets);
    await connected(tab, "socket");
    assert.deepEqual([Sockets.made, tab.manager.requests.length], [1, 0]);
  });

  for (const [why, kind] of [["a page that forbids it", forbidden], ["an https page and a ws hub", mixed]]) {
    test(`${why}: polled at once, and not tried again for a day`, async (t) => {
      const Sockets = kind();
      const kept = memory();
      const dial = { memory: kept };
      const clock = movable();
      const first = open(t, Sockets, { dial, clock });
      await connected(first, "poll");
      assert.equal(Sockets.made, 1);
      const until = kept.get(`socket_again_at ${hub.url}`);
      clock.move(HOUR);
      first.poll.drop("so that it connects anew");
      await eventually(() => first.session.welcomes.length === 2);
      assert.equal(kept.get(`socket_again_at ${hub.url}`), until, "the day began with the first");
      clock.move(-HOUR);
      await connected(open(t, Sockets, { dial, clock }), "poll");
      clock.move(DAY - 60);
      await connected(open(t, Sockets, { dial, clock }), "poll");
      assert.equal(Sockets.made, 1);
      clock.move(120);
      await connected(open(t, Sockets, { dial, clock }), "poll");
      assert.equal(Sockets.made, 2);
    });
  }

  test("a socket that does not open twice: polled, and remembered for a while", async (t) => {
    const Sockets = refused();
    const kept = memory();
    const dial = { memory: kept };
    const clock = movable();
    await connected(open(t, Sockets, { dial, clock }), "poll");
    assert.ok(Sockets.made >= 2);
    await eventually(() => kept.get(`socket_again_at ${hub.url}`) > Date.now(), "it is remembered");
    assert.equal(Sockets.made, 3, "and tried once more, now that the hub is known to be there");
    await connected(open(t, Sockets, { dial, clock }), "poll");
    assert.equal(Sockets.made, 3);
    clock.move(HOUR);
    Sockets.isRefused = false;
    await connected(open(t, Sockets, { dial, clock }), "socket");
  });

  test("where nothing can be remembered, a page that forbids the socket is still polled", async (t) => {
    const Sockets = forbidden();
    const tab = open(t, Sockets, { dial: { memory: { get: () => undefined, set: () => {} } } });
    await connected(tab, "poll");
    tab.session.knock();
    await eventually(() => tab.session.unacked === 0);
    assert.deepEqual([Sockets.made, tab.session.welcomes.length], [1, 1]);
  });

  test("what is remembered is of one hub alone, and nonsense is nothing", async (t) => {
    const Sockets = counted(WebSocket);
    for (const value of ["never", null, -5, NaN, {}, Date.now() + 2 * DAY * 1000]) {
      const kept = memory();
      kept.set("socket_again_at https://another.example", Date.now() + 1e9);
      kept.set(`socket_again_at ${hub.url}`, value);
      await connected(open(t, Sockets, { dial: { memory: kept } }), "socket");
    }
  });

  test("while polling, the socket is tried again when its time has come", async (t) => {
    const Sockets = refused();
    const pace = { ...QUICK_DIAL, refused_s: 0.1 };
    const tab = open(t, Sockets, { dial: { pace } });
    await connected(tab, "poll");
    await eventually(() => Sockets.made > 4, "it is tried again and again");
    assert.equal(tab.session.welcomes.length, 1, "the polling goes on meanwhile");
    Sockets.isRefused = false;
    await connected(tab, "socket");
    assert.deepEqual(tab.session.welcomes.map(({ resumed }) => resumed), [false, true]);
  });

  test("while polling, a person can have the socket tried at once", async (t) => {
    const Sockets = refused();
    const kept = memory();
    const tab = open(t, Sockets, { dial: { memory: kept } });
    await connected(tab, "poll");
    await eventually(() => kept.get(`socket_again_at ${hub.url}`), "it is remembered");
    Sockets.isRefused = false;
    tab.dial.again();
    await connected(tab, "socket");
    assert.equal(tab.session.welcomes.at(-1).resumed, true);
  });

  test("that is down for a while is no reason to stay with polling", async (t) => {
    const own = await startHub(t);
    await own.end("SIGKILL");
    const kept = memory();
    const tab = openTab(t, { url: own.url, token: own.token, dial: { memory: kept } });
    const tried = (link) => tab.states.some((state) => state.link === link && state.reason);
    await eventually(() => tried("socket") && tried("poll"), "both links are tried");
    await own.start();
    await connected(tab, "socket");
    assert.equal(kept.get(`socket_again_at ${own.url}`), undefined);
  });

  test("a page that forbids the socket, where polling is impossible, is not hammered", async (t) => {
    const Sockets = forbidden();
    const tab = open(t, Sockets, { by: "socket" });
    await eventually(() => tab.states.filter(({ again_at }) => again_at !== null).length > 3);
    assert.ok(Sockets.made <= 6, `${Sockets.made} sockets`);
    assert.match(tab.dial.state.reason, /policy/);
  });

  test("needs a link", () => {
    const { session } = newSession();
    assert.throws(() => new Dial({ session, socket: null, poll: null, clock: CLOCK }), TypeError);
  });
});

describe("a hub on this computer", () => {
  const permissions = (state) => ({
    query: async ({ name }) => {
      assert.equal(name, "loopback-network");
      return { state };
    },
  });
  const here = (t, Sockets, dial = {}) => open(t, Sockets, { isLoopback: true, dial });

  for (const [why, dial] of [
    ["the browser would ask", { permissions: permissions("prompt") }],
    ["it was denied", { permissions: permissions("denied") }],
    ["the browser knows no such permission", { permissions: { query: async () => assert.fail("unknown") } }],
    ["there are no permissions", {}],
  ]) {
    test(`is polled when ${why}`, async (t) => {
      const Sockets = counted(WebSocket);
      const tab = here(t, Sockets, dial);
      await connected(tab, "poll");
      assert.equal(Sockets.made, 0);
      assert.equal(tab.dial.state.canSpeedUp, true);
      tab.dial.nudge();
      await eventually(() => tab.session.unacked === 0);
      assert.equal(Sockets.made, 0);
    });
  }

  test("is reached by the socket when that was granted", async (t) => {
    const Sockets = counted(WebSocket);
    const tab = here(t, Sockets, { permissions: permissions("granted") });
    await connected(tab, "socket");
    assert.equal(tab.dial.state.canSpeedUp, false);
    assert.equal(tab.manager.requests.length, 0);
  });

  test("moves to the socket when the person asks for it", async (t) => {
    const tab = here(t, counted(WebSocket), { permissions: permissions("prompt") });
    await connected(tab, "poll");
    tab.dial.preferSocket();
    await connected(tab, "socket");
    assert.equal(tab.session.welcomes.at(-1).resumed, true);
  });

  test("stays polled while the person thinks, and when they say no", async (t) => {
    const Sockets = asking();
    const pace = { ...QUICK_DIAL, asked_s: 0.1 };
    const tab = here(t, Sockets, { permissions: permissions("prompt"), pace });
    await connected(tab, "poll");
    tab.dial.preferSocket();
    tab.dial.preferSocket();
    assert.equal(Sockets.made, 1, "who clicks twice is asked once");
    const before = tab.states.length;
    await eventually(() => tab.states.length > before, "it gives up");
    assert.equal(tab.dial.state.link, "poll");
    assert.equal(tab.session.welcomes.length, 1);
    tab.dial.again();
    assert.equal(Sockets.made, 1, "trying again does not ask the person again");
  });
});

describe("address and token", () => {
  test("that are not there yet are waited for", async (t) => {
    const manager = userscriptManager();
    const tab = openTab(t, { manager, by: "poll", worker: "late" });
    tab.credentials.listen(() => tab.dial.restart());
    tab.dial.nudge();
    assert.deepEqual([tab.dial.state.link, tab.dial.state.again_at], [null, null]);
    manager.GM_setValue("hub", `${hub.url} ${hub.token}`);
    await connected(tab, "poll");
  });

  test("that change take effect at once, also after a final end", async (t) => {
    for (const by of ["socket", "poll"]) {
      const manager = userscriptManager({ hub: `${hub.url} wt-unknown` });
      const tab = openTab(t, { manager, by, worker: `changed-${by}` });
      tab.credentials.listen(() => tab.dial.restart());
      await eventually(() => tab.dial.state.ended === "unauthorized");
      manager.GM_setValue("hub", `${hub.url} ${hub.token}`);
      await connected(tab, by);
      assert.equal(tab.dial.state.ended, null);
      const other = await startHub(t);
      manager.GM_setValue("hub", `${other.url} ${other.token}`);
      await eventually(() => tab.session.welcomes.length === 2);
      assert.equal(tab.session.welcomes[1].resumed, false);
      await other.said("worker joined", `changed-${by}`);
    }
  });

  test("that change while a link opens do not reach the wrong hub", async (t) => {
    const links = newLinks({ url: hub.url, token: hub.token });
    const { session } = newSession({ worker: "hasty" });
    assert.equal(await links.socket.open(), null);
    links.manager.GM_setValue("hub", "https://another.example wt-of-another");
    const end = await links.socket.carry(session);
    assert.equal(end.cause, "dropped");
    assert.equal(session.welcomes.length, 0);
  });
});

describe("coming back", () => {
  /** A tab whose hub is away. */
  const away = (t, pace = {}) =>
    openTab(t, { url: "http://127.0.0.1:9", token: "t", dial: { pace: { ...QUICK_DIAL, ...pace } } });
  const waiting = (tab) => eventually(() => tab.dial.state.again_at !== null, "it waits");

  test("pauses grow, with jitter, up to a bound", async (t) => {
    const tab = away(t, { first_s: 0.01, longest_s: 0.08 });
    const waits = () => tab.states.filter(({ again_at }) => again_at !== null);
    await eventually(() => waits().length > 15);
    const pauses = waits().map(({ at, again_at }) => again_at - at);
    assert.ok(pauses[0] <= 10 && pauses[1] <= 20, `short at first: ${pauses}`);
    assert.ok(pauses.every((pause) => pause <= 80), `bounded: ${pauses}`);
    assert.ok(pauses.some((pause) => pause > 20), `growing: ${pauses}`);
    assert.ok(waits().every(({ reason, connected: is }) => reason && !is));
  });

  test("pauses stay short while the hub may wait for the rest of an answer", async (t) => {
    const tab = away(t, { first_s: 10_000, longest_s: 10_000, held_s: 0.02 });
    tab.session.knock();
    tab.dial.nudge();
    const waits = () => tab.states.filter(({ again_at }) => again_at !== null);
    await eventually(() => waits().length > 5, "it tries again and again");
    const pauses = waits().slice(1).map(({ at, again_at }) => again_at - at);
    assert.ok(pauses.every((pause) => pause <= 20), `${pauses}`);
  });

  test("a nudge ends the wait", async (t) => {
    const tab = away(t, { first_s: 10_000, longest_s: 10_000 });
    await waiting(tab);
    const { length } = tab.states;
    tab.dial.nudge();
    await eventually(() => tab.states.slice(length).some(({ link }) => link !== null), "it tries again");
  });

  test("so does a person", async (t) => {
    const tab = away(t, { first_s: 10_000, longest_s: 10_000 });
    await waiting(tab);
    const { length } = tab.states;
    tab.dial.again();
    await eventually(() => tab.states.slice(length).some(({ link }) => link !== null), "it tries again");
  });

  test("stopping while the hub is away takes no time, and starting again connects", async (t) => {
    const tab = away(t, { first_s: 10_000, longest_s: 10_000 });
    await waiting(tab);
    await tab.dial.stop();
    assert.deepEqual([tab.dial.state.wanted, tab.dial.state.link], [false, null]);
    tab.manager.GM_setValue("hub", `${hub.url} ${hub.token}`);
    tab.dial.start();
    await connected(tab, "socket");
  });

  test("stopping before it is known which link it will be opens none", async (t) => {
    let answer;
    const permissions = { query: () => new Promise((resolve) => (answer = resolve)) };
    const Sockets = counted(WebSocket);
    const tab = open(t, Sockets, { isLoopback: true, dial: { permissions } });
    await eventually(() => answer);
    const stopped = tab.dial.stop();
    answer({ state: "granted" });
    await stopped;
    assert.deepEqual([Sockets.made, tab.manager.requests.length], [0, 0]);
  });

  test("stopping while a socket opens takes no time either", async (t) => {
    const tab = open(t, asking());
    await eventually(() => tab.dial.state.link === "socket");
    await tab.dial.stop();
    assert.equal(tab.dial.state.link, null);
  });
});

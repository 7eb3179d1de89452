/** A tab without a page: the userscript's links side as main.js assembles it, and a test in its page. */

import { clockOf } from "../../userscript/src/clock.js";
import { openCredentials } from "../../userscript/src/credentials.js";
import { DIAL_PACE, Dial } from "../../userscript/src/dial.js";
import { POLL_PACE, PollLink, byUserscriptManager } from "../../userscript/src/poll_link.js";
import { Session } from "../../userscript/src/session.js";
import { SOCKET_PACE, SocketLink } from "../../userscript/src/socket_link.js";
import { eventually, userscriptManager, within } from "./running_hub.js";

export const CLOCK = clockOf(globalThis);

/** Short times, so that tests are. */
export const QUICK_DIAL = {
  ...DIAL_PACE,
  first_s: 0.02,
  longest_s: 0.1,
  steady_s: 0.5,
  restart_s: 0.05,
  protocol_error_s: 0.3,
};
export const QUICK_SOCKET = { ...SOCKET_PACE, open_s: 2, welcome_s: 2, proof_s: 3 };
export const QUICK_POLL = {
  ...POLL_PACE,
  hello_s: 3,
  batch_s: 0.02,
  retry_first_s: 0.02,
  retry_longest_s: 0.1,
  patience_s: 2,
  proof_s: 3,
};

/** What the hub asked of the page, in order, to be waited for. */
class Inbox {
  #frames = [];
  #waiting = [];
  /** All that ever came. */
  all = [];

  put(frame) {
    this.all.push(frame);
    const waiting = this.#waiting.shift();
    if (waiting) waiting(frame);
    else this.#frames.push(frame);
  }

  next(what = "a job or a cancel") {
    if (this.#frames.length > 0) return Promise.resolve(this.#frames.shift());
    return within(new Promise((resolve) => this.#waiting.push(resolve)), what, 10_000);
  }

  /** The next job; what came before it is left out. */
  async nextJob() {
    for (;;) {
      const frame = await this.next("a job");
      if (frame.t === "job") return frame;
    }
  }
}

/** A session that remembers its welcomes. */
const watched = (Kind) =>
  class extends Kind {
    welcomes = [];

    welcomed(welcome, wake) {
      super.welcomed(welcome, wake);
      this.welcomes.push(welcome);
    }
  };

/** A new session, with the page's place in the test's hands. */
export function newSession({
  worker = "tab-1",
  slots = 1,
  models = ["m"],
  state,
  clock = CLOCK,
  Kind = Session,
} = {}) {
  const inbox = new Inbox();
  const profiles = [];
  const session = new (watched(Kind))({
    card: { worker, name: worker, version: "test", slots },
    take: (job) => inbox.put({ t: "job", ...job }),
    cancel: (job, reason) => inbox.put({ t: "cancel", job, reason }),
    clock,
    onProfile: (profile) => profiles.push(profile),
  });
  session.offer(models.map((model) => (typeof model === "string" ? { id: model } : model)));
  if (state) session.setState(state);
  return { session, inbox, profiles };
}

/** The address and the token, as they are stored. */
export const credentialsOf = (manager, window = globalThis) => openCredentials({ window, ...manager });

/** Both links to one hub. `pace` is of either link, `manager` one that has an address and a token already. */
export function newLinks({ url, token, window = globalThis, clock = CLOCK, pace, manager }) {
  manager ??= userscriptManager({ hub: `${url} ${token}` });
  const credentials = credentialsOf(manager);
  const request = byUserscriptManager(manager.GM_xmlhttpRequest);
  return {
    manager,
    credentials,
    socket: new SocketLink({ window, credentials, clock, pace: pace ?? QUICK_SOCKET }),
    poll: new PollLink({ credentials, request, clock, pace: pace ?? QUICK_POLL }),
  };
}

/**
 * A whole tab; it leaves with the test. `by` is "socket", "poll" or "both"; `dial` are more options of a
 * Dial. The hub seems to be somewhere else, unless `isLoopback`.
 */
export function openTab(test, { by = "both", isLoopback = false, dial: options = {}, ...more }) {
  const links = newLinks(more);
  const { session, inbox, profiles } = newSession(more);
  const states = [];
  const dial = new Dial({
    session,
    socket: by === "poll" ? null : links.socket,
    poll: by === "socket" ? null : links.poll,
    credentials: isLoopback ? links.credentials : elsewhere(links.credentials),
    clock: more.clock ?? CLOCK,
    pace: QUICK_DIAL,
    onChange: () => states.push({ ...dial.state, at: Date.now() }),
    ...options,
  });
  test.after(() => within(dial.stop("the test is over"), "the tab leaves"));
  dial.start();
  return { ...links, session, inbox, profiles, dial, states };
}

/** The same credentials, of a hub that does not seem to be on this computer. */
function elsewhere(credentials) {
  const seen = new Map();
  const far = (hub) => {
    if (hub === null) return null;
    if (!seen.has(hub)) seen.set(hub, { ...hub, isLoopback: false });
    return seen.get(hub);
  };
  return {
    hub: () => far(credentials.hub()),
    get hasToken() {
      return credentials.hasToken;
    },
  };
}

/** The tab is connected by this link. */
export const connected = (tab, link) =>
  eventually(() => tab.session.connected && tab.dial.state.link === link, `connected by ${link}`);

/**
 * The userscript's assembly: this tab, its owner's wishes, its hub, and what its owner sees of it.
 *
 * The page is opened first and at once, before any script of its own; everything else may take its time.
 */

import shipped from "../../hub/rules/site_profile.json";
import { clockOf } from "./clock.js";
import { openCredentials } from "./credentials.js";
import { Dial } from "./dial.js";
import { claimWorkerId } from "./identity.js";
import { openPage } from "./page.js";
import { openPanel } from "./panel.js";
import { PollLink, byUserscriptManager } from "./poll_link.js";
import { SocketLink } from "./socket_link.js";
import { newerVersion } from "./updates.js";
import { TabWorker } from "./worker.js";
import { words } from "./words.js";

/* global GM_addValueChangeListener, GM_getValue, GM_registerMenuCommand, GM_setValue, GM_xmlhttpRequest */
/* global HUB_ADDRESS, SCRIPT_VERSION, unsafeWindow */

const site = unsafeWindow;
const { document, location, navigator, sessionStorage } = site;
const { parse, stringify } = JSON;
const { assign } = location;
const open = site.open;
const { apply } = Reflect;

const isLate = document.readyState !== "loading";
const PACE = "lmarena-bridge.pace";
const NAVIGATED = "lmarena-bridge.navigated";
/** A page that says nothing of itself for so long is connected nevertheless. */
const MUTE_PAGE_MS = 15_000;
const LOOK_FOR_UPDATES_MS = 6 * 3_600_000;

// --- what the tab's owner wants, in the userscript manager's storage ----------------------------------------

/** One value that all of this browser's tabs share. @template T @param {string} name @param {T} otherwise */
function wish(name, otherwise) {
  let value = GM_getValue(name, otherwise);
  GM_addValueChangeListener(name, (_name, _before, now) => {
    value = now ?? otherwise;
    wishesChanged();
  });
  return {
    get: () => value,
    /** @param {T} wanted */
    set(wanted) {
      value = wanted;
      GM_setValue(name, wanted);
      wishesChanged();
    },
  };
}

const mode = wish("mode", "assist");
const isPaused = wish("paused", false);
const isFolded = wish("folded", true);
const corner = wish("corner", null);

function wishesChanged() {
  if (worker === null) return;
  if (worker.isPaused !== isPaused.get()) worker.pause(isPaused.get() === true);
  show();
}

// --- what this tab keeps, from one document to the next -----------------------------------------------------

/** @param {string} name */
function kept(name) {
  try {
    return parse(sessionStorage.getItem(name));
  } catch {
    return null;
  }
}

/** @param {string} name @param {any} value */
function keep(name, value) {
  try {
    sessionStorage.setItem(name, stringify(value));
  } catch {
    // Without storage it is kept as long as the document.
  }
}

// --- the page, at once --------------------------------------------------------------------------------------

const stored = GM_getValue("profile", null);
let profile = stored?.selectors ? stored : shipped;
/** What the page said before there was a worker to hear it. */
const early = [];
/** @type {TabWorker | null} */
let worker = null;
let hasSpoken = false;

const page = openPage({ window: site, profile, say: heard });

/** @param {{t: string}} message */
function heard(message) {
  if (worker === null) early.push(message);
  else worker.heard(message);
  if (message.t === "site" && !hasSpoken) {
    hasSpoken = true;
    connect();
  }
}

// --- the hub --------------------------------------------------------------------------------------------------

const clock = clockOf(site);
const credentials = openCredentials({
  window: site,
  GM_getValue,
  GM_setValue,
  GM_addValueChangeListener,
  suggested: HUB_ADDRESS,
});
const request = byUserscriptManager(GM_xmlhttpRequest);
const socket = new SocketLink({ window: site, credentials, clock });
const poll = new PollLink({ credentials, request, clock });
/** @type {Dial | null} */
let dial = null;
let newer = null;
let lookedForUpdates = 0;

async function begin() {
  const { locks, permissions } = navigator;
  const { worker: id } = await claimWorkerId({ sessionStorage, locks, clock });
  worker = new TabWorker({
    card: { worker: id, name: `tab ${id.slice(0, 4)}`, version: SCRIPT_VERSION },
    page,
    profile,
    clock,
    mode: mode.get,
    kept: {
      pace: () => kept(PACE),
      keepPace: (state) => keep(PACE, state),
      navigatedFor: () => kept(NAVIGATED),
      keepNavigatedFor: (job) => keep(NAVIGATED, job),
    },
    navigate: (url) => apply(assign, location, [url]),
    onProfile: (given) => {
      profile = given;
      GM_setValue("profile", given);
    },
    onChange: show,
  });
  dial = new Dial({
    session: worker.session,
    socket,
    poll,
    credentials,
    clock,
    permissions,
    memory: { get: (name) => GM_getValue(name), set: (name, value) => GM_setValue(name, value) },
    onChange: () => {
      show();
      lookForUpdates();
    },
  });
  credentials.listen(() => dial.restart());
  worker.pause(isPaused.get() === true);
  for (const message of early.splice(0)) worker.heard(message);
  if (hasSpoken) dial.start();
  else clock.setTimeout(connect, MUTE_PAGE_MS);
}

/** Not before the page has said how it is: a job for a page that still loads would only be refused. */
function connect() {
  if (dial !== null && !dial.state.wanted && dial.state.ended === null) dial.start();
}

async function lookForUpdates() {
  const hub = credentials.hub();
  if (!dial.state.connected || hub === null || clock.now() < lookedForUpdates + LOOK_FOR_UPDATES_MS) return;
  lookedForUpdates = clock.now();
  newer = await newerVersion({ address: hub.http, version: SCRIPT_VERSION, request });
  show();
}

/** The tab may have slept, and its link with it: see at once. */
function awake() {
  if (document.visibilityState !== "hidden") dial?.nudge();
}

for (const name of ["visibilitychange", "resume"]) document.addEventListener(name, awake);
for (const name of ["pageshow", "online"]) site.addEventListener(name, awake);
site.addEventListener("pagehide", ({ persisted }) => {
  // What was not sent waits for the tab's next document; without such a job nobody need wait for this one.
  if (!persisted && worker !== null && !worker.holdsUnsent) dial?.stop("the tab was closed");
});

// --- what the owner sees ----------------------------------------------------------------------------------------

const say = words(navigator.language);
const panel = openPanel({ document, language: navigator.language, act, clear: page.sendButton });

function show() {
  if (dial === null) return;
  const hub = credentials.hub();
  panel.show({
    link: link(dial.state),
    hub: hub === null ? null : hub.http.replace(/^https?:\/\//, ""),
    site: worker.site,
    late: isLate,
    job: worker.doing,
    mode: mode.get(),
    paused: worker.isPaused,
    today: worker.today,
    daily: worker.daily,
    next_in_s: worker.nextInS,
    version: SCRIPT_VERSION,
    newer,
    installUrl: hub === null ? null : `${hub.http}/userscript/hub.user.js`,
    canSpeedUp: dial.state.canSpeedUp,
    configured: hub !== null && credentials.hasToken,
    folded: isFolded.get() === true,
    corner: corner.get(),
  });
}

/** @param {import("./dial.js").DialState} state */
function link({ link, connected, wanted, reason, ended, again_at }) {
  if (ended !== null) return { state: "ended", reason: ended };
  if (!wanted) return { state: "off" };
  if (connected) return { state: link ?? "connecting" };
  const again_in_s = again_at === null ? 0 : (again_at - clock.now()) / 1000;
  return { state: "connecting", reason: reason ?? undefined, again_in_s };
}

/** @type {import("./panel.js").Act} */
function act(name, value) {
  if (name === "connect") enterHub();
  else if (name === "mode") mode.set(value);
  else if (name === "pause" || name === "resume") isPaused.set(name === "pause");
  else if (name === "fold" || name === "unfold") isFolded.set(name === "fold");
  else if (name === "corner") corner.set(value);
  else if (name === "done") worker.look();
  else if (name === "faster") dial.preferSocket();
  else if (name === "again") dial.again();
  else if (name === "show-job") page.focusSend();
  else if (name === "update") apply(open, site, [`${credentials.hub()?.http}/userscript/hub.user.js`]);
}

function enterHub() {
  const asked = {
    address: say("ask_address"),
    token: say("ask_token"),
    wrongAddress: say("wrong_address"),
    wrongToken: say("wrong_token"),
  };
  if (credentials.ask(asked)) show();
}

GM_registerMenuCommand(say("connect"), enterHub);
begin();

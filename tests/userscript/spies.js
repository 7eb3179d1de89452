/**
 * A hostile page, as a program: it prints what it could see of the worker token.
 *
 * The userscript's links side is loaded into a realm of its own, as a page's realm is. Then every built-in of
 * that realm is replaced by a spy that looks through `this` and all arguments: each function and accessor of
 * each constructor, prototype and namespace, the iterators, and for every word of the sources a getter and a
 * setter on Object.prototype. Only then the person types address and token, and the tab connects to a hub, by
 * socket and by polling, and answers a question each time.
 *
 * Run with --experimental-vm-modules; takes {url, key, token} as JSON in $SPIES, prints
 * {calls, answers, seen, caught}: how many calls were looked through, the callers' texts, where the token was
 * seen, and how many of some careless uses of it were caught.
 */

import { readFileSync } from "node:fs";
import { SourceTextModule, createContext, runInContext } from "node:vm";

import { Caller, eventually, userscriptManager } from "./running_hub.js";

const SOURCES = new URL("../../userscript/src/", import.meta.url);
const MODULES = [
  "clock",
  "credentials",
  "dial",
  "link",
  "natives",
  "poll_link",
  "protocol",
  "session",
  "socket_link",
];
const { url, key, token } = JSON.parse(process.env.SPIES);

// --- the realm --------------------------------------------------------------------------------------------

const realm = createContext({
  URL,
  WebSocket,
  EventTarget,
  MessageEvent,
  CloseEvent,
  setTimeout,
  clearTimeout,
  queueMicrotask,
});
// One of its own: what Node's WebSocket encodes is none of the page's business.
realm.encode = (text) => new TextEncoder().encode(text);
runInContext(
  `{
    const { encode } = globalThis;
    delete globalThis.encode;
    globalThis.TextEncoder = class TextEncoder { encode(text) { return encode(text); } };
  }`,
  realm,
);

const loaded = new Map();

/** A module of ours in the realm. */
function load(address) {
  if (!loaded.has(address)) {
    const source = readFileSync(new URL(address), "utf8");
    loaded.set(address, new SourceTextModule(source, { context: realm, identifier: address }));
  }
  return loaded.get(address);
}

const entry = new SourceTextModule(
  `
  import { clockOf } from "./clock.js";
  import { openCredentials } from "./credentials.js";
  import { Dial } from "./dial.js";
  import { PollLink, byUserscriptManager } from "./poll_link.js";
  import { Session } from "./session.js";
  import { SocketLink } from "./socket_link.js";

  /** What main.js does at the start of a document. */
  export function assemble({ by, window, manager, take }) {
    const { GM_getValue, GM_setValue, GM_addValueChangeListener, GM_xmlhttpRequest } = manager;
    const credentials = openCredentials({ window, GM_getValue, GM_setValue, GM_addValueChangeListener });
    const clock = clockOf(window);
    const card = { worker: "spied", name: "spied", version: "test" };
    const session = new Session({ card, take, cancel() {}, clock });
    const request = byUserscriptManager(GM_xmlhttpRequest);
    const socket = by === "socket" ? new SocketLink({ window, credentials, clock }) : null;
    const poll = by === "poll" ? new PollLink({ credentials, request, clock }) : null;
    const dial = new Dial({ session, socket, poll, credentials, clock });
    credentials.listen(() => dial.restart());
    dial.start();
    return { ask: () => credentials.ask(), session, dial };
  }

  /** Uses of a secret that a spy must notice. */
  export const careless = [
    (secret) => JSON.stringify({ secret }),
    (secret) => secret.startsWith("x"),
    (secret) => [secret].join(""),
    (secret) => /^\\w/.test(secret),
    (secret) => ({ ...{ secret } }).authorization,
    (secret) => Promise.resolve({ secret }),
    (secret) => { const [one] = [secret]; },
    (secret) => { const fresh = []; fresh[0] = secret; },
    (secret) => new Map().set("secret", secret),
    (secret) => encodeURIComponent(secret),
    (secret) => { const kept = {}; kept.token = secret; },
    (secret) => new Error(secret),
  ];
  `,
  { context: realm, identifier: new URL("entry.js", SOURCES).href },
);
await entry.link((specifier, from) => load(new URL(specifier, from.identifier).href));
await entry.evaluate();
const { assemble, careless } = entry.namespace;

// --- the spies --------------------------------------------------------------------------------------------

let calls = 0;
let seen = new Set();
const regExpStatics = Object.entries(Object.getOwnPropertyDescriptors(runInContext("RegExp", realm)))
  .filter(([, { get }]) => get)
  .map(([name, { get }]) => [`RegExp.${name}`, get]);
const realmRegExp = runInContext("RegExp", realm);

/** Whether the token, or a way to get it, can be reached from a value by whoever holds it. */
function reveals(value, depth = 0, visited = new Set()) {
  if (typeof value === "string") return value.includes(token);
  if (value === null || (typeof value !== "object" && typeof value !== "function")) return false;
  if (visited.has(value) || depth > 6) return false;
  visited.add(value);
  if (value instanceof WebSocket) return false;
  const descriptors = Object.getOwnPropertyDescriptors(value);
  if (descriptors.helloText || descriptors.authorization) return true;
  const inside = (part) => reveals(part, depth + 1, visited);
  if (Object.values(descriptors).some((descriptor) => inside(descriptor.value))) return true;
  const tag = Object.prototype.toString.call(value);
  if (tag === "[object String]") return reveals(String.prototype.valueOf.call(value));
  if (tag === "[object Map]") return [...Map.prototype.entries.call(value)].some((pair) => pair.some(inside));
  if (tag === "[object Set]") return [...Set.prototype.values.call(value)].some(inside);
  return false;
}

/** Look through one call. */
function look(where, ...values) {
  calls += 1;
  if (values.some((value) => reveals(value))) seen.add(where);
  for (const [name, get] of regExpStatics) {
    if (reveals(Reflect.apply(get, realmRegExp, []))) seen.add(name);
  }
}

const spied = new WeakMap();

/** The function with a spy around it. */
function spy(native, where) {
  if (!spied.has(native)) {
    const proxy = new Proxy(native, {
      apply(target, self, given) {
        look(where, self, ...given);
        return Reflect.apply(target, self, given);
      },
      construct(target, given, newTarget) {
        look(`new ${where}`, ...given);
        return Reflect.construct(target, given, newTarget === proxy ? target : newTarget);
      },
    });
    spied.set(native, proxy);
    spied.set(proxy, proxy);
  }
  return spied.get(native);
}

const walked = new Set();

/** Replace everything that a page could replace on an object, and on all that can be reached from there. */
function infest(object, where) {
  if (object === null || (typeof object !== "object" && typeof object !== "function")) return;
  if (walked.has(object)) return;
  walked.add(object);
  infest(Object.getPrototypeOf(object), `${where}.__proto__`);
  for (const name of Reflect.ownKeys(object)) {
    const descriptor = Object.getOwnPropertyDescriptor(object, name);
    const place = `${where}.${String(name)}`;
    const { value, get, set } = descriptor;
    infest(value, place);
    if (typeof value === "function") descriptor.value = spy(value, place);
    if (get) descriptor.get = spy(get, `get ${place}`);
    if (set) descriptor.set = spy(set, `set ${place}`);
    Reflect.defineProperty(object, name, descriptor);
  }
}

/** A page's getter and setter for a name that objects do not have; both do as if they were not there. */
function trap(prototype, name) {
  if (name in prototype) return;
  Reflect.defineProperty(prototype, name, {
    configurable: true,
    get() {
      look(`get Object.prototype.${name}`, this);
    },
    set(value) {
      look(`set Object.prototype.${name}`, this, value);
      Reflect.defineProperty(this, name, { value, configurable: true, enumerable: true, writable: true });
    },
  });
}

const words = new Set(["authorization", "cookie", "toJSON", "then", "-1"]);
for (const name of MODULES) {
  const source = readFileSync(new URL(`${name}.js`, SOURCES), "utf8");
  for (const [word] of source.matchAll(/[A-Za-z_$][\w$]*/g)) words.add(word);
}
for (let index = 0; index < 300; index += 1) words.add(`${index}`);

/** Bring the spies in. */
function infestAll() {
  const hidden = runInContext(
    `[
      [][Symbol.iterator](), new Map()[Symbol.iterator](), new Set()[Symbol.iterator](),
      ""[Symbol.iterator](), "".matchAll(/x/g), new Promise(() => {}),
      function* () {}, async function () {}, async function* () {},
    ]`,
    realm,
  );
  const { prototype } = runInContext("Object", realm);
  const globals = Object.getOwnPropertyNames(realm);
  const intrinsics = runInContext("Object.getOwnPropertyNames(globalThis)", realm);
  for (const name of intrinsics.filter((name) => !globals.includes(name))) {
    const value = runInContext(name === "globalThis" ? "undefined" : name, realm);
    infest(value, name);
    const put = runInContext(`(value) => { globalThis.${name} = value; }`, realm);
    if (typeof value === "function") put(spy(value, name));
  }
  for (const value of hidden) infest(value, "hidden");
  for (const name of globals.filter((name) => typeof realm[name] === "function")) {
    const native = realm[name];
    // The browser's: of Node's own classes only the prototypes, which our modules share with it.
    for (const key of Reflect.ownKeys(native.prototype ?? {})) {
      const descriptor = Object.getOwnPropertyDescriptor(native.prototype, key);
      if (key === "constructor") continue;
      for (const part of ["value", "get", "set"]) {
        const native = descriptor[part];
        if (typeof native === "function") descriptor[part] = spy(native, `${name}.${String(key)}`);
      }
      Reflect.defineProperty(native.prototype, key, descriptor);
    }
    realm[name] = spy(native, name);
  }
  for (const word of words) trap(prototype, word);
}

// --- the play ---------------------------------------------------------------------------------------------

const answers = [];
const tabs = [];
for (const by of ["socket", "poll"]) {
  const manager = userscriptManager();
  const request = manager.GM_xmlhttpRequest;
  const typed = [`${url}/`, ` ${token} `];
  const tab = { by, manager, typed };
  const prompt = () => typed.shift();
  const window = { WebSocket, MessageEvent, CloseEvent, setTimeout, clearTimeout, prompt };
  // A manager looks for members that are not there.
  manager.GM_xmlhttpRequest = (details) => request(details, details.cookie, details.headers.cookie);
  const take = ({ job }) => {
    tab.session.say({ t: "started", job });
    tab.session.say({ t: "piece", job, text: `by ${by}` });
    tab.session.say({ t: "end", job });
  };
  Object.assign(tab, assemble({ by, window, manager, take }));
  tab.session.offer([{ id: `model-${by}` }]);
  tabs.push(tab);
}

infestAll();
for (const { ask, by, session, dial } of tabs) {
  ask();
  await eventually(() => session.connected, `connected by ${by}`);
  const caller = new Caller({ url, key }).ask({ model: `model-${by}` });
  answers.push((await caller.outcome()).text);
  await dial.stop("done");
}
look("the end");

const found = [...seen];
let caught = 0;
for (const use of careless) {
  seen = new Set();
  use(token);
  look("after it");
  if (seen.size > 0) caught += 1;
}
process.stdout.write(JSON.stringify({ calls, answers, seen: found, caught, careless: careless.length }));
process.exit(0);

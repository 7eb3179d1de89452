// The userscript manager of the tests: keeps values, makes requests, and registers the userscript with the
// values in its text, because that alone is there synchronously at document-start (as ScriptCat does it for
// @early-start).

/** @type {Map<chrome.runtime.Port, {commands: Set<string>, requests: Map<number, AbortController>}>} */
const documents = new Map();
let plan;
let values = {};
/** Counts changes, so that a document can tell whether the values that it started with are old. */
let revision = 0;

// --- the userscript -------------------------------------------------------------------------------------

const registration = () => ({
  id: "userscript",
  js: [{ code: `${plan.before}${JSON.stringify({ revision, values })}${plan.after}` }],
  matches: plan.matches,
  runAt: plan.run_at,
  allFrames: plan.all_frames,
  world: "MAIN",
});

/** Real managers' requests carry no Origin; an extension's own would. */
const WITHOUT_ORIGIN = {
  id: 1,
  action: { type: "modifyHeaders", requestHeaders: [{ header: "origin", operation: "remove" }] },
  condition: { tabIds: [chrome.tabs.TAB_ID_NONE], resourceTypes: ["xmlhttprequest"] },
};

async function start() {
  plan = await (await fetch(chrome.runtime.getURL("plan.json"))).json();
  values = { ...plan.values, ...(await chrome.storage.local.get()) };
  await chrome.storage.local.set(values);
  const rules = { removeRuleIds: [WITHOUT_ORIGIN.id], addRules: [WITHOUT_ORIGIN] };
  await chrome.declarativeNetRequest.updateSessionRules(rules);
  await chrome.userScripts.unregister();
  await chrome.userScripts.register([registration()]);
}

/** Settles once the userscript runs in every document that is opened from then on. */
const ready = start();

// A worker without work is stopped after 30 s, and a call of an extension API counts as work. Managers have
// their own ways to stay while a request is held.
setInterval(() => chrome.runtime.getPlatformInfo(), 20_000);

// --- values ---------------------------------------------------------------------------------------------

/** From a document (`port`), or as if in the manager's editor. New documents see it once it is stored. */
async function setValue(name, value, port) {
  values = { ...values, [name]: value };
  revision += 1;
  for (const other of documents.keys()) {
    if (other !== port) other.postMessage({ type: "changed", name, value });
  }
  await chrome.userScripts.update([registration()]);
  await chrome.storage.local.set({ [name]: value });
}

/** Values that changed while the document was loading. */
function catchUp(port, known) {
  if (known === revision) return;
  for (const [name, value] of Object.entries(values)) {
    port.postMessage({ type: "changed", name, value });
  }
}

// --- requests -------------------------------------------------------------------------------------------

/** Whether @connect names this host, or a domain that it belongs to. */
function isAllowed(url) {
  const { hostname, protocol } = new URL(url);
  if (!["http:", "https:"].includes(protocol)) return false;
  const belongs = (domain) => hostname === domain || hostname.endsWith(`.${domain}`);
  return plan.connect.some((domain) => domain === "*" || belongs(domain));
}

async function fetched({ method, url, headers, data, anonymous }, signal) {
  if (!isAllowed(url)) throw new Error(`@connect does not name the host of ${url}`);
  const credentials = anonymous ? "omit" : "include";
  const options = { method, headers, body: data, credentials, signal, cache: "no-store" };
  const answer = await fetch(url, options);
  if (!isAllowed(answer.url)) throw new Error(`@connect does not name the host of ${answer.url}`);
  const responseText = await answer.text();
  return {
    status: answer.status,
    statusText: answer.statusText,
    responseText,
    response: responseText,
    responseHeaders: [...answer.headers].map(([name, value]) => `${name}: ${value}\r\n`).join(""),
    finalUrl: answer.url,
    readyState: 4,
  };
}

const nothing = (error) => ({
  status: 0,
  statusText: "",
  responseText: "",
  response: "",
  responseHeaders: "",
  finalUrl: "",
  readyState: 4,
  error: `${error}`,
});

/** Every request ends in onload, onerror, onabort or ontimeout; the last two are reasons of an abort. */
async function request(port, message) {
  const { requests } = documents.get(port);
  const abort = new AbortController();
  requests.set(message.id, abort);
  const timer = message.timeout > 0 && setTimeout(() => abort.abort("ontimeout"), message.timeout);
  const [outcome, response] = await fetched(message, abort.signal).then(
    (answer) => ["onload", answer],
    (error) => [abort.signal.aborted ? abort.signal.reason : "onerror", nothing(error)],
  );
  clearTimeout(timer);
  requests.delete(message.id);
  const settled = { type: "settled", id: message.id, outcome, response };
  if (documents.has(port)) port.postMessage(settled);
}

// --- documents ------------------------------------------------------------------------------------------

chrome.runtime.onConnect.addListener((port) => {
  const state = { commands: new Set(), requests: new Map() };
  documents.set(port, state);
  port.onMessage.addListener(async (message) => {
    await ready;
    if (message.type === "start") catchUp(port, message.revision);
    else if (message.type === "set") await setValue(message.name, message.value, port);
    else if (message.type === "request") await request(port, message);
    else if (message.type === "abort") state.requests.get(message.id)?.abort("onabort");
    else if (message.type === "command") state.commands.add(message.name);
  });
  port.onDisconnect.addListener(() => {
    documents.delete(port);
    for (const abort of state.requests.values()) abort.abort("onabort");
  });
});

chrome.runtime.onMessage.addListener((message, sender, reply) => {
  ready.then(() => reply(true));
  return true; // the reply comes later
});

/** Whether the tab with this target id has the menu command; then it runs. */
async function runMenuCommand(target, name) {
  const targets = await chrome.debugger.getTargets();
  const tab = targets.find(({ id }) => id === target)?.tabId;
  const isIt = ([port, { commands }]) => port.sender.tab.id === tab && commands.has(name);
  const found = [...documents].find(isIt);
  found?.[0].postMessage({ type: "run", name });
  return found !== undefined;
}

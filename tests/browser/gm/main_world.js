/**
 * The GM functions as a userscript sees them, in the page's world. The background worker puts this text, the
 * values and the userscript into one function, so that nothing of it becomes a global.
 *
 * The page shares the realm and may replace any global or prototype member later, Object.prototype's too. So
 * natives are taken now, objects that hold callers' data have no prototype, absent members are not looked up,
 * and messages are structured clones: no hook of the page's runs over what passes here.
 *
 * @param {{revision: number, values: Record<string, any>}} snapshot what is stored
 */
function grants(snapshot) {
  const { apply } = Reflect;
  const { create, getOwnPropertyDescriptor, hasOwn } = Object;
  const { postMessage } = MessagePort.prototype;
  const getData = getOwnPropertyDescriptor(MessageEvent.prototype, "data").get;
  const clone = structuredClone;
  const soon = queueMicrotask;

  const own = (object, name) => (hasOwn(object, name) ? object[name] : undefined);

  // --- the channel to the bridge ------------------------------------------------------------------------
  // Worlds share the document but no objects of JavaScript, except that an event's ports are wrapped anew for
  // each. The bridge listens already and hears this event before dispatchEvent returns, and no script of the
  // page has run yet that could listen too. From then on the two talk through a port that nobody else holds.

  const { port1: port, port2 } = new MessageChannel();
  const handover = new MessageEvent("userscript-bridge", { ports: [port2], cancelable: true });
  if (document.dispatchEvent(handover)) throw new Error("the bridge did not take its port");
  const say = (message) => apply(postMessage, port, [message]);

  // --- values -------------------------------------------------------------------------------------------

  const values = create(null);
  for (const name in snapshot.values) values[name] = snapshot.values[name];
  const listeners = create(null);
  let lastListener = 0;

  function tell(name, old, value, remote) {
    for (const id in listeners) {
      if (listeners[id].name === name) listeners[id].heed(name, old, clone(value), remote);
    }
  }

  /** Another tab, or the manager's own editor, has set it. */
  function hearOfChange(name, value) {
    const old = values[name];
    if (old === value) return;
    values[name] = value;
    tell(name, old, value, true);
  }

  function setValue(name, value) {
    const old = values[name];
    values[name] = clone(value);
    say({ type: "set", name, value });
    if (old !== value) soon(() => tell(name, old, value, false));
  }

  const getValue = (name, otherwise) => (name in values ? clone(values[name]) : otherwise);

  function addValueChangeListener(name, heed) {
    const id = ++lastListener;
    listeners[id] = { __proto__: null, name, heed };
    return id;
  }

  // --- requests -----------------------------------------------------------------------------------------

  const requests = create(null);
  let lastRequest = 0;

  function xmlhttpRequest(details) {
    const id = ++lastRequest;
    requests[id] = details;
    say({
      type: "request",
      id,
      method: own(details, "method") ?? "GET",
      url: `${details.url}`,
      headers: own(details, "headers") ?? {},
      data: own(details, "data"),
      timeout: own(details, "timeout") ?? 0,
      anonymous: own(details, "anonymous") ?? false,
    });
    return { abort: () => say({ type: "abort", id }) };
  }

  function settle(id, outcome, response) {
    const details = requests[id];
    delete requests[id];
    own(details, outcome)?.(response);
  }

  // --- menu ---------------------------------------------------------------------------------------------

  const commands = create(null);

  function registerMenuCommand(name, run) {
    commands[name] = run;
    say({ type: "command", name });
    return name;
  }

  // --- a window of its own ------------------------------------------------------------------------------
  // As managers give: what the script writes to `window` stays with the script; the page's is unsafeWindow.

  const real = window;
  const kept = create(null);
  const sandbox = new Proxy(kept, {
    has: (_, name) => name in kept || name in real,
    get(_, name) {
      if (name in kept) return kept[name];
      const value = real[name];
      // Methods insist on the real window; classes have a prototype and do not.
      const isMethod = typeof value === "function" && !hasOwn(value, "prototype");
      return isMethod ? (...parameters) => apply(value, real, parameters) : value;
    },
    set(_, name, value) {
      kept[name] = value;
      return true;
    },
  });
  for (const name of ["window", "self", "globalThis"]) kept[name] = sandbox;

  port.onmessage = (event) => {
    const message = apply(getData, event, []);
    if (message.type === "settled") settle(message.id, message.outcome, message.response);
    else if (message.type === "changed") hearOfChange(message.name, message.value);
    else if (message.type === "run") commands[message.name]();
  };
  say({ type: "start", revision: snapshot.revision });

  return {
    GM_addValueChangeListener: addValueChangeListener,
    GM_getValue: getValue,
    GM_registerMenuCommand: registerMenuCommand,
    GM_setValue: setValue,
    GM_xmlhttpRequest: xmlhttpRequest,
    globalThis: sandbox,
    self: sandbox,
    unsafeWindow: real,
    window: sandbox,
  };
}

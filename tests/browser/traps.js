// A hostile page's first script: it listens, and it replaces everything through which values of another
// script might pass. `caught(text)` names the traps in which the text lay.

(() => {
  const { apply, construct, defineProperty, getOwnPropertyDescriptor, ownKeys } = Reflect;
  const { indexOf } = String.prototype;
  const { isPrototypeOf } = Object.prototype;
  const node = Node.prototype;
  const page = window;
  const seen = [];

  const remember = (trap, values) => {
    seen[seen.length] = { __proto__: null, trap, values };
  };

  // --- functions ----------------------------------------------------------------------------------------

  const trapped = (trap, original) =>
    new Proxy(original, {
      __proto__: null,
      apply(_, self, values) {
        remember(trap, [self, values]);
        return apply(original, self, values);
      },
      construct(_, values, target) {
        remember(trap, values);
        return construct(original, values, target);
      },
    });

  function trapMembers(name, holder) {
    const keys = ownKeys(holder);
    for (let i = 0; i < keys.length; i++) {
      const { value, get, set, configurable } = getOwnPropertyDescriptor(holder, keys[i]);
      if (!configurable || keys[i] === "constructor") continue;
      const trap = `${name}.${keys[i].description ?? keys[i]}`;
      if (typeof value === "function") {
        defineProperty(holder, keys[i], { __proto__: null, value: trapped(trap, value) });
      } else if (get) {
        const accessors = { __proto__: null, get: watched(trap, get), set: set && trapped(trap, set) };
        defineProperty(holder, keys[i], accessors);
      }
    }
  }

  /** A getter whose result is of interest. */
  const watched = (trap, getter) =>
    new Proxy(getter, {
      __proto__: null,
      apply(_, self) {
        const value = apply(getter, self, []);
        remember(trap, [value]);
        return value;
      },
    });

  const words = (text) => text.trim().split(/\s+/);
  const CLASSES = words(`
    Array BroadcastChannel CustomEvent EventTarget Function Headers Map MessageEvent MessagePort Promise
    RegExp Request Response Set String URL WeakMap XMLHttpRequest
  `);
  const FUNCTIONS = words(`
    BroadcastChannel CustomEvent Event MessageChannel MessageEvent Proxy Request WebSocket fetch postMessage
    queueMicrotask setTimeout structuredClone
  `);
  for (const name of FUNCTIONS) page[name] = trapped(name, page[name]);
  for (const name of CLASSES) trapMembers(name, page[name].prototype);
  for (const name of ["JSON", "Object", "Reflect", "console"]) trapMembers(name, page[name]);
  page.Storage.prototype.setItem = trapped("Storage.setItem", page.Storage.prototype.setItem);
  Element.prototype.setAttribute = trapped("Element.setAttribute", Element.prototype.setAttribute);

  // --- members that are looked up and not there ---------------------------------------------------------

  const ABSENT = words(`
    abort anonymous data headers method onabort onerror onload ontimeout responseType then timeout toJSON
    token transfer url user value
  `);
  for (const name of ABSENT) {
    defineProperty(Object.prototype, name, {
      __proto__: null,
      configurable: true,
      get() {
        remember(`Object.${name}`, [this]);
      },
      set(value) {
        remember(`Object.${name}`, [this, value]);
        const own = { __proto__: null, value, configurable: true, enumerable: true, writable: true };
        defineProperty(this, name, own);
      },
    });
  }

  // --- events -------------------------------------------------------------------------------------------

  for (const target of [page, document, document.documentElement]) {
    for (const kind of ["message", "userscript-bridge"]) {
      const heed = ({ data, detail, ports }) => remember(`event ${kind}`, [data, detail, ports]);
      target.addEventListener(kind, heed, true);
    }
  }

  // --- what was caught ----------------------------------------------------------------------------------

  function contains(value, text, depth) {
    if (typeof value === "string") return apply(indexOf, value, [text]) >= 0;
    if ((typeof value !== "object" && typeof value !== "function") || value === null) return false;
    if (depth > 5 || value === page || apply(isPrototypeOf, node, [value])) return false;
    const keys = ownKeys(value);
    for (let i = 0; i < keys.length; i++) {
      if (contains(getOwnPropertyDescriptor(value, keys[i])?.value, text, depth + 1)) return true;
    }
    return false;
  }

  page.caught = (text) => {
    const traps = { __proto__: null };
    const { length } = seen;
    for (let i = 0; i < length; i++) if (contains(seen[i].values, text, 0)) traps[seen[i].trap] = true;
    return ownKeys(traps);
  };
})();

/**
 * The page's own script. It behaves like the site's React app where a script in the same page can tell:
 * state changes only through events that bubble, fields remember what was last set on them (so that a plain
 * `.value =` changes nothing but the looks), rendering is asynchronous, and what is not there is
 * not in the DOM.
 */
"use strict";

(() => {
  const boot = self.__boot;
  delete self.__boot;
  document.getElementById("boot").remove();

  // eslint-disable-next-line no-undef -- the page's first script made it
  const request = boot.savesFetch ? savedFetch : (...given) => fetch(...given);
  const OPTIONS_SHOWN = 50;

  /** What is made here, by the design's look; the rest is in the HTML. */
  const look = {
    today: {
      stop: ["button", { type: "button", "aria-label": "Stop" }],
      list: { role: "listbox" },
      filter: { placeholder: "Search models" },
      option: { role: "option" },
    },
    renamed: {
      stop: ["button", { type: "button", "aria-label": "Halt" }],
      list: { class: "models" },
      filter: { type: "search" },
      option: { class: "model-option" },
    },
    new: {
      stop: ["div", { role: "button", "aria-label": "Halt", tabindex: "0" }],
      list: { class: "models", role: "menu" },
      filter: { type: "search" },
      option: { role: "menuitemradio" },
    },
  }[boot.look];

  const models = readFlight();
  const state = {
    draft: "",
    attachments: [],
    reading: 0,
    model: firstModel(),
    chat: boot.chat,
    answer: null,
    picking: false,
    filter: "",
    account: boot.account,
  };

  const part = (name) => document.querySelector(`[data-part="${name}"]`);
  const parts = {
    messages: part("messages"),
    form: part("form"),
    composer: part("composer"),
    thumbnails: part("thumbnails"),
    picker: part("picker"),
    files: part("files"),
    send: part("send"),
    newChat: part("new-chat"),
    account: part("account"),
    listbox: null,
    filter: null,
    stop: null,
    dialog: null,
  };

  // --- the catalogue, as Next hands it over ----------------------------------------------------------------

  function readFlight() {
    const chunks = self.__next_f.filter(([kind]) => kind === 1).map(([, chunk]) => chunk);
    // Next does the same: what was handed over is not kept.
    self.__next_f.length = 0;
    self.__next_f.push = () => 0;
    const row = chunks.join("").split("\n").find((line) => line.includes('"initialModels":['));
    return JSON.parse(row.slice(row.indexOf(":") + 1))[3].initialModels;
  }

  function firstModel() {
    if (boot.chatModel) return models.find(({ id }) => id === boot.chatModel) ?? null;
    const query = new URLSearchParams(location.search);
    const wanted = query.get("model_a") ?? query.get("model");
    if (wanted === null) return models[0];
    return models.find(({ publicName }) => publicName === wanted) ?? null;
  }

  // --- state and rendering ---------------------------------------------------------------------------------

  let scheduled = false;

  /** Rendering waits for a microtask: it is over before a person's next event, but not before a script's. */
  function setState(change) {
    Object.assign(state, change);
    if (scheduled) return;
    scheduled = true;
    queueMicrotask(() => {
      scheduled = false;
      render();
    });
  }

  /** React's value tracker: an input event counts only for a value that is not the one last set here. */
  function tracked(field) {
    const { get, set } = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(field), "value");
    let last = get.call(field);
    Object.defineProperty(field, "value", {
      __proto__: null,
      configurable: true,
      get() {
        return get.call(this);
      },
      set(value) {
        last = String(value);
        set.call(this, value);
      },
    });
    return function changed() {
      const now = get.call(field);
      if (now === last) return false;
      last = now;
      return true;
    };
  }

  const editable = parts.composer.isContentEditable;
  const composerChanged = editable ? () => true : tracked(parts.composer);
  let filterChanged = () => false;
  const composerText = () => (editable ? parts.composer.textContent : parts.composer.value);

  function setComposer(text) {
    if (composerText() === text) return;
    if (editable) parts.composer.textContent = text;
    else parts.composer.value = text;
  }

  const canSend = () =>
    state.draft.trim() !== "" && state.model !== null && state.answer === null && state.reading === 0;

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function setText(node, text) {
    if (node.textContent !== text) node.textContent = text;
  }

  /** Children that are made anew only when they change: an element in hand stays one of the page's. */
  function setChildren(node, items, make) {
    const shown = node.items ?? [];
    if (items.length === shown.length && items.every((item, index) => item === shown[index])) return;
    node.items = items;
    node.replaceChildren(...items.map(make));
  }

  function render() {
    setComposer(state.draft);
    if (parts.send.tagName === "BUTTON") parts.send.disabled = !canSend();
    else parts.send.setAttribute("aria-disabled", String(!canSend()));
    setText(parts.picker, state.model?.publicName ?? "Choose a model");
    parts.picker.setAttribute("aria-expanded", String(state.picking));
    setText(parts.account, state.account.signed_in ? "Signed in" : "Guest");
    setChildren(parts.thumbnails, state.attachments, ({ name }) =>
      element("span", { "data-attachment": name }, name),
    );
    renderStop();
    renderPicker();
    renderDialog();
  }

  function renderStop() {
    if ((state.answer !== null) === (parts.stop !== null)) return;
    if (parts.stop) {
      parts.stop.remove();
      parts.stop = null;
      return;
    }
    parts.stop = element(...look.stop, "■");
    parts.form.append(parts.stop);
  }

  // --- the picker: a list in the body, of which only a window is in the DOM --------------------------------

  function renderPicker() {
    if (!state.picking) {
      parts.listbox?.remove();
      parts.listbox = null;
      return;
    }
    if (!parts.listbox) openListbox();
    if (parts.filter.value !== state.filter) parts.filter.value = state.filter;
    const wanted = state.filter.toLowerCase();
    const shown = models
      .filter(({ publicName }) => publicName.toLowerCase().includes(wanted))
      .slice(0, OPTIONS_SHOWN);
    setChildren(parts.options, shown, ({ id, publicName }) => {
      const option = element("div", look.option, publicName);
      option.modelId = id;
      return option;
    });
  }

  function openListbox() {
    parts.filter = element("input", look.filter);
    filterChanged = tracked(parts.filter);
    parts.options = element("div");
    parts.listbox = element("div", look.list, parts.filter, parts.options);
    document.body.append(parts.listbox);
    parts.filter.focus();
  }

  function choose(option) {
    setState({ model: models.find(({ id }) => id === option.modelId), picking: false });
  }

  /** An option is chosen when it is pressed; whatever else is pressed closes the list. */
  function pressed(target) {
    if (!state.picking) return;
    if (target.modelId) choose(target);
    else if (!parts.listbox?.contains(target)) setState({ picking: false });
  }

  /** A click in the list also counts as one on what opened it, as through a portal. */
  function clickedPicker(target) {
    if (target === parts.filter) return;
    if (state.picking && target.modelId) choose(target);
    else if (!state.picking || target === parts.picker) setState({ picking: !state.picking, filter: "" });
  }

  // --- dialogs ---------------------------------------------------------------------------------------------

  const DIALOGS = {
    verify: ["Security Verification", "Please show that you are human to go on.", "I am human"],
    sign_in: ["Sign in", "Please sign in to continue.", "Sign in"],
    agree: ["Terms of Use", "Please read and accept our terms.", "Agree"],
  };

  function wantedDialog() {
    if (state.account.modal === "challenge") return "verify";
    if (!state.account.signed_in) return "sign_in";
    return state.account.consent ? null : "agree";
  }

  function renderDialog() {
    const wanted = wantedDialog();
    if (parts.dialog?.action === wanted) return;
    parts.dialog?.remove();
    parts.dialog = null;
    if (wanted === null) return;
    const [title, text, label] = DIALOGS[wanted];
    const button = element("button", { type: "button" }, label);
    button.addEventListener("click", () => settle(wanted));
    const dialog = element("div", { role: "dialog", "aria-modal": "true", "aria-label": title });
    dialog.append(element("h2", {}, title), element("p", {}, text), button);
    dialog.action = wanted;
    document.body.append(dialog);
    parts.dialog = dialog;
  }

  async function settle(action) {
    const response = await request(`/nextjs-api/account/${action}`, { method: "POST" });
    setState({ account: await response.json() });
  }

  function followAccount() {
    const socket = new WebSocket(`${location.origin.replace(/^http/, "ws")}/nextjs-api/live`);
    socket.addEventListener("message", ({ data }) => setState({ account: JSON.parse(data) }));
  }

  // --- asking ----------------------------------------------------------------------------------------------

  let sequence = 0;

  /** A value that only this script can make: each belongs to one prompt and is good for one request. */
  async function verification(prompt) {
    const number = ++sequence;
    const bytes = new TextEncoder().encode(`${boot.secret}:${number}:${prompt}`);
    const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    const hex = Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
    return `${boot.visit}.${number}.${hex}`;
  }

  async function send() {
    if (!canSend() || wantedDialog() === "agree") return;
    const { draft: content, attachments, model, chat } = state;
    const id = chat ?? crypto.randomUUID();
    const answer = new Answer(content);
    setState({ draft: "", attachments: [], answer });
    if (chat === null) history.pushState({}, "", `/c/${id}`);
    try {
      const body = {
        id,
        mode: "direct",
        modelAId: model.id,
        userMessageId: crypto.randomUUID(),
        userMessage: { content, experimental_attachments: attachments },
        verification: await verification(content),
      };
      const path = chat === null ? "create-evaluation" : `post-to-evaluation/${chat}`;
      await converse(`/nextjs-api/stream/${path}`, body, answer, () => {
        if (state.answer === answer) setState({ chat: id });
      });
    } catch (error) {
      answer.failed(error);
    }
    if (state.answer === answer) setState({ answer: null });
  }

  async function converse(url, body, answer, accepted) {
    const response = await request(url, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(body),
      signal: answer.signal,
    });
    const kind = response.headers.get("content-type") ?? "";
    if (!response.ok || !kind.startsWith("text/plain")) {
      refused(response.status, await response.text());
      return;
    }
    accepted();
    const reader = response.body.getReader();
    if (boot.readerCancel) answer.stopBy(() => reader.cancel());
    await read(reader, answer);
    answer.over();
  }

  function refused(status, text) {
    if (status === 403 && text.includes("recaptcha")) {
      setState({ account: { ...state.account, modal: "challenge" } });
    }
    if (status === 401) setState({ account: { ...state.account, signed_in: false } });
    throw new Error(`${status}: ${text.slice(0, 200)}`);
  }

  async function read(reader, answer) {
    const decoder = new TextDecoder();
    let held = "";
    for (;;) {
      const { done, value } = await reader.read();
      held += done ? decoder.decode() : decoder.decode(value, { stream: true });
      const lines = held.split("\n");
      held = done ? "" : lines.pop();
      for (const line of lines) answer.take(line);
      if (done) return;
    }
  }

  const nameOf = Object.fromEntries(Object.entries(boot.codes).map(([name, code]) => [code, name]));

  /** A question and its answer, as they are shown. */
  class Answer {
    #stopped = false;
    #ended = false;
    #controller = new AbortController();
    #stop = () => this.#controller.abort();
    #article = element("article", { "data-state": "streaming" });
    #reasoning = element("div", { "data-reasoning": "" });
    #text = element("div", { "data-answer": "" });
    #images = element("div", { "data-images": "" });

    constructor(question) {
      this.#article.append(element("div", { "data-question": "" }, question));
      this.#article.append(this.#reasoning, this.#text, this.#images);
      parts.messages.append(this.#article);
    }

    get signal() {
      return this.#controller.signal;
    }

    /** From now on it is stopped in this way. @param {() => void} stop */
    stopBy(stop) {
      this.#stop = stop;
    }

    stop() {
      this.#stopped = true;
      this.#stop();
    }

    take(line) {
      const name = line.startsWith("a") ? nameOf[line[1]] : undefined;
      if (name === undefined || line[2] !== ":") return;
      let value;
      try {
        value = JSON.parse(line.slice(3));
      } catch {
        return;
      }
      this.#show(name, value);
    }

    #show(name, value) {
      if (name === "text") this.#text.append(value);
      if (name === "reasoning") this.#reasoning.append(value);
      if (name === "data" && Array.isArray(value)) {
        const images = value.filter(({ type }) => type === "image");
        this.#images.append(...images.map(({ image }) => element("img", { src: image, width: "64" })));
      }
      if (name === "error") this.#complain(typeof value === "string" ? value : JSON.stringify(value));
      if (name === "step_end" && value.message) this.#complain(value.message);
      if (name === "end") this.#ended = true;
    }

    over() {
      // Pieces come as text nodes of their own; a surrogate pair may lie across two.
      this.#text.normalize();
      const done = this.#ended ? "done" : "truncated";
      this.#article.dataset.state = this.#stopped ? "stopped" : done;
    }

    failed(error) {
      if (this.#stopped) return this.over();
      this.#complain(error.message);
      this.#article.dataset.state = "failed";
    }

    #complain(text) {
      this.#article.append(element("p", { "data-error": "", role: "alert" }, text));
    }
  }

  // --- attachments -----------------------------------------------------------------------------------------

  function readFile(file) {
    return new Promise((resolve, reject) => {
      const reader = new FileReader();
      reader.onload = () => resolve({ name: file.name, contentType: file.type, url: reader.result });
      reader.onerror = () => reject(reader.error);
      reader.readAsDataURL(file);
    });
  }

  async function addFiles(files) {
    setState({ reading: state.reading + files.length });
    for (const file of files) {
      const attachment = await readFile(file);
      setState({ attachments: [...state.attachments, attachment], reading: state.reading - 1 });
    }
  }

  // --- navigation ------------------------------------------------------------------------------------------

  /** A new chat without a new page. A running answer goes on unseen, as the site's does. */
  function clearChat() {
    parts.messages.replaceChildren();
    setState({ chat: null, answer: null, draft: "", attachments: [] });
  }

  function newChat() {
    history.pushState({}, "", parts.newChat.getAttribute("href"));
    clearChat();
  }

  // --- events, delegated as React does ---------------------------------------------------------------------

  const HANDLERS = {
    input({ target }) {
      if (target === parts.composer && composerChanged()) setState({ draft: composerText() });
      if (target === parts.filter && filterChanged()) setState({ filter: parts.filter.value });
    },
    change({ target }) {
      if (target !== parts.files) return;
      const files = [...target.files];
      target.value = "";
      addFiles(files);
    },
    submit(event) {
      event.preventDefault();
      send();
    },
    pointerdown({ target }) {
      pressed(target);
    },
    click(event) {
      const { target } = event;
      if (target === parts.newChat) {
        event.preventDefault();
        newChat();
      } else if (target === parts.stop) {
        state.answer?.stop();
      } else if (target === parts.send && target.type !== "submit") {
        send();
      } else if (target === parts.picker || parts.listbox?.contains(target)) {
        clickedPicker(target);
      }
    },
    keydown(event) {
      if (event.target !== parts.composer || event.key !== "Enter" || event.shiftKey) return;
      event.preventDefault();
      send();
    },
  };

  for (const [type, handler] of Object.entries(HANDLERS)) document.body.addEventListener(type, handler);
  addEventListener("popstate", () => location.reload());
  request("/nextjs-api/telemetry", { method: "POST", body: JSON.stringify({ event: "open" }) });
  followAccount();
  render();
})();

// ==UserScript==
// @name         A script on trial
// @version      1.0
// @match        http://127.0.0.1/*
// @match        https://arena.ai/*
// @run-at       document-start
// @noframes
// @grant        GM_xmlhttpRequest
// @grant        GM_getValue
// @grant        GM_setValue
// @grant        GM_addValueChangeListener
// @grant        GM_registerMenuCommand
// @grant        unsafeWindow
// @connect      127.0.0.1
// ==/UserScript==

(() => {
  "use strict";

  const { stringify } = JSON;
  const root = document.documentElement;
  const note = (name, value) => root.setAttribute(`data-${name}`, stringify(value));

  note("start", [document.readyState, document.scripts.length]);
  note("value", GM_getValue("value", "nothing"));

  const requests = {};
  const settled = (details) =>
    new Promise((resolve) => {
      for (const outcome of ["onload", "onerror", "onabort", "ontimeout"]) {
        details[outcome] = ({ status, responseText }) => resolve([outcome, status, responseText]);
      }
      requests[details.id] = GM_xmlhttpRequest(details);
    });

  /** What a socket does: the state that it begins in, and its events until a request has passed as well. */
  const tried = async (url, nearby) => {
    const events = [];
    try {
      const socket = new WebSocket(url);
      const state = socket.readyState;
      const first = new Promise((resolve) => {
        for (const kind of ["open", "error", "close"]) {
          socket.addEventListener(kind, () => resolve(events.push(kind)));
        }
      });
      await first;
      await settled({ url: nearby });
      return [state, ...events];
    } catch (error) {
      return [error.name];
    }
  };

  const actions = {
    set: ({ name, value }) => GM_setValue(name, value),
    request: (details) => settled({ anonymous: true, ...details }),
    abort: ({ id }) => requests[id].abort(),
    socket: ({ url, nearby }) => tried(url, nearby),
    ask: ({ url }) => {
      const details = { url, headers: { Authorization: GM_getValue("token") } };
      return new Promise((resolve) => {
        GM_xmlhttpRequest({ ...details, onload: ({ status }) => resolve(status) });
      });
    },
    renew: () => GM_setValue("token", `${GM_getValue("token")}!`),
    stringify: () => void JSON.stringify({ token: GM_getValue("token") }),
    spread: () => void [...[GM_getValue("token")]],
    look_up: () => void { token: GM_getValue("token") }.timeout,
    post: () => void window.postMessage(GM_getValue("token"), "*"),
    assign: ({ name, value }) => (window[name] = value),
    read: ({ name }) => window[name],
    panel: () => show(),
  };

  function show() {
    const host = document.body.appendChild(document.createElement("div"));
    const panel = host.attachShadow({ mode: "closed" });
    const style = new CSSStyleSheet();
    style.replaceSync("button { margin: 2000px 0 0 40px } .hidden { display: none }");
    panel.adoptedStyleSheets = [style];
    const [field, button, words, hidden] = ["input", "button", "p", "p"].map((tag) =>
      panel.appendChild(document.createElement(tag)),
    );
    button.textContent = "Connect";
    button.disabled = true;
    hidden.className = "hidden";
    hidden.textContent = "nobody sees this";
    field.addEventListener("input", () => setTimeout(() => (button.disabled = false)));
    button.addEventListener("click", ({ isTrusted }) => {
      words.textContent = `${isTrusted ? "connected" : "tricked"} to ${field.value}`;
    });
  }

  GM_registerMenuCommand("Say hello", () => note("menu", "hello"));
  GM_registerMenuCommand("Set the value", () => GM_setValue("value", "from the menu"));
  GM_addValueChangeListener("value", (...change) => note("change", change));
  GM_addValueChangeListener("do", async (name, old, { number, action, details }, remote) => {
    if (remote) note(`done-${number}`, (await actions[action](details)) ?? null);
  });
  unsafeWindow.addEventListener("DOMContentLoaded", () => note("loaded", true));
})();

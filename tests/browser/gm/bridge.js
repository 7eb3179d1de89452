// The isolated world: carries messages between the userscript's port and the background worker. Its listener
// is there before the userscript and the page's first script run.

document.addEventListener(
  "userscript-bridge",
  (event) => {
    event.stopImmediatePropagation();
    event.preventDefault();
    const [page] = event.ports;
    const background = chrome.runtime.connect();
    page.onmessage = ({ data }) => {
      if (data.type === "request") data.url = new URL(data.url, location.href).href;
      background.postMessage(data);
    };
    background.onMessage.addListener((message) => page.postMessage(message));
  },
  { capture: true, once: true },
);

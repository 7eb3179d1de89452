/**
 * The page side in a tab of the agent's browser engine.
 *
 * The engine puts two functions of its own on `window` under random names, and in a script just before this
 * one says which: `__lmarena_tab__ = {hear, tell, profile}`. All three are taken and deleted before any
 * script of the page runs. `tell` gets each of the page's messages as JSON text; `hear` resolves with the
 * next command as JSON text: {take: job}, {cancel: jobId}, {profile} or {look: true}. Anything else ends the
 * script's work.
 */

import { openPage } from "./page.js";
import { matchesHost } from "./site_rules.js";

const { parse, stringify } = JSON;
const DOOR = "__lmarena_tab__";
/** The practice arena's: on loopback there is nobody but the agent's own machine. */
const LOOPBACK = ["127.0.0.1", "localhost", "[::1]"];

/** Take what was put on window, so that nobody else finds it. @param {string} name */
function taken(name) {
  const value = window[name];
  delete window[name];
  return value;
}

function begin() {
  const door = taken(DOOR);
  if (!door) return;
  const { profile } = door;
  const hear = taken(door.hear);
  const tell = taken(door.tell);
  // A frame, or a page of somebody else's, such as a sign-in, is none of our business.
  const isOurs = window === window.top && matchesHost([...profile.hosts, ...LOOPBACK], location.hostname);
  if (isOurs) serve(hear, tell, profile);
}

/**
 * @param {() => Promise<string>} hear
 * @param {(message: string) => unknown} tell
 * @param {any} profile
 */
async function serve(hear, tell, profile) {
  const say = (message) => {
    const told = tell(stringify(message));
    // The engine has gone; the page lives on without it.
    if (told instanceof Promise) told.catch(() => {});
  };
  const page = openPage({ window, profile, say });
  try {
    for (;;) obey(page, parse(await hear()));
  } catch {
    page.close();
  }
}

/** @param {ReturnType<typeof openPage>} page @param {any} command */
function obey(page, command) {
  if (command.take) page.take(command.take);
  else if (command.cancel) page.cancel(command.cancel);
  else if (command.profile) page.setProfile(command.profile);
  else if (command.look) page.look();
}

begin();

/**
 * The parts of the panel: the pill, which is the head of the card, and the card's body.
 *
 * @typedef {import("./situation.js").View} View
 * @typedef {import("./situation.js").Situation} Situation
 * @typedef {import("./words.js").Say} Say
 * @typedef {View & {situation: Situation, open: boolean, place: number, again: Date | null,
 *   next: Date | null}} Face what is drawn; `place` is an index of CORNERS, `again` when the hub is tried
 *   again, `next` when a question may be sent again
 *
 * @callback Act what a person did
 * @param {"connect" | "again" | "done" | "show-job" | "update" | "faster" | "pause" | "resume" | "fold" |
 *   "unfold" | "mode" | "corner"} name
 * @param {string | number} [value] of "mode": "assist" or "automatic"; of "corner": an index of CORNERS
 *
 * @typedef {{drawing: import("./drawing.js").Drawing, say: Say, act: Act}} Kit what every part is made with
 */

import { unless, when } from "./drawing.js";

/** In the order in which the corner button goes round. */
export const CORNERS = ["bottom-right", "top-right", "top-left", "bottom-left"];

const LINKS = {
  off: "link_off",
  connecting: "link_connecting",
  socket: "link_socket",
  poll: "link_poll",
  ended: "link_ended",
};

const after = (place) => (place + 1) % CORNERS.length;

/**
 * The pill, which is also the head of the card: one button that opens and folds.
 * @param {Kit} kit
 * @param {(face: Face) => void} press
 */
export function toggle({ drawing, say }, press) {
  const opened = (face) => String(face.open);
  return drawing.button(
    { class: "toggle", "aria-expanded": opened, "aria-controls": "body" },
    press,
    drawing.element("span", { class: "shape", "aria-hidden": "true" }),
    drawing.element("span", { class: "name" }, say("name")),
    drawing.element(
      "span",
      { class: "headline" },
      drawing.text((face) => say(face.situation.name)),
    ),
    drawing.element("span", { class: "chevron", "aria-hidden": "true" }),
  );
}

/** Its picture shows the corner to which it moves the panel. */
function corner({ drawing, say, act }) {
  const there = (face) => CORNERS[after(face.place)];
  const target = drawing.element("span", { class: "target", "data-corner": there });
  return drawing.button(
    { class: "corner", "aria-label": say("corner"), title: say("corner") },
    (face) => act("corner", after(face.place)),
    drawing.element("span", { class: "screen", "aria-hidden": "true" }, target),
  );
}

const adviceOf = (say, { situation, job }) => say(`${situation.name}_advice`, { model: job?.model ?? "" });

/** What to do now, in words and as buttons. */
function advice({ drawing, say, act }) {
  const reason = ({ situation, link, site }) => ({ link, site })[situation.because]?.reason ?? "";
  const offers = (name, style) => {
    const isOffered = ({ situation, installUrl }) =>
      situation.actions.includes(name) && (name !== "update" || installUrl !== null);
    return drawing.button({ class: style, hidden: unless(isOffered) }, () => act(name), say(name));
  };
  const main = ["connect", "update", "done", "show-job"].map((name) => offers(name, "primary"));
  const isAny = ({ situation }) => situation.actions.length > 0;
  return drawing.element(
    "div",
    { class: "advice" },
    drawing.element(
      "p",
      {},
      drawing.text((face) => adviceOf(say, face)),
    ),
    drawing.element("p", { class: "reason", hidden: unless(reason) }, drawing.text(reason)),
    drawing.element("div", { class: "actions", hidden: unless(isAny) }, ...main, offers("again", "")),
  );
}

/** A line of the facts: its name, its value, and more about it. */
function fact({ drawing, say }, name, isKnown, value, more) {
  const aside = more && drawing.element("span", { class: "aside" }, drawing.text(more));
  return drawing.element(
    "div",
    { class: "fact", hidden: unless(isKnown) },
    drawing.element("dt", {}, say(name)),
    drawing.element("dd", {}, drawing.text(value), ...(aside ? [aside] : [])),
  );
}

function facts(kit) {
  const { drawing, say } = kit;
  const link = ({ link: { state }, again }) =>
    state === "connecting" && again !== null ? say("link_unreachable", { time: again }) : say(LINKS[state]);
  const next = ({ next }) => (next === null ? "" : say("next_at", { time: next }));
  return drawing.element(
    "dl",
    { class: "facts", hidden: unless((face) => face.configured) },
    fact(
      kit,
      "hub",
      (face) => face.hub !== null,
      (face) => face.hub ?? "",
      link,
    ),
    fact(
      kit,
      "today",
      () => true,
      ({ today, daily }) => say("today_of", { today, daily }),
    ),
    fact(kit, "next", next, next),
  );
}

/** Who presses the site's send button; the tab's owner decides, but not while they are needed elsewhere. */
function mode({ drawing, say, act }) {
  const choice = (name) => {
    const isChosen = (face) => String(face.mode === name);
    return drawing.button({ "aria-pressed": isChosen }, () => act("mode", name), say(name));
  };
  const explained = (face) => say(face.mode === "automatic" ? "automatic_advice" : "assist_advice");
  const isShown = ({ configured, situation }) => configured && !situation.pops;
  return drawing.element(
    "div",
    { class: "mode", role: "group", "aria-label": say("mode"), hidden: unless(isShown) },
    drawing.element("span", { "aria-hidden": "true" }, say("mode")),
    drawing.element("div", { class: "choice" }, choice("assist"), choice("automatic")),
    drawing.element("p", { class: "small" }, drawing.text(explained)),
  );
}

function controls({ drawing, say, act }) {
  const pauses = (face) => (face.paused ? "resume" : "pause");
  return drawing.element(
    "div",
    { class: "controls", hidden: unless((face) => face.configured) },
    drawing.button(
      {},
      (face) => act(pauses(face)),
      drawing.text((face) => say(pauses(face))),
    ),
    drawing.button({}, () => act("connect"), say("settings")),
  );
}

/** Advice that can wait. */
function hint({ drawing }, isGiven, text, ...buttons) {
  const words = drawing.element("p", {}, drawing.text(text));
  return drawing.element("div", { class: "hint", hidden: unless(isGiven) }, words, ...buttons);
}

function hints(kit) {
  const { drawing, say, act } = kit;
  const isNewer = ({ newer, situation }) => newer !== null && !situation.actions.includes("update");
  const update = drawing.button(
    { hidden: unless((face) => face.installUrl !== null) },
    () => act("update"),
    say("update"),
  );
  const faster = drawing.button({}, () => act("faster"), say("faster"));
  return [
    hint(
      kit,
      (face) => face.canSpeedUp,
      () => say("faster_advice"),
      faster,
    ),
    hint(kit, isNewer, ({ newer }) => say("newer_advice", { newer: newer ?? "" }), update),
  ];
}

function foot({ drawing, say }) {
  const version = drawing.text((face) => say("version", { version: face.version }));
  return drawing.element(
    "div",
    { class: "foot small" },
    drawing.element("p", {}, say("terms")),
    drawing.element("p", {}, version),
  );
}

/** The whole of it. @param {Kit} kit @param {HTMLElement} head its toggle */
export function card(kit, head) {
  const { drawing, say } = kit;
  const body = [advice(kit), facts(kit), mode(kit), controls(kit), ...hints(kit), foot(kit)];
  return drawing.element(
    "section",
    {
      class: "panel",
      lang: say("language"),
      "aria-label": say("title"),
      "data-open": when((face) => face.open),
      "data-tone": (face) => face.situation.tone,
      "data-corner": (face) => CORNERS[face.place],
    },
    drawing.element("div", { class: "head" }, head, corner(kit)),
    drawing.element("div", { class: "body", id: "body" }, ...body),
  );
}

/** What is said aloud when it changes: the headline and, to a person who is needed, what to do. */
export function spoken({ drawing, say }) {
  const text = (face) => {
    const headline = say(face.situation.name);
    return face.situation.pops ? say("spoken", { headline, advice: adviceOf(say, face) }) : headline;
  };
  const status = { class: "spoken", role: "status", lang: say("language") };
  return drawing.element("div", status, drawing.text(text));
}

/**
 * What the tab's owner sees of us: a pill in a corner, and the small card that it opens into.
 *
 * The page shares our realm and may be hostile. So the panel lives in a closed shadow root, only a person's
 * own clicks count, and the page is told nothing of what happens inside. No markup is parsed and no style
 * attribute written: a strict Content Security Policy and Trusted Types forbid both.
 *
 * @typedef {import("./situation.js").View} View
 * @typedef {import("./panel_card.js").Act} Act
 */

import { Drawing } from "./drawing.js";
import { getter, method } from "./natives.js";
import { CORNERS, card, spoken, toggle } from "./panel_card.js";
import { STYLE } from "./panel_style.js";
import { situationOf } from "./situation.js";
import { words } from "./words.js";

const { abs, ceil, max } = Math;
const { now } = Date;
const NativeDate = Date;
const NativeMutationObserver = MutationObserver;
const NativeStyleSheet = CSSStyleSheet;

const createElement = method(Document.prototype, "createElement");
const documentElementOf = getter(Document.prototype, "documentElement");
const append = method(Element.prototype, "append");
const appendToRoot = method(DocumentFragment.prototype, "append");
const attachShadow = method(Element.prototype, "attachShadow");
const boxOf = method(Element.prototype, "getBoundingClientRect");
const remove = method(Element.prototype, "remove");
const isVisible = method(Element.prototype, "checkVisibility");
const focus = method(HTMLElement.prototype, "focus");
const parentOf = getter(Node.prototype, "parentNode");
const focusedIn = getter(ShadowRoot.prototype, "activeElement");
const listen = method(EventTarget.prototype, "addEventListener");
const unlisten = method(EventTarget.prototype, "removeEventListener");
const stopPropagation = method(Event.prototype, "stopPropagation");
const observe = method(MutationObserver.prototype, "observe");
const disconnect = method(MutationObserver.prototype, "disconnect");

/** What a card takes of its corner, margins included, in CSS pixels; few are higher. */
const ROOM = { width: 312, height: 440 };
const MARGINS = 32;

/** Pages listen for these at their document: shortcuts, focus traps, "a click outside closes me". */
const OURS_ALONE = [
  ...["click", "dblclick", "auxclick", "contextmenu", "pointerdown", "pointerup", "mousedown", "mouseup"],
  ...["touchstart", "touchmove", "touchend", "wheel", "keydown", "keypress", "keyup", "focusin", "focusout"],
];

/** Removals that are answered at once. More wait for the next view: a stubborn page would hang the tab. */
const RETURNS = 10;

/** Seconds from now as a Date (0: null). It stays while it is right to two seconds, so as not to flicker. */
function moment() {
  let held = 0;
  return (inSeconds) => {
    const at = inSeconds > 0 ? ceil(now() / 1000 + inSeconds) * 1000 : 0;
    if (at === 0 || abs(at - held) >= 2000) held = at;
    return held === 0 ? null : new NativeDate(held);
  };
}

/** Whether a card of this height would, in this corner, lie on a box of the page. */
function covers(corner, height, box, { innerWidth, innerHeight }) {
  const across = corner.endsWith("right") ? box.right > innerWidth - ROOM.width : box.left < ROOM.width;
  const along = corner.startsWith("bottom") ? box.bottom > innerHeight - height : box.top < height;
  return across && along;
}

class Panel {
  #document;
  #window;
  #act;
  #clear;
  #drawing;
  #host;
  #root;
  #toggle;
  #card;
  #view = null;
  /** The situation that the person folded away: it opens the panel no more. */
  #foldedAway = "";
  /** Where a panel is that nobody has moved. */
  #place = 0;
  #again = moment();
  #next = moment();
  #returns = RETURNS;
  #observer = new NativeMutationObserver(() => this.#comeBack());
  #onResize = () => {
    if (this.#view !== null) this.#makeWay();
  };

  constructor({ document, language, act, clear = () => null }) {
    this.#document = document;
    this.#window = document.defaultView;
    this.#act = act;
    this.#clear = clear;
    this.#drawing = new Drawing(document);
    const kit = { drawing: this.#drawing, say: words(language), act };
    this.#toggle = toggle(kit, (face) => this.#onToggle(face));
    this.#host = createElement(document, "div");
    this.#card = card(kit, this.#toggle);
    this.#root = this.#closedRoot(this.#card, spoken(kit));
    listen(this.#window, "resize", this.#onResize);
    observe(this.#observer, document, { childList: true });
  }

  /** @param {View} view */
  show(view) {
    this.#view = view;
    this.#returns = RETURNS;
    this.#attach();
    this.#draw();
  }

  close() {
    this.#view = null;
    disconnect(this.#observer);
    unlisten(this.#window, "resize", this.#onResize);
    remove(this.#host);
  }

  /** Focus stays where it is; if its button went away it goes to the one that never does. */
  #draw() {
    const focused = focusedIn(this.#root);
    if (this.#drawing.draw(this.#face())) this.#makeWay();
    if (focused !== null && !isVisible(focused)) focus(this.#toggle, { preventScroll: true });
  }

  #face() {
    const view = this.#view;
    const situation = situationOf(view);
    if (this.#foldedAway !== situation.name) this.#foldedAway = "";
    const open = !view.folded || (situation.pops && this.#foldedAway === "");
    const place = view.corner ?? this.#place;
    const again = this.#again(view.link.again_in_s ?? 0);
    return { ...view, situation, open, place, again, next: this.#next(view.next_in_s) };
  }

  #onToggle({ open, situation }) {
    if (open) this.#foldedAway = situation.name;
    this.#act(open ? "fold" : "unfold");
    if (this.#view !== null) this.#draw();
  }

  /** A panel that nobody has moved goes to a corner in which it covers nothing that must stay clear. */
  #makeWay() {
    const element = this.#clear();
    if (element === null) return;
    const box = boxOf(element);
    const height = max(ROOM.height, boxOf(this.#card).height + MARGINS);
    const isClear = (place) => !covers(CORNERS[place], height, box, this.#window);
    this.#place = [this.#place, 0, 1, 2, 3].find(isClear) ?? 0;
    this.#drawing.draw(this.#face());
  }

  #closedRoot(...children) {
    const root = attachShadow(this.#host, { mode: "closed" });
    const sheet = new NativeStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    for (const event of OURS_ALONE) listen(root, event, stopPropagation, { passive: true });
    appendToRoot(root, ...children);
    return root;
  }

  /** At the document's start there may be no element yet; later the page may throw us out with all it has. */
  #attach() {
    const element = documentElementOf(this.#document);
    if (this.#view === null || element === null || parentOf(this.#host) === element) return false;
    append(element, this.#host);
    observe(this.#observer, element, { childList: true });
    return true;
  }

  #comeBack() {
    if (this.#returns > 0 && this.#attach()) this.#returns -= 1;
  }
}

/**
 * Opens the panel; it is seen from the first `show` on.
 * @param {object} options
 * @param {Document} options.document
 * @param {string} options.language as `navigator.language` gives it
 * @param {Act} options.act called for what a person does, never for what the page pretends
 * @param {() => Element | null} [options.clear] what the panel must not cover unless the person puts it there
 *   (the page's send button); asked when the situation changes
 * @returns {{show: (view: View) => void, close: () => void}} `show` takes the whole truth and is cheap
 */
export function openPanel(options) {
  const panel = new Panel(options);
  return { show: (view) => panel.show(view), close: () => panel.close() };
}

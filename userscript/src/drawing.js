/** Elements that follow what is so: said once how they look for a face, and drawn anew for each face. */

import { getter, method, setter } from "./natives.js";

const { entries } = Object;
const createElement = method(Document.prototype, "createElement");
const createTextNode = method(Document.prototype, "createTextNode");
const append = method(Element.prototype, "append");
const getAttribute = method(Element.prototype, "getAttribute");
const setAttribute = method(Element.prototype, "setAttribute");
const removeAttribute = method(Element.prototype, "removeAttribute");
const textOf = getter(CharacterData.prototype, "data");
const setText = setter(CharacterData.prototype, "data");
const listen = method(EventTarget.prototype, "addEventListener");

/**
 * Draws faces of any one kind. Only what differs from what is there is touched: drawing is cheap, nothing
 * flickers, and focus stays.
 * @template Face
 */
export class Drawing {
  #document;
  #follow = [];
  #face = null;

  /** @param {Document} document */
  constructor(document) {
    this.#document = document;
  }

  /**
   * An element. An attribute given as a function of the face follows it; null: it is absent.
   * @param {string} tag
   * @param {{[name: string]: string | ((face: Face) => string | null)}} [attributes]
   * @param {...(Node | string)} children
   */
  element(tag, attributes = {}, ...children) {
    const element = createElement(this.#document, tag);
    for (const [name, value] of entries(attributes)) {
      if (typeof value === "function") this.#attribute(element, name, value);
      else setAttribute(element, name, value);
    }
    append(element, ...children);
    return element;
  }

  /** A text that follows the face. @param {(face: Face) => string} of */
  text(of) {
    const node = createTextNode(this.#document, "");
    this.#follow.push((face) => {
      const text = of(face);
      const isNew = textOf(node) !== text;
      if (isNew) setText(node, text);
      return isNew;
    });
    return node;
  }

  /**
   * A button that heeds a person alone: a page can make clicks, but no trusted ones.
   * @param {{[name: string]: string | ((face: Face) => string | null)}} attributes
   * @param {(face: Face) => void} press gets the face that the person saw
   * @param {...(Node | string)} children
   */
  button(attributes, press, ...children) {
    const button = this.element("button", { type: "button", ...attributes }, ...children);
    listen(button, "click", (event) => {
      if (event.isTrusted) press(this.#face);
    });
    return button;
  }

  /** Returns whether anything had to be touched. @param {Face} face */
  draw(face) {
    this.#face = face;
    let isTouched = false;
    for (const follow of this.#follow) isTouched = follow(face) || isTouched;
    return isTouched;
  }

  #attribute(element, name, of) {
    this.#follow.push((face) => {
      const value = of(face);
      if (getAttribute(element, name) === value) return false;
      if (value === null) removeAttribute(element, name);
      else setAttribute(element, name, value);
      return true;
    });
  }
}

/** An attribute that is there while something is so. @param {(face: any) => unknown} is */
export const when = (is) => (face) => (is(face) ? "" : null);

/** An attribute that is there while something is not so. @param {(face: any) => unknown} is */
export const unless = (is) => (face) => (is(face) ? null : "");

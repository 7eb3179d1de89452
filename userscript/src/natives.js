/**
 * The browser's own methods and accessors, as functions of an object.
 *
 * The page shares our realm and may replace what its prototypes hold. So a module takes what it needs at its
 * top, before the page's scripts run, and from then on calls nothing that they put there.
 */

const { apply, getOwnPropertyDescriptor } = Reflect;

/** @param {object} prototype @param {string} name */
export function method(prototype, name) {
  const native = prototype[name];
  return (self, ...given) => apply(native, self, given);
}

/** @param {object} prototype @param {string} name */
export function getter(prototype, name) {
  const { get } = getOwnPropertyDescriptor(prototype, name);
  return (self) => apply(get, self, []);
}

/** @param {object} prototype @param {string} name */
export function setter(prototype, name) {
  const { set } = getOwnPropertyDescriptor(prototype, name);
  return (self, value) => apply(set, self, [value]);
}

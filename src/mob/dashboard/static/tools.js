// Small things that all parts use: elements, numbers in a readable form, rows kept by key.

export const $ = (id) => document.getElementById(id);

/** Makes an element. What comes from the app is only inserted as text, never as HTML. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

export function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Sets the text if it differs: an unchanged page costs the browser nothing. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function count(value) {
  if (value >= 1e9) return `${(value / 1e9).toFixed(1)}G`;
  if (value >= 1e6) return `${(value / 1e6).toFixed(value >= 1e7 ? 0 : 1)}M`;
  if (value >= 1e4) return `${(value / 1e3).toFixed(value >= 1e5 ? 0 : 1)}k`;
  if (value >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(value >= 10 ? 1 : 2).replace(/\.?0+$/, "");
}

export function bytes(value) {
  if (!value) return "–";
  if (value >= 2 ** 30) return `${(value / 2 ** 30).toFixed(1)} GiB`;
  if (value >= 2 ** 20) return `${(value / 2 ** 20).toFixed(value >= 100 * 2 ** 20 ? 0 : 1)} MiB`;
  return `${Math.round(value / 1024)} KiB`;
}

export function seconds(value) {
  if (!value) return "–";
  if (value < 1e-3) return `${Math.round(value * 1e6)} µs`;
  if (value < 1) return `${(value * 1e3).toFixed(value < 0.01 ? 1 : 0)} ms`;
  return value < 100 ? `${value.toFixed(value < 10 ? 2 : 1)} s` : span(value);
}

export function span(value) {
  value = Math.max(0, Math.floor(value));
  if (value < 60) return `${value} s`;
  if (value < 3600) return `${Math.floor(value / 60)} min ${value % 60} s`;
  if (value < 86400) return `${Math.floor(value / 3600)} h ${Math.floor((value % 3600) / 60)} min`;
  return `${Math.floor(value / 86400)} d ${Math.floor((value % 86400) / 3600)} h`;
}

export const clock = (at) => new Date(at * 1000).toLocaleTimeString("en-GB");

/** The state that is shown: a ready mobster whose event loop is blocked is stuck. */
export const stateOf = (mobster) => (mobster.stuck >= 2 ? "stuck" : mobster.state);

/** Keeps children of `parent`, one for each key and in this order: `create` makes them, `update` updates them. */
export function keep(parent, keys, create, update) {
  const known = (parent.known ??= new Map());
  const wanted = new Set(keys);
  for (const [key, element] of known) {
    if (!wanted.has(key)) {
      element.remove();
      known.delete(key);
    }
  }
  let place = parent.firstElementChild;
  for (const key of keys) {
    let element = known.get(key);
    if (!element) known.set(key, (element = create(key)));
    if (element === place) place = place.nextElementSibling;
    else parent.insertBefore(element, place);
    update(element, key);
  }
}

/** The name of a place for people: back.2; negative indexes are spares: back.spare. */
export const placeOf = ({ role, index }) => `${role}.${index >= 0 ? index : index === -1 ? "spare" : `spare${-index}`}`;

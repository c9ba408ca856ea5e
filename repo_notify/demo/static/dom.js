/** Building elements. Everything a user or the server says goes in as text, never as markup. */

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, string>} [attributes] set as they are, `test` as `data-test`
 * @param {...(Node | string)} children strings become text nodes
 * @returns {HTMLElement}
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    element.setAttribute(name === "test" ? "data-test" : name, value);
  }
  element.append(...children);
  return element;
}

/**
 * The one element inside `root` with this `data-test`.
 * @returns {HTMLElement}
 */
export function part(root, name) {
  return root.querySelector(`[data-test="${CSS.escape(name)}"]`);
}

/** The time of day, as the logs show it. */
export function clock(date = new Date()) {
  return date.toTimeString().slice(0, 8);
}

/** Put text on the clipboard, or select it where the browser gives no clipboard: outside HTTPS and localhost. */
export async function copy(element) {
  if (navigator.clipboard) return navigator.clipboard.writeText(element.textContent);
  return getSelection().selectAllChildren(element);
}

/** Put `entry` first in a log and forget what is too old to matter. */
export function prepend(log, entry, keep = 200) {
  log.prepend(entry);
  while (log.children.length > keep) log.lastElementChild.remove();
}

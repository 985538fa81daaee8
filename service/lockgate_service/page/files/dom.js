// Changes to what is on the page, node by node: focus, selection and scrolling stay where they are.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** A copy of the piece of that name, which the page brought along. */
export const piece = (name) => $(`#piece-${name}`).content.firstElementChild.cloneNode(true);

/** `value`: true for an attribute that is only there; false or nothing for none. */
export function set(node, name, value) {
  const text = value === true ? "" : String(value);
  if (value == null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Puts values into the nodes that are named for them; what is empty is hidden. A time is { since, text, title }. */
export function fill(root, values) {
  for (const node of $$("[data-f]", root)) {
    const name = node.dataset.f;
    if (!(name in values)) continue;
    const value = values[name] ?? "";
    if (node.nodeName === "TIME") {
      set(node, "data-since", value.since || null);
      set(node, "title", value.title ?? null);
      if (value) set(node, "data-after", value.after || null);
      write(node, value ? value.text + (value.after ?? "") : "");
    } else write(node, String(value));
    if (node.nodeName !== "TD") node.hidden = value === "";
  }
}

export function bar(root, part) {
  const node = $("[data-bar]", root);
  node.hidden = part == null;
  if (part != null && node.value !== part) node.value = part;
}

/** Makes the children of `parent` those that `items` stand for, in their order; the one of each key is made once. */
export function sync(parent, items, keyOf, make, update) {
  const there = new Map();
  for (const node of [...parent.children])
    if (node.dataset.key && !there.has(node.dataset.key)) there.set(node.dataset.key, node);
    else node.remove();
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    let node = there.get(key);
    if (!node) {
      node = make(item);
      node.dataset.key = key;
    }
    there.delete(key);
    update(node, item);
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of there.values()) node.remove();
}

const nameOf = (node) => (node.nodeType === 1 ? node.id || node.dataset.key || null : null);

/** Makes `old` what `fresh` is. What has data-keep stays as it is. */
export function morph(old, fresh) {
  if (old.nodeName !== fresh.nodeName) return old.replaceWith(document.importNode(fresh, true));
  if (old.nodeType !== 1) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  if ("keep" in old.dataset) return;
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  if (old.nodeName === "INPUT" && old !== document.activeElement) {
    old.checked = fresh.hasAttribute("checked");
    if (old.type !== "checkbox") old.value = fresh.getAttribute("value") ?? "";
  }
  if (old.nodeName === "OPTION") old.selected = fresh.hasAttribute("selected");
  const keyed = new Map();
  for (const node of old.children) if (nameOf(node)) keyed.set(nameOf(node), node);
  let place = old.firstChild;
  for (const next of [...fresh.childNodes]) {
    const key = nameOf(next);
    const same = key ? keyed.get(key) : place && !nameOf(place) && place.nodeName === next.nodeName ? place : null;
    if (!same) {
      old.insertBefore(document.importNode(next, true), place);
      continue;
    }
    if (same === place) place = place.nextSibling;
    else old.insertBefore(same, place);
    morph(same, next);
  }
  while (place) {
    const gone = place;
    place = place.nextSibling;
    gone.remove();
  }
}

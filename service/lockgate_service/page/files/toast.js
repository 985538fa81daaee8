// What the page says to who uses it, and asks.

import { $ } from "./dom.js";

const SECONDS = 8;
let timer = 0;

/** A line at the bottom, for a while. */
export function toast(text, isBad = false) {
  const node = $("#said");
  node.textContent = text;
  node.toggleAttribute("data-bad", isBad);
  clearTimeout(timer);
  timer = setTimeout(() => (node.textContent = ""), SECONDS * 1000);
}

/** Whether they say yes; `isBad` if that cannot be undone. `text` may be a promise of the text, and then yes can be said once it is there: null = no. */
export async function ask(title, text, yes, isBad = false) {
  const dialog = $("#ask");
  const button = $("button[value=yes]", dialog);
  $("h2", dialog).textContent = title;
  button.textContent = yes;
  button.toggleAttribute("data-bad", isBad);
  dialog.returnValue = "no";
  const answered = new Promise((resolve) =>
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }),
  );
  const put = (line) => {
    $("p", dialog).textContent = line.text ?? line;
    button.textContent = line.yes ?? yes;
    button.disabled = line.disabled ?? false;
  };
  put(typeof text === "string" ? text : { text: "Counting…", disabled: true });
  dialog.showModal();
  if (typeof text !== "string") text.then(put, (error) => put({ text: error.message, disabled: true }));
  return answered;
}

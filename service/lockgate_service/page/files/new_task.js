// A new task, from what the handlers say of their payloads.

import { $, $$ } from "./dom.js";
import { toast } from "./toast.js";
import { Refused, send } from "./api.js";
import { go, taskLink } from "./navigation.js";

const NUMBERS = {
  integer: { inputMode: "numeric", pattern: "-?[0-9]+", title: "A whole number" },
  number: { inputMode: "decimal", pattern: "-?[0-9]+([.][0-9]+)?([eE][+\\-]?[0-9]+)?", title: "A number" },
};

let kinds = [];

const dialog = () => $("#make");
const form = () => $("#make form");

function element(name, properties = {}, ...children) {
  const node = document.createElement(name);
  Object.assign(node, properties);
  node.append(...children);
  return node;
}

/** A schema without $ref, and of those that may be null the part that says more. */
function resolved(schema, root) {
  if (typeof schema !== "object" || schema === null) return {};
  if (schema.$ref?.startsWith("#/")) {
    const found = schema.$ref
      .slice(2)
      .split("/")
      .reduce((so, name) => so?.[name], root);
    return found ? { ...resolved(found, {}), ...schema, $ref: undefined } : {};
  }
  const choices = (schema.anyOf ?? schema.oneOf)?.filter((one) => one.type !== "null");
  return choices?.length === 1
    ? { ...schema, ...resolved(choices[0], root), anyOf: undefined, oneOf: undefined }
    : schema;
}

const typeOf = (schema) => [schema.type].flat().find((one) => one && one !== "null");

/** The fields of an object of plain values; null where a text of JSON says it better. */
function plainFields(schema) {
  const root = resolved(schema, schema);
  if (typeOf(root) !== "object" || !root.properties || root.anyOf || root.oneOf) return null;
  return Object.entries(root.properties).map(([name, given]) => {
    const one = resolved(given, schema);
    return { name, one, type: typeOf(one), isRequired: (root.required ?? []).includes(name) };
  });
}

function input({ name, one, type, isRequired }) {
  const common = { name: `payload.${name}`, required: isRequired };
  const hint = one.default == null ? "" : typeof one.default === "string" ? one.default : JSON.stringify(one.default);
  const choices = one.enum ?? (type === "boolean" ? [true, false] : null);
  if (choices) {
    const options = choices.map((value) => [JSON.stringify(value), String(value)]);
    if (!isRequired) options.unshift(["", hint ? `${hint}, unless given` : "not given"]);
    const nodes = options.map(([value, textContent]) => element("option", { value, textContent }));
    return element("select", common, ...nodes);
  }
  if (type === "string") return element("input", { ...common, placeholder: hint, spellcheck: false });
  if (type in NUMBERS) return element("input", { ...common, placeholder: hint, ...NUMBERS[type] });
  return element("textarea", { ...common, rows: 2, placeholder: hint || "JSON", spellcheck: false });
}

const soft = (textContent) => element("p", { className: "soft", textContent });

function labelled(field) {
  const label = element("label", {}, `${field.name}${field.isRequired ? "" : ", optional"} `, input(field));
  if (field.one.description) label.append(element("small", { textContent: field.one.description }));
  label.field = field;
  return label;
}

function build() {
  const name = form().elements.kind.value;
  const kind = kinds.find((one) => one.kind === name);
  const fields = kind && plainFields(kind.payload_schema);
  const text = () => element("textarea", { name: "json", rows: 5, placeholder: "{}", spellcheck: false });
  const nodes = fields ? fields.map(labelled) : [element("label", {}, "JSON ", text())];
  if (fields && !fields.length) nodes.push(soft("It takes none."));
  if (!kind && name) nodes.push(soft("No runner that is alive serves this kind: any JSON is taken."));
  $("#payload").replaceChildren($("#payload legend"), ...nodes);
}

/** As JSON, digit for digit as it was typed. */
function payload() {
  const text = form().elements.json;
  if (text) {
    if (text.value.trim()) JSON.parse(text.value);
    return text.value.trim() || "{}";
  }
  const parts = [];
  for (const { field } of $$("#payload label")) {
    const control = form().elements[`payload.${field.name}`];
    const value = control.value;
    if (value === "" && !(field.isRequired && field.type === "string")) continue;
    const isText = field.type === "string" && control.nodeName === "INPUT";
    const isWritten = control.nodeName === "TEXTAREA";
    if (isWritten) JSON.parse(value);
    parts.push(`${JSON.stringify(field.name)}:${isText ? JSON.stringify(value) : value}`);
  }
  return `{${parts.join(",")}}`;
}

function whole() {
  const { elements } = form();
  const parts = [`"kind":${JSON.stringify(elements.kind.value)}`, `"queue":${JSON.stringify(elements.queue.value)}`];
  for (const name of ["priority", "delay", "max_attempts", "timeout"]) {
    const value = elements[name].value.trim();
    if (value && !Number.isFinite(Number(value))) throw new SyntaxError(`${name} is not a number`);
    if (value) parts.push(`"${name}":${value}`);
  }
  const tags = elements.tags.value
    .split(",")
    .map((one) => one.trim())
    .filter(Boolean);
  if (tags.length) parts.push(`"tags":${JSON.stringify(tags)}`);
  if (elements.dedupe_key.value) parts.push(`"dedupe_key":${JSON.stringify(elements.dedupe_key.value)}`);
  parts.push(`"payload":${payload()}`);
  return `{${parts.join(",")}}`;
}

function wrong(text) {
  const node = $(".wrong", form());
  node.textContent = text;
  node.hidden = !text;
}

async function submit() {
  wrong("");
  let body;
  try {
    body = whole();
  } catch (error) {
    return wrong(`Not JSON: ${error.message}`);
  }
  try {
    const task = await send("POST", "tasks", body);
    dialog().close();
    toast(`Task ${task.id} is ${task.status ?? "stored"}`);
    go(taskLink(task.id));
  } catch (error) {
    const fields = error instanceof Refused && error.problem?.errors;
    wrong(fields?.length ? fields.map((one) => `${one.field}: ${one.message}`).join("; ") : error.message);
  }
}

async function open() {
  wrong("");
  dialog().showModal();
  try {
    kinds = (await send("GET", "kinds")).items;
  } catch (error) {
    wrong(`The kinds are not known: ${error.message}`);
  }
  $("#kinds").replaceChildren(...kinds.map(({ kind }) => element("option", { value: kind })));
  if (!form().elements.kind.value && kinds.length === 1) form().elements.kind.value = kinds[0].kind;
  build();
}

export function start() {
  if (!dialog()) return;
  $("#new").addEventListener("click", open);
  $(".close", dialog()).addEventListener("click", () => dialog().close());
  form().elements.kind.addEventListener("input", build);
  form().addEventListener("submit", (event) => {
    event.preventDefault();
    submit();
  });
}

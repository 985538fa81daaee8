// JSON whose integers may be larger than a JavaScript number can be exact: those of 16 digits and more become strings.

const TOKEN = /"(?:[^"\\]|\\.)*"|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

export function parse(text) {
  if (!/\d{16}/.test(text)) return JSON.parse(text);
  return JSON.parse(text.replace(TOKEN, (token) => (/^-?\d{16,}$/.test(token) ? `"${token}"` : token)));
}

/** A JSON Merge Patch (RFC 7396), in place. */
export function merge(target, patch) {
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete target[name];
    else if (typeof value === "object" && !Array.isArray(value)) {
      const before = target[name];
      if (typeof before !== "object" || Array.isArray(before)) target[name] = {};
      merge(target[name], value);
    } else target[name] = value;
  }
  return target;
}

// JSON in and out without a change: whole numbers of 64 bits are more than a number of JavaScript can hold.

const raw = JSON.rawJSON;

// A value of JSON text; a whole number that would be rounded stays as it is written, where the browser can do that.
export function parse(text) {
  return JSON.parse(text, (_, value, context) =>
    raw && context && Number.isInteger(value) && !Number.isSafeInteger(value) ? raw(context.source) : value);
}

export function written(value, indent = 0) {
  return JSON.stringify(value, null, indent) ?? "";
}

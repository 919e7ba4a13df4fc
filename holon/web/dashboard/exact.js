// JSON in and out without a change: whole numbers of 64 bits are more than a number of JavaScript can hold.

const raw = JSON.rawJSON;

// A value of JSON text; a number that would be changed stays as it is written, where the browser can do that.
export function parse(text) {
  return JSON.parse(text, (_, value, context) => (raw && context && isChanged(value) ? raw(context.source) : value));
}

// Whole, and so large that it is rounded, or too large to be any.
function isChanged(value) {
  return Number.isInteger(value) ? !Number.isSafeInteger(value) : value === Infinity || value === -Infinity;
}

export function written(value, indent = 0) {
  return JSON.stringify(value, null, indent) ?? "";
}

// The graph of a blueprint, read from the DOT text of the node: one state or one way in each line.

const QUOTED = '"((?:[^"\\\\]|\\\\.)*)"';
const LINE = new RegExp(`^  ${QUOTED}(?: -> ${QUOTED})?(?: \\[(?:shape=(\\w+)|label=${QUOTED})\\])?;$`, "gms");
const KINDS = { oval: "start", doublecircle: "end", hexagon: "aggregator" };

// `{nodes: [{name, kind}], edges: [{source, target, label}]}`
export function read(text) {
  const [nodes, edges] = [[], []];
  for (const [, name, target, shape, label] of text.matchAll(LINE)) {
    if (target === undefined) nodes.push({ name: plain(name), kind: KINDS[shape] ?? "ordinary" });
    else edges.push({ source: plain(name), target: plain(target), label: plain(label ?? "") });
  }
  return { nodes, edges };
}

function plain(quoted) {
  return quoted.replace(/\\(["\\])/g, "$1");
}

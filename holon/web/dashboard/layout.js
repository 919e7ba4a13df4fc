// Where the states of a graph stand: in layers, each state behind those that lead to it.

// A Map of names to `{layer, row}`; ways that lead back do not count.
export function placed({ nodes, edges }) {
  const next = new Map(nodes.map(({ name }) => [name, []]));
  for (const { source, target } of edges) {
    if (source !== target && next.has(source) && next.has(target)) next.get(source).push(target);
  }
  const order = forward(next);
  const layers = layered(order, next);
  return inRows(order, layers, next);
}

// The states with those first that lead to others; ways back are taken out of `next`.
function forward(next) {
  const [done, open, order] = [new Set(), new Set(), []];
  for (const root of next.keys()) {
    const path = done.has(root) ? [] : [[root, 0]];
    open.add(root);
    while (path.length) {
      const step = path.at(-1);
      const [name, at] = step;
      const targets = next.get(name);
      if (at === targets.length) {
        path.pop();
        open.delete(name);
        if (!done.has(name)) order.unshift(name);
        done.add(name);
      } else if (open.has(targets[at])) {
        targets.splice(at, 1);
      } else {
        step[1] += 1;
        if (!done.has(targets[at])) {
          open.add(targets[at]);
          path.push([targets[at], 0]);
        }
      }
    }
    open.delete(root);
  }
  return order;
}

function layered(order, next) {
  const layers = new Map(order.map((name) => [name, 0]));
  for (const name of order) {
    for (const target of next.get(name)) layers.set(target, Math.max(layers.get(target), layers.get(name) + 1));
  }
  return layers;
}

// Within a layer, states stand in the order of the middle of those that lead to them.
function inRows(order, layers, next) {
  const before = new Map(order.map((name) => [name, []]));
  for (const name of order) for (const target of next.get(name)) before.get(target).push(name);
  const columns = [];
  for (const name of order) (columns[layers.get(name)] ??= []).push(name);
  const places = new Map();
  for (const [layer, names] of columns.entries()) {
    const middle = (name) => {
      const rows = before.get(name).map((one) => places.get(one).row);
      return rows.length ? rows.reduce((sum, row) => sum + row, 0) / rows.length : 0;
    };
    names.map((name) => [middle(name), name]).sort(([a], [b]) => a - b)
      .forEach(([, name], row) => places.set(name, { layer, row }));
  }
  return places;
}

// A worker of a Holon node in Node.js, written from the protos alone. It serves its skills until SIGTERM, then drains.
//   NODE_URL=grpcs://localhost:7700 TLS_CA_PATH=ca.pem TLS_CERT_PATH=js-1.pem TLS_KEY_PATH=js-1.key node worker.js
const fs = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const skills = { // each takes params, reports progress, and ends when the signal aborts
  double: async ({ n }) => ({ doubled: 2 * n }),
  count: async ({ to, seconds }, progress, signal) => {
    for (let i = 0; i < to; progress(100 * ++i / to)) await sleep(seconds * 1000, undefined, { signal });
    return { counted: to };
  },
};

const { WorkerService } = grpc.loadPackageDefinition(loader.loadSync("holon/rxon/v1/worker.proto", {
  includeDirs: [`${__dirname}/../../../proto`],
  keepCase: true, defaults: true, oneofs: true, enums: String, longs: Number,
})).holon.rxon.v1;
const target = process.env.NODE_URL.replace("grpcs://", "");
const pem = ["TLS_CA_PATH", "TLS_KEY_PATH", "TLS_CERT_PATH"].map((name) => fs.readFileSync(process.env[name]));
const millis = (duration) => duration.seconds * 1000 + duration.nanos / 1e6;
const instance_id = crypto.randomUUID(); // of this process; with it, the node recognizes a reconnect
const between = (low, high) => low + Math.random() * (high - low);
const leases = new Map(); // by lease_id: running tasks and unacknowledged results, across sessions
let stream = null; // the current session; null before its Welcome
let session_id = "", maxPayload = 0, losses = 0, draining = false, leaving = false;

const update = ({ task_id, lease_id }, news) => // without a session it is dropped; the next session resends results
  leases.has(lease_id) && stream?.write({ task_updates: { updates: [{ task_id, lease_id, ...news }] } });

async function run(lease, { skill, params }) {
  const { signal } = lease.stop;
  const progress = (percent) => update(lease, { progress: { percent } });
  update(lease, { accepted: {} });
  try {
    const value = await skills[skill](params?.content ? JSON.parse(params.data) : {}, progress, signal);
    const data = Buffer.from(JSON.stringify(value));
    if (data.length > maxPayload) throw Object.assign(Error("the result is too large"), { code: "LIMIT_EXCEEDED" });
    lease.result = { status: "success", data: { data } };
  } catch ({ code, message }) { // the node retries a failure with an unknown code, or without one
    lease.result = signal.aborted ? { status: "cancelled" } : { status: "failure", error: { code, message } };
  }
  update(lease, { result: lease.result });
}

const on = { // messages of the node; unknown kinds are ignored
  task_offers: ({ offers }) => offers.forEach((offer) => {
    const lease = { task_id: offer.task_id, lease_id: offer.lease_id, stop: new AbortController() };
    leases.set(lease.lease_id, lease);
    if (!draining && Object.hasOwn(skills, offer.skill)) return run(lease, offer);
    update(lease, { rejected: draining ? { reason: "DRAINING", retry_at_once: true } : { reason: "UNKNOWN_SKILL" } });
    leases.delete(lease.lease_id);
  }),
  stop_tasks: ({ stops }) => stops.forEach(({ lease_id }) => leases.get(lease_id)?.stop.abort()), // its result follows
  update_acks: ({ results }) => results.forEach(({ lease_id, verdict, reason, error }) => {
    const lease = leases.get(lease_id);
    const again = () => update(lease, { result: lease.result, resent: true });
    if (lease && verdict === "VERDICT_RETRY") return setTimeout(again, millis(error.retry_after));
    if (verdict !== "VERDICT_COMMITTED") console.error("result not applied:", verdict, reason, error?.message ?? "");
    leases.delete(lease_id);
    leaveIfDone();
  }),
  go_away({ reason }) {
    if (reason === "REPLACED") throw new Error("a newer process has our id");
    leaving = true;
    leaveIfDone(); // no more offers come: finish all tasks, then end this session
  },
  session_error: ({ frame, error }) => console.error(`message ${frame} was refused:`, error.reason, error.message),
};

function open() {
  const client = new WorkerService(target, grpc.credentials.createSsl(...pem), { "grpc.use_local_subchannel_pool": 1 });
  const call = client.Session(); // on its own connection, without a deadline
  let silence, beating, limit = 10_000, sequence = 0;
  const restartTimer = () => { clearTimeout(silence); silence = setTimeout(() => call.cancel(), limit); };
  call.write({ hello: {
    instance_id, capabilities: ["CAPABILITY_RESUME", "CAPABILITY_CANCEL"],
    catalog: { offerings: Object.keys(skills).map((skill) => ({ skill })) },
    credits: draining ? 0 : 4, resume: session_id ? { session_id, leases: [...leases.values()] } : undefined,
  } });
  on.welcome = (welcome) => {
    [stream, losses, leaving, limit] = [call, 0, draining, millis(welcome.silence_timeout)];
    ({ session_id, max_payload_bytes: maxPayload } = welcome);
    const beat = () => stream === call && call.write({ heartbeat: { sequence: ++sequence } });
    beating = setInterval(beat, millis(welcome.heartbeat_interval) * between(0.9, 1.1));
    const kept = welcome.leases.filter((one) => one.decision === "LEASE_DECISION_KEEP").map((one) => one.lease_id);
    for (const lease of leases.values()) {
      if (lease.result) update(lease, { result: lease.result, resent: true });
      else if (!kept.includes(lease.lease_id)) { leases.delete(lease.lease_id); lease.stop.abort(); }
    }
    leaveIfDone();
  };
  restartTimer();
  call.on("data", (frame) => { on[frame.message]?.(frame[frame.message]); restartTimer(); });
  call.on("error", () => {}); // the status always follows, with the same code
  call.on("status", ({ code, details }) => {
    clearTimeout(silence); clearInterval(beating); client.close();
    stream = null;
    leaveIfDone();
    console.error("the session ended:", code, details);
    const refused = [3, 7, 12, 16].includes(code); // an operator has to correct something
    setTimeout(open, refused ? between(30_000, 45_000) : between(500, Math.min(30_000, 500 * 2 ** ++losses)));
  });
}

function leaveIfDone() {
  if (!leaving || leases.size) return;
  if (!stream && draining) process.exit(0);
  stream?.end();
  stream = null;
}

process.once("SIGTERM", () => { // a second SIGTERM ends the process at once
  draining = leaving = true;
  stream?.write({ drain: { reason: "SIGTERM" } });
  leaveIfDone();
});
open();

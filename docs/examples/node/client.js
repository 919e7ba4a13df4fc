// A client of a Holon node in Node.js, written from the protos alone. It creates a job and follows it to its end.
// Ctrl-C cancels the job. A second Ctrl-C ends only the client.
//   HOLON_URL=grpcs://localhost:7701 HOLON_CA=ca.pem HOLON_TOKEN=... node client.js BLUEPRINT '{"n": 1}'
const { randomUUID } = require("node:crypto");
const { readFileSync } = require("node:fs");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const { JobService } = grpc.loadPackageDefinition(loader.loadSync("holon/rxon/v1/job.proto", {
  includeDirs: [`${__dirname}/../../../proto`],
  keepCase: true, defaults: true, oneofs: true, enums: String, longs: Number,
})).holon.rxon.v1;
const { HOLON_URL, HOLON_CA, HOLON_TOKEN } = process.env;
const credentials = grpc.credentials.createSsl(readFileSync(HOLON_CA));
const client = new JobService(HOLON_URL.replace("grpcs://", ""), credentials);
const metadata = new grpc.Metadata();
metadata.set("authorization", `Bearer ${HOLON_TOKEN}`);

// Retry calls that fail with these codes, after a random wait. Its upper bound doubles, up to 10 s.
const transient = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.RESOURCE_EXHAUSTED];
const pause = (losses) => sleep(Math.random() * Math.min(10_000, 200 * 2 ** losses));

async function call(method, request) { // makes a unary call that is safe to repeat
  for (let losses = 1; ; losses++) {
    try {
      return await new Promise((resolve, reject) => {
        const deadline = Date.now() + 10_000; // for the call, not for the job
        client[method](request, metadata, { deadline }, (error, answer) => error ? reject(error) : resolve(answer));
      });
    } catch (error) {
      if (!transient.includes(error.code)) throw error;
      console.error(`${method}: ${error.details}; trying again`);
      await pause(losses);
    }
  }
}

async function watch(job_id) { // returns the job after its end
  let after_sequence = 0, losses = 0; // 0: from the first event
  for (;;) {
    try {
      for await (const message of client.WatchJob({ job_id, after_sequence }, metadata)) {
        losses = 0;
        if (message.update === "job" && message.job.terminal) return message.job;
        if (message.update === "progress") console.log(message.progress.status, `${message.progress.percent ?? 0}%`);
        if (message.update === "event") console.log(message.event.event_type, message.event.state);
        after_sequence = Math.max(after_sequence, message.sequence);
      }
    } catch (error) {
      if (!transient.includes(error.code)) throw error;
      console.error(`the watch broke: ${error.details}; going on after event ${after_sequence}`);
    }
    await pause(++losses);
  }
}

async function main(blueprint_name, data = "{}") {
  const initial_data = { data: Buffer.from(data) };
  // A retry with the same request_id returns the same job, so a lost answer creates no second one.
  const { job_id } = await call("CreateJob", { request_id: randomUUID(), blueprint_name, initial_data });
  console.log("job", job_id);
  process.once("SIGINT", () => call("CancelJob", { job_id }).catch((error) => console.error(error.details)));
  const { status, result, error } = await watch(job_id);
  console.log(status, result?.content ? result.data.toString() : error?.message ?? "");
  process.exitCode = status === "finished" ? 0 : 1;
  client.close();
}

main(...process.argv.slice(2)).catch((error) => { console.error(error.details ?? error); process.exit(2); });

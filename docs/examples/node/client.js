// A client of a Holon node in Node.js, from the protos alone. It creates a job and follows it to its end; Ctrl-C
// cancels the job, and a second one leaves it running.
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

// What may pass by itself: the call is made again after a random wait, whose bound doubles up to 10 s.
const passing = [grpc.status.UNAVAILABLE, grpc.status.DEADLINE_EXCEEDED, grpc.status.RESOURCE_EXHAUSTED];
const pause = (losses) => sleep(Math.random() * Math.min(10_000, 200 * 2 ** losses));

async function call(method, request) { // a unary call that is safe to repeat
  for (let losses = 1; ; losses++) {
    try {
      return await new Promise((resolve, reject) => {
        const deadline = Date.now() + 10_000; // of the call, not of the job
        client[method](request, metadata, { deadline }, (error, answer) => error ? reject(error) : resolve(answer));
      });
    } catch (error) {
      if (!passing.includes(error.code)) throw error;
      console.error(`${method}: ${error.details}; trying again`);
      await pause(losses);
    }
  }
}

async function watch(job_id) { // returns the job when it is over
  let after_sequence = 0, losses = 0; // from the beginning
  for (;;) {
    try {
      for await (const said of client.WatchJob({ job_id, after_sequence }, metadata)) {
        losses = 0;
        if (said.update === "job" && said.job.terminal) return said.job;
        if (said.update === "progress") console.log(said.progress.status, `${said.progress.percent ?? 0}%`);
        if (said.update === "event") console.log(said.event.event_type, said.event.state);
        after_sequence = Math.max(after_sequence, said.sequence);
      }
    } catch (error) {
      if (!passing.includes(error.code)) throw error;
      console.error(`the watch broke: ${error.details}; going on after event ${after_sequence}`);
    }
    await pause(++losses);
  }
}

async function main(blueprint_name, data = "{}") {
  const initial_data = { data: Buffer.from(data) };
  // The same request_id again is the same job again, so that a lost answer makes no second one.
  const { job_id } = await call("CreateJob", { request_id: randomUUID(), blueprint_name, initial_data });
  console.log("job", job_id);
  process.once("SIGINT", () => call("CancelJob", { job_id }).catch((error) => console.error(error.details)));
  const { status, result, error } = await watch(job_id);
  console.log(status, result?.content ? result.data.toString() : error?.message ?? "");
  process.exitCode = status === "finished" ? 0 : 1;
  client.close();
}

main(...process.argv.slice(2)).catch((error) => { console.error(error.details ?? error); process.exit(2); });

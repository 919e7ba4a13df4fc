// Creates a job with the client of @hey-api/openapi-ts, and reads it back.
import { client } from "./hey/client.gen.js";
import { createOrdering, getJob } from "./hey/index.js";

declare const process: { argv: string[]; exitCode: number };

const [baseUrl, token] = process.argv.slice(2);
client.setConfig({ baseUrl, auth: token });

const created = await createOrdering({
  body: { initial_data: { kind: "new", lines: [{ text: "one", more: [{ text: "two" }] }], extra: { any: [1, null] } } },
  headers: { "Idempotency-Key": "hey" },
  throwOnError: true,
});
if (!("job_id" in created.data)) throw new Error("the job is over already");
const { data: job } = await getJob({ path: { job_id: created.data.job_id }, throwOnError: true });
const { error } = await getJob({ path: { job_id: "none" } });
console.log(JSON.stringify({ id: job.id, status: job.status, terminal: job.terminal, code: error?.code }));

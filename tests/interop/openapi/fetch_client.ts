// Creates a job with the types of openapi-typescript, and reads it back.
import createClient from "openapi-fetch";
import type { paths } from "./schema.js";

declare const process: { argv: string[] };

const [baseUrl, token] = process.argv.slice(2);
const client = createClient<paths>({ baseUrl, headers: { "X-Client-Token": token } });

const created = await client.POST("/api/v2/orders", {
  params: { header: { "Idempotency-Key": "fetch" } },
  body: { initial_data: { kind: "new", lines: [{ text: "one", amount: 1 }], extra: { any: [1, null] } } },
});
if (!created.data || !("job_id" in created.data)) throw new Error(JSON.stringify(created));
const { data: job } = await client.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: created.data.job_id } } });
const { error } = await client.GET("/api/v1/jobs/{job_id}", { params: { path: { job_id: "none" } } });
console.log(JSON.stringify({ id: job?.id, status: job?.status, terminal: job?.terminal, code: error?.code }));

// What webhook-intake does at its heart, in JavaScript: verify, parse, send. With the loop of a
// Lambda runtime around it, as thin as it can be, so that the language and its SDK are what is measured.

import { createHmac, timingSafeEqual } from "node:crypto";
import { Agent, request } from "node:http";
import { SQSClient, SendMessageCommand } from "@aws-sdk/client-sqs";

const { AWS_LAMBDA_RUNTIME_API, HOOK_SECRET, SYNCLINE_QUEUE_LIVE } = process.env;
const [host, port] = AWS_LAMBDA_RUNTIME_API.split(":");
const agent = new Agent({ keepAlive: true, maxSockets: 1 });
// The stub knows no MD5, and is not where the queue says that it is.
const sqs = new SQSClient({ md5: false, useQueueUrlAsEndpoint: false });

function call(method, path, body) {
  return new Promise((resolve, reject) => {
    const sent = request({ host, port, agent, method, path }, (answer) => {
      const parts = [];
      answer.on("data", (part) => parts.push(part));
      answer.on("end", () => resolve({ headers: answer.headers, body: Buffer.concat(parts) }));
    });
    sent.on("error", reject);
    sent.end(body);
  });
}

async function handle(event) {
  const said = Buffer.from(event.headers["x-signature"] ?? "");
  const mac = Buffer.from("sha256=" + createHmac("sha256", HOOK_SECRET).update(event.body).digest("hex"));
  if (said.length !== mac.length || !timingSafeEqual(said, mac)) return { statusCode: 401 };
  const record = JSON.parse(event.body).data;
  const message = JSON.stringify({ map: "customers", raw: record });
  await sqs.send(new SendMessageCommand({ QueueUrl: SYNCLINE_QUEUE_LIVE, MessageBody: message }));
  return { statusCode: 202, body: JSON.stringify({ accepted: 1 }) };
}

for (;;) {
  const next = await call("GET", "/2018-06-01/runtime/invocation/next");
  const answer = JSON.stringify(await handle(JSON.parse(next.body)));
  const id = next.headers["lambda-runtime-aws-request-id"];
  await call("POST", `/2018-06-01/runtime/invocation/${id}/response`, answer);
}

/** What OpenAI's official library for Node does with the hub that `OPENAI_BASE_URL` names. */

import assert from "node:assert/strict";
import { test } from "node:test";

import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const messages = [{ role: "user", content: "one two three" }];
const parameters = {
  type: "object",
  properties: { where: { type: "string" } },
  required: ["where"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "look", parameters } }];

test("models", async () => {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, ["echo", "echo-fail", "echo-slow", "echo-tools"]);
  assert.equal((await client.models.retrieve("echo")).owned_by, "echo");
});

test("an answer, and the headers that came with it", async () => {
  const asked = client.chat.completions.create({ model: "echo", messages });
  const { data, response, request_id } = await asked.withResponse();
  assert.equal(data.choices[0].message.content, "one two three");
  assert.equal(data.choices[0].finish_reason, "stop");
  assert.equal(request_id, response.headers.get("x-request-id"));
});

test("a stream with its usage", async () => {
  const options = { stream: true, stream_options: { include_usage: true } };
  const stream = await client.chat.completions.create({ model: "echo", messages, ...options });
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  const deltas = chunks.flatMap((chunk) => chunk.choices.map((choice) => choice.delta.content ?? ""));
  assert.equal(deltas.join(""), "one two three");
  assert.equal(chunks.at(-1).usage.completion_tokens, 3);
});

test("the stream helper puts an answer together", async () => {
  const runner = client.chat.completions.stream({ model: "echo", messages });
  assert.equal(await runner.finalContent(), "one two three");
});

test("tools, run by the library until there is an answer", async () => {
  const look = { function: ({ where }) => `nothing in ${where}`, parse: JSON.parse, name: "look", parameters };
  const runner = client.chat.completions.runTools({
    model: "echo-tools",
    messages,
    tools: [{ type: "function", function: look }],
  });
  assert.equal(await runner.finalContent(), "nothing in one two three");
});

test("an answer that keeps to a schema", async () => {
  const json_schema = { name: "told", strict: true, schema: parameters };
  const answer = await client.chat.completions.parse({
    model: "echo-tools",
    messages,
    response_format: { type: "json_schema", json_schema },
  });
  assert.deepEqual(answer.choices[0].message.parsed, { where: "one two three" });
});

test("errors are the library's own", async () => {
  const ask = (members) => client.chat.completions.create({ model: "echo", messages, ...members });
  const stranger = new OpenAI({ apiKey: "sk-wrong", maxRetries: 0 });
  await assert.rejects(stranger.models.list(), { constructor: OpenAI.AuthenticationError, code: "invalid_api_key" });
  await assert.rejects(ask({ model: "none" }), { constructor: OpenAI.NotFoundError, code: "model_not_found" });
  await assert.rejects(ask({ tools }), { constructor: OpenAI.BadRequestError, param: "tools" });
  await assert.rejects(ask({ model: "echo-fail" }), { constructor: OpenAI.InternalServerError, status: 502 });
});

test("a failure in the middle of a stream is raised, after what had come", async () => {
  const stream = await client.chat.completions.create({ model: "echo-fail", messages, stream: true });
  let text = "";
  const reading = async () => {
    for await (const chunk of stream) text += chunk.choices[0].delta.content ?? "";
  };
  await assert.rejects(reading(), { code: "upstream_error" });
  assert.equal(text, "one two three");
});

test("leaving midway is no error", async () => {
  const stream = await client.chat.completions.create({ model: "echo-slow", messages, stream: true });
  for await (const chunk of stream) if (chunk.choices[0].delta.content) break;
  assert.ok(stream.controller.signal.aborted);
});

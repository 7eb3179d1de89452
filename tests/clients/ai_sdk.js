/** What the AI SDK does with the hub that `OPENAI_BASE_URL` names, through its openai-compatible provider. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateText, isStepCount, jsonSchema, Output, streamText, tool } from "ai";

const hub = createOpenAICompatible({
  name: "hub",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: process.env.OPENAI_API_KEY,
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const prompt = "one two three";
const schema = jsonSchema({
  type: "object",
  properties: { where: { type: "string" } },
  required: ["where"],
  additionalProperties: false,
});
const look = tool({ inputSchema: schema, execute: async ({ where }) => `nothing in ${where}` });

test("an answer", async () => {
  const answer = await generateText({ model: hub("echo"), prompt });
  assert.equal(answer.text, prompt);
  assert.equal(answer.finishReason, "stop");
  assert.equal(answer.usage.outputTokens, 3);
});

test("a stream with its usage", async () => {
  const stream = streamText({ model: hub("echo"), prompt });
  const texts = [];
  for await (const text of stream.textStream) texts.push(text);
  assert.deepEqual(texts, ["one ", "two ", "three"]);
  assert.equal((await stream.usage).outputTokens, 3);
});

test("tools are run until there is an answer", async () => {
  const options = { model: hub("echo-tools"), prompt, tools: { look }, stopWhen: isStepCount(3) };
  const answer = await generateText(options);
  assert.equal(answer.text, "nothing in one two three");
  assert.equal(answer.steps.length, 2);
  let streamed = "";
  for await (const text of streamText(options).textStream) streamed += text;
  assert.equal(streamed, answer.text);
});

test("an answer that keeps to a schema", async () => {
  const answer = await generateText({ model: hub("echo-tools"), prompt, output: Output.object({ schema }) });
  assert.deepEqual(answer.output, { where: prompt });
});

test("an image", async () => {
  const pixel =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";
  const content = [{ type: "text", text: "see" }, { type: "file", data: Buffer.from(pixel, "base64"), mediaType: "image/png" }];
  const answer = await generateText({ model: hub("echo-tools"), messages: [{ role: "user", content }] });
  assert.equal(answer.text, "see");
});

test("a failure has its status", async () => {
  const failing = generateText({ model: hub("echo-fail"), prompt, maxRetries: 0 });
  await assert.rejects(failing, { statusCode: 502 });
});

test("a failure in the middle of a stream is told, after what had come", async () => {
  let told;
  const stream = streamText({ model: hub("echo-fail"), prompt, maxRetries: 0, onError: ({ error }) => (told = error) });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  assert.equal(text, prompt);
  assert.equal(told.code, "upstream_error");
});

// The AI SDK and ollama-js: checks 8 and 9; losing a device under each
// client: check 7.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateObject, generateText, streamText, tool } from 'ai';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { z } from 'zod';
import { Cluster, KEY, until } from './cluster.mjs';

let c, model, ollama;
before(async () => {
  c = await new Cluster({ workers: 3 }).start();
  model = createOpenAICompatible({ name: 'hearth', baseURL: c.base + '/v1',
    apiKey: KEY, includeUsage: true,
    supportsStructuredOutputs: true })(c.model);
  ollama = new Ollama({ host: c.base,
    headers: { Authorization: 'Bearer ' + KEY } });
});
after(() => c.stop());

const o = { prompt: 'Once upon a time', temperature: 0, maxOutputTokens: 16,
  maxRetries: 0 };

test('AI SDK: text and streams', async () => {
  const whole = await generateText({ model, ...o });
  const stream = streamText({ model, ...o });
  let text = '';
  for await (const part of stream.textStream) text += part;
  assert.equal(text, whole.text);
  assert.equal(await stream.finishReason, 'length');
  assert.equal((await stream.usage).outputTokens, 16);
  const stop = whole.text.trim().split(/\s+/)[2];
  const cut = streamText({ model, ...o, stopSequences: [stop] });
  text = '';
  for await (const part of cut.textStream) text += part;
  assert.equal(text, whole.text.slice(0, whole.text.indexOf(stop)));
  assert.equal(await cut.finishReason, 'stop');
  const { inputTokens, outputTokens } = await cut.usage;
  assert.ok(inputTokens > 0 && outputTokens > 0 && outputTokens < 16);
});

test('AI SDK: objects by schema', async () => {
  const r = await generateObject({ model, ...o, maxOutputTokens: 200,
    schema: z.strictObject({ n: z.number().int(), ok: z.boolean() }) });
  assert.deepEqual(Object.keys(r.object).sort(), ['n', 'ok']);
  assert.equal(typeof r.object.ok, 'boolean');
  assert.ok(Number.isInteger(r.object.n));
});

// The call is forced, and one only, since the bundled model has never heard of
// tools; what
// comes back for it goes into the next question.
test('AI SDK: a tool is called, and its result goes back', async () => {
  let asked;
  const tools = { weather: tool({ description: 'The weather of a city.',
    inputSchema: z.strictObject({ city: z.enum(['Paris', 'Rome']),
      days: z.number().int().min(1).max(9) }),
    execute: async (input) => { asked = input; return { degrees: 21 }; } }) };
  const call = { model, tools, toolChoice: 'required', temperature: 0,
    maxOutputTokens: 200, maxRetries: 0,
    providerOptions: { hearth: { parallel_tool_calls: false } } };
  const messages = [{ role: 'user', content: 'How warm is it in Rome?' }];
  const r = await generateText({ ...call, messages });
  assert.equal(r.finishReason, 'tool-calls');
  assert.equal(r.toolCalls.length, 1);
  assert.equal(r.toolCalls[0].toolName, 'weather');
  assert.deepEqual(r.toolCalls[0].input, asked);
  assert.deepEqual(r.toolResults[0].output, { degrees: 21 });
  const next = await generateText({ ...call, toolChoice: 'none',
    messages: [...messages, ...r.response.messages] });
  assert.ok(next.text.length > 0);
  assert.ok(next.usage.inputTokens > r.usage.inputTokens);
  const s = streamText({ ...call, messages });
  let name;
  for await (const part of s.fullStream)
    if (part.type === 'tool-call') name = part.toolName;
  assert.equal(name, 'weather');
  assert.equal(await s.finishReason, 'tool-calls');
});

test('openai: a streamed tool call', async () => {
  const api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY });
  const r = await api.chat.completions.stream({ model: c.model,
    messages: [{ role: 'user', content: 'How warm is it in Rome?' }],
    temperature: 0, max_tokens: 200, parallel_tool_calls: false,
    tool_choice: { type: 'function', function: { name: 'warm' } },
    tools: [{ type: 'function', function: { name: 'warm', parameters: {
      type: 'object', properties: { city: { enum: ['Paris', 'Rome'] } },
      required: ['city'], additionalProperties: false } } }] })
    .finalChatCompletion();
  const [call] = r.choices[0].message.tool_calls;
  assert.equal(r.choices[0].finish_reason, 'tool_calls');
  assert.ok(call.id && call.type === 'function');
  assert.match(JSON.parse(call.function.arguments).city, /^(Paris|Rome)$/);
});

test('ollama-js: lists', async () => {
  const list = await ollama.list();
  assert.equal(list.models[0].name.split(':')[0], c.model);
  assert.ok(list.models[0].details.quantization_level);
  assert.equal((await ollama.ps()).models.length, 1);
  assert.match((await ollama.version()).version, /^\d+\./);
  const show = await ollama.show({ model: c.model });
  assert.ok(show.capabilities.includes('completion'));
  assert.ok(Object.keys(show.model_info)
    .some((k) => k.endsWith('.context_length')));
});

test('ollama-js: chat and generate', async () => {
  const chat = { model: c.model, options: { temperature: 0, num_predict: 16 },
    messages: [{ role: 'user', content: 'Once upon a time' }] };
  const whole = await ollama.chat(chat);
  let text = '', last;
  for await (const part of await ollama.chat({ ...chat, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, whole.message.content);
  assert.ok(last.done && last.eval_count === 16);
  assert.ok(last.total_duration > 1e4, 'nanoseconds');
  const g = await ollama.generate({ model: c.model, prompt: 'The cat',
    options: { num_predict: 8, temperature: 0 } });
  assert.ok(g.done && g.response.length > 0);
});

// Last: a device goes away in the middle of each client's stream.
test('a lost device is an error that names it, and comes back', async () => {
  const api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY,
    maxRetries: 0 });
  const stream = await api.chat.completions.create({ model: c.model,
    stream: true, max_tokens: 1900, ignore_eos: true,
    messages: [{ role: 'user', content: 'Once upon a time' }] });
  let tokens = 0;
  await assert.rejects(async () => {
    for await (const chunk of stream)
      if (chunk.choices[0]?.delta?.content && ++tokens === 3)
        c.workers[0].kill('SIGKILL');
  }, (e) => {
    assert.ok(e instanceof OpenAI.APIError, String(e));
    assert.match(e.message, /worker-1/);
    return true;
  });
  await until('a sentence about it', async () => {
    const h = await (await fetch(c.base + '/health')).json();
    return h.error?.code === 'cluster_degraded' || h.nodes_ready < 4;
  });
  c.workers[0] = c.worker(1);
  await c.ready(4);
  const r = await api.chat.completions.create({ model: c.model, max_tokens: 4,
    messages: [{ role: 'user', content: 'Again' }] });
  assert.ok(r.id);
});

test('ollama-js hears of a lost device too', async () => {
  let parts = 0;
  await assert.rejects(async () => {
    for await (const part of await ollama.chat({ model: c.model, stream: true,
      options: { num_predict: 1900, ignore_eos: true, temperature: 1 },
      messages: [{ role: 'user', content: 'Once upon a time' }] }))
      if (part.message.content && ++parts === 3) c.workers[0].kill('SIGKILL');
  }, /worker-1/);
  c.workers[0] = c.worker(1);
  await c.ready(4);
});

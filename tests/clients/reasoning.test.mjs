// A model that thinks aloud first: what it thinks is told apart and counted.
// The bundled model does not think; its template is replaced by one of the same
// length that begins every answer with <think>.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { Cluster, KEY } from './cluster.mjs';

let c, api;
before(async () => {
  c = new Cluster();
  c.template("{%for m in messages%}{{m['content']}}{%endfor%}" +
    '{%if add_generation_prompt%}<think>{%endif%}{#</think>#}');
  await c.start();
  api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY, maxRetries: 0 });
});
after(() => c.stop());

const chat = (o) => ({ model: c.model, temperature: 0, max_tokens: 80,
  messages: [{ role: 'user', content: 'Once upon a time' }],
  grammar: 'root ::= [a-z ]{30,30} "</think>" [a-z]{20,20}', ...o });

test('chat: apart, and counted', async () => {
  const a = await api.chat.completions.create(chat());
  const { content, reasoning_content } = a.choices[0].message;
  const { reasoning_tokens } = a.usage.completion_tokens_details;
  assert.ok(reasoning_content.length > 20 && content.length === 20);
  assert.doesNotMatch(content + reasoning_content, /think>/);
  assert.ok(reasoning_tokens > 0);
  assert.ok(reasoning_tokens < a.usage.completion_tokens);
  let thought = '', said = '', usage;
  for await (const chunk of await api.chat.completions.create(chat({
    stream: true, stream_options: { include_usage: true } }))) {
    usage = chunk.usage ?? usage;
    thought += chunk.choices[0]?.delta?.reasoning_content ?? '';
    said += chunk.choices[0]?.delta?.content ?? '';
  }
  assert.equal(thought, reasoning_content);
  assert.equal(said, content);
  assert.ok(usage.completion_tokens_details.reasoning_tokens > 0);
});

test('chat: one text where that is asked for', async () => {
  const a = await api.chat.completions.create(chat({
    reasoning_format: 'none' }));
  assert.match(a.choices[0].message.content, /<\/think>[a-z]{20}$/);
  assert.equal(a.usage.completion_tokens_details.reasoning_tokens, 0);
});

test('a form holds behind the reasoning, not inside of it', async () => {
  const a = await api.chat.completions.create(chat({ grammar: undefined,
    max_tokens: 20, response_format: { type: 'json_schema', json_schema: {
      name: 's', schema: { type: 'object' } } } }));
  assert.ok(a.choices[0].message.reasoning_content.length > 10);
  assert.doesNotMatch(a.choices[0].message.reasoning_content, /^\s*[{[]/);
  assert.equal(a.choices[0].message.content, '');
  assert.equal(a.choices[0].finish_reason, 'length');
});

test('responses: an item of its own', async () => {
  const o = { model: c.model, input: 'Once upon a time', temperature: 0,
    max_output_tokens: 16 };
  const a = await api.responses.create(o);
  assert.equal(a.output[0].type, 'reasoning');
  assert.equal(a.usage.output_tokens_details.reasoning_tokens,
    a.usage.output_tokens);
  const types = [];
  for await (const e of await api.responses.create({ ...o, stream: true }))
    types.push(e.type);
  assert.ok(types.includes('response.reasoning_text.delta'));
  assert.equal(types.at(-1), 'response.incomplete');
});

// Calls of tools by models that write them in ways of their own: forced, told
// whole and in streams, in every dialect. The bundled model knows no tools; its
// template is replaced by one that the family is known by.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Ollama } from 'ollama';
import OpenAI from 'openai';
import { Cluster, KEY } from './cluster.mjs';

const FAMILIES = {
  LFM2: "{%for m in messages%}{{m['content']}}{%endfor%}" +
    '{%if tools%}List of tools: [{{tools|tojson}}]{%endif%}',
  harmony: "{%for m in messages%}{{m['content']}}{%endfor%}" +
    '{{tools|tojson}}{%if 0%}<|channel|>{%endif%}',
};

const parameters = { type: 'object', properties: {
  city: { enum: ['Oslo', 'Rome'] }, days: { type: 'integer', minimum: 1,
    maximum: 9 } }, required: ['city', 'days'], additionalProperties: false };
const named = (name) => ({ type: 'function', function: { name,
  description: 'd', parameters } });
const tools = [named('weather'), named('tides')];

function called(name, args) {
  assert.match(name, /^(weather|tides)$/);
  const v = typeof args === 'string' ? JSON.parse(args) : args;
  assert.ok(['Oslo', 'Rome'].includes(v.city) && v.days >= 1 && v.days <= 9);
}

for (const [family, template] of Object.entries(FAMILIES))
  describe(family, () => {
    let c, api;
    before(async () => {
      c = new Cluster();
      c.template(template);
      await c.start();
      api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY, maxRetries: 0 });
    });
    after(() => c.stop());

    const chat = (o) => ({ model: c.model, temperature: 0, tools,
      max_tokens: 300, parallel_tool_calls: false, tool_choice: 'required',
      messages: [{ role: 'user', content: 'How is it there?' }], ...o });

    test('whole', async () => {
      const a = (await api.chat.completions.create(chat())).choices[0];
      assert.equal(a.finish_reason, 'tool_calls');
      assert.equal(a.message.content, null);
      assert.equal(a.message.tool_calls.length, 1);
      const f = a.message.tool_calls[0].function;
      called(f.name, f.arguments);
    });

    test('one that is named, in a stream', async () => {
      const s = api.chat.completions.stream(chat({ stream: true,
        tool_choice: { type: 'function', function: { name: 'tides' } } }));
      const a = (await s.finalChatCompletion()).choices[0];
      assert.equal(a.finish_reason, 'tool_calls');
      const f = a.message.tool_calls[0].function;
      assert.equal(f.name, 'tides');
      called(f.name, f.arguments);
    });

    test('responses', async () => {
      const flat = tools.map((t) => ({ type: 'function', ...t.function }));
      const s = api.responses.stream({ model: c.model, temperature: 0,
        input: 'How is it there?', tools: flat, tool_choice: 'required',
        parallel_tool_calls: false, max_output_tokens: 300 });
      const r = await s.finalResponse();
      const call = r.output.find((i) => i.type === 'function_call');
      assert.equal(call.status, 'completed');
      called(call.name, call.arguments);
      assert.deepEqual(r.tools.map((t) => t.name), ['weather', 'tides']);
    });

    test('messages', async () => {
      const r = await (await c.post('/v1/messages', { model: c.model,
        temperature: 0, max_tokens: 300, tool_choice: { type: 'any',
          disable_parallel_tool_use: true },
        tools: tools.map((t) => ({ name: t.function.name,
          input_schema: parameters })),
        messages: [{ role: 'user', content: 'How is it there?' }] })).json();
      assert.equal(r.stop_reason, 'tool_use', JSON.stringify(r));
      const call = r.content.find((b) => b.type === 'tool_use');
      called(call.name, call.input);
    });

    test('ollama', async () => {
      const o = new Ollama({ host: c.base,
        headers: { Authorization: 'Bearer ' + KEY } });
      const r = await o.chat({ model: c.model, tools, tool_choice: 'required',
        parallel_tool_calls: false, messages: [{ role: 'user',
          content: 'How is it there?' }],
        options: { temperature: 0, num_predict: 300 } });
      const f = r.message.tool_calls[0].function;
      called(f.name, f.arguments);
    });
  });

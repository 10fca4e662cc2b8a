// openai-node 6 and 7: checks 1 to 4, 6, 10 and 11 of the interfaces' list.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import OpenAI6 from 'openai';
import OpenAI7 from 'openai7';
import path from 'node:path';
import { Cluster, KEY, events, sleep, until } from './cluster.mjs';

let c;
before(async () => { c = await new Cluster({ workers: 3 }).start(); });
after(() => c.stop());

const user = (content) => [{ role: 'user', content }];
const ask = (o) => ({ model: c.model, messages: user('Once upon a time'),
  temperature: 0, max_tokens: 24, ...o });

test('health and models', async () => {
  const health = await fetch(c.base + '/health');
  assert.equal(health.status, 200);
  assert.equal((await health.json()).status, 'ok');
  const list = await (await c.get('/v1/models')).json();
  assert.equal(list.object, 'list');
  assert.ok(list.data[0].id && list.data[0].root);
  assert.equal(list.data[0].object, 'model');
});

test('before devices are there: 503 with a sentence', async () => {
  const alone = new Cluster({ args: ['--shares', '1,1'] });
  try {
    await alone.serve();
    const r = await until('an answer', () => fetch(alone.base + '/health'));
    assert.equal(r.status, 503);
    assert.match((await r.json()).error.message, /wait|device|load/i);
  } finally {
    await alone.stop();
  }
});

// From the first answer on: 503 with a sentence until all is loaded, then 200.
// The worker stands still in the middle, so that there is a middle.
test('while weights are loaded: 503 with a sentence', async () => {
  const slow = new Cluster({ args: ['--shares', '0,1', '--wait', '30'] });
  slow.o.model = path.join(slow.dir, 'slow.gguf');
  slow.hearth('synth', '--type', 'Q8_0', '-o', slow.o.model, '--shape',
    'd=2048,layers=3,heads=16,kv=4,ff=8192,vocab=2048');
  try {
    await slow.serve();
    const seen = [];
    const p = slow.worker(1);
    const health = async () => {
      const r = await fetch(slow.base + '/health');
      const h = await r.json();
      if (r.status === 503) seen.push(h.error);
      return r.status;
    };
    await until('weights on their way', async () => {
      await health();
      return /worker-1 \(loading [1-9]/.test(seen.at(-1)?.message);
    });
    p.kill('SIGSTOP');
    assert.equal(await health(), 503);
    p.kill('SIGCONT');
    await until('the service', async () => await health() === 200);
    for (const e of seen) {
      assert.equal(e.type, 'unavailable_error');
      assert.match(e.code, /^(loading_model|cluster_degraded)$/);
      assert.ok(e.message.length > 0);
    }
  } finally {
    await slow.stop();
  }
});

for (const [name, OpenAI] of [['6', OpenAI6], ['7', OpenAI7]])
  describe('openai-node ' + name, () => {
    let api;
    before(() => {
      api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY });
    });

    test('whole answers: text, parts, developer', async () => {
      const plain = await api.chat.completions.create(ask());
      assert.equal(plain.object, 'chat.completion');
      assert.equal(plain.choices[0].message.role, 'assistant');
      assert.ok(plain.choices[0].message.content.length > 0);
      assert.equal(plain.usage.total_tokens,
        plain.usage.prompt_tokens + plain.usage.completion_tokens);
      const parts = await api.chat.completions.create(ask({
        messages: user([{ type: 'text', text: 'Once upon a time' }]) }));
      assert.equal(parts.choices[0].message.content,
        plain.choices[0].message.content);
      const developer = await api.chat.completions.create(ask({ messages: [
        { role: 'developer', content: 'Be brief.' },
        ...user('Once upon a time')] }));
      assert.ok(developer.usage.prompt_tokens > plain.usage.prompt_tokens);
    });

    test('streams equal whole answers', async () => {
      const whole = await api.chat.completions.create(ask({ seed: 7 }));
      const stream = await api.chat.completions.create(ask({ stream: true,
        seed: 7, stream_options: { include_usage: true } }));
      let text = '', last, finish;
      for await (const chunk of stream) {
        last = chunk;
        const choice = chunk.choices[0];
        text += choice?.delta?.content ?? '';
        finish = choice?.finish_reason ?? finish;
      }
      assert.equal(text, whole.choices[0].message.content);
      assert.equal(finish, whole.choices[0].finish_reason);
      assert.equal(last.choices.length, 0);
      assert.equal(last.usage.completion_tokens,
        whole.usage.completion_tokens);
      const { mode, predicted_ms, took_ms, ranks } = last.cluster.prefill;
      assert.equal(mode, 'tp');
      assert.equal(predicted_ms, null);
      assert.ok(took_ms > 0 && ranks[0].rank === 0);
      assert.equal(whole.cluster.prefill.mode, 'tp');
    });

    test('the stream helper', async () => {
      const whole = await api.chat.completions.create(ask());
      const final = await api.chat.completions.stream(ask())
        .finalChatCompletion();
      assert.equal(final.choices[0].message.content,
        whole.choices[0].message.content);
    });

    test('as long as asked for, up to a stop string', async () => {
      const five = await api.chat.completions.create(ask({
        max_tokens: undefined, max_completion_tokens: 5 }));
      assert.equal(five.usage.completion_tokens, 5);
      assert.equal(five.choices[0].finish_reason, 'length');
      const whole = (await api.chat.completions.create(ask()))
        .choices[0].message.content;
      const stop = whole.trim().split(/\s+/)[2];
      const cut = await api.chat.completions.create(ask({ stop: [stop] }));
      assert.equal(cut.choices[0].message.content,
        whole.slice(0, whole.indexOf(stop)));
      assert.equal(cut.choices[0].finish_reason, 'stop');
    });

    test('errors have their classes, and are not tried again', async () => {
      let requests = 0;
      const counting = (key) => new OpenAI({ baseURL: c.base + '/v1',
        apiKey: key, fetch: (...a) => { requests++; return fetch(...a); } });
      await assert.rejects(counting('wrong').chat.completions.create(ask()),
        OpenAI.AuthenticationError);
      assert.equal(requests, 1);
      await assert.rejects(api.chat.completions.create(
        ask({ model: 'no-such-model' })), OpenAI.NotFoundError);
      await assert.rejects(api.chat.completions.create(ask({
        messages: user('word '.repeat(20000)) })), (e) => {
        assert.ok(e instanceof OpenAI.BadRequestError);
        assert.equal(e.code, 'context_length_exceeded');
        assert.match(e.message, /\d+.*\d+/);
        return true;
      });
    });

    test('embeddings, base64 by default', async () => {
      const r = await api.embeddings.create({ model: c.model, input: 'hello' });
      const floats = await api.embeddings.create({ model: c.model,
        input: 'hello', encoding_format: 'float' });
      const v = r.data[0].embedding;
      const info = (await (await c.post('/api/show', { model: c.model }))
        .json()).model_info;
      const dim = Object.entries(info)
        .find(([k]) => k.endsWith('.embedding_length'))[1];
      assert.equal(v.length, dim);
      assert.ok(v.every(Number.isFinite) && v.some((x) => x !== 0));
      assert.equal(v.length, floats.data[0].embedding.length);
      for (let i = 0; i < v.length; i++)
        assert.ok(Math.abs(v[i] - floats.data[0].embedding[i]) < 1e-4);
    });

    test('responses', async () => {
      const o = { model: c.model, input: 'Once upon a time',
        max_output_tokens: 16, temperature: 0 };
      const whole = await api.responses.create(o);
      let text = '';
      for await (const e of await api.responses.create({ ...o, stream: true }))
        if (e.type === 'response.output_text.delta') text += e.delta;
      assert.equal(text, whole.output_text);
      const final = await api.responses.stream(o).finalResponse();
      assert.equal(final.output_text, whole.output_text);
      const odd = await api.responses.create({ ...o, tools: [
        { type: 'local_shell' }, { type: 'something_new' }] });
      assert.ok(odd.id);
    });
  });

test('every chunk is valid UTF-8', async () => {
  const res = await c.post('/v1/chat/completions', ask({ stream: true,
    messages: user('日本語 🦊 émoji — ' + '✨'.repeat(9)), temperature: 1,
    seed: 3, max_tokens: 64 }));
  let done = false;
  for await (const e of events(res)) {
    if (e.data === '[DONE]') done = true;
    else if (e.data) JSON.parse(e.data);
  }
  assert.ok(done);
});

test('leaving ends the work, and only one\'s own', async () => {
  const long = ask({ stream: true, max_tokens: 400, ignore_eos: true,
    cache_prompt: false });
  const text = async (res) => {
    let all = '';
    for await (const e of events(res))
      if (e.data && e.data !== '[DONE]')
        all += JSON.parse(e.data).choices[0]?.delta?.content ?? '';
    return all;
  };
  const alone = await text(await c.post('/v1/chat/completions', long));
  const other = c.post('/v1/chat/completions', long).then(text);
  const leave = new AbortController();
  const res = await c.post('/v1/chat/completions', { ...long,
    messages: user('Another story'), max_tokens: 1500 },
  { signal: leave.signal });
  let tokens = 0;
  for await (const e of events(res)) if (e.data && ++tokens === 3) break;
  leave.abort();
  assert.equal(await other, alone, 'the other stream was disturbed');
  const left = Date.now();
  await until('nothing to run', async () => await c.load() === 0, 10000);
  console.log(`nothing ran ${Date.now() - left} ms after the last had ended`);
  await until('the devices to rest', rested);
});

// Nothing is computed any more, on any device; they report once a second.
async function rested() {
  const spent = async () => (await (await c.get('/metrics')).text())
    .split('\n').filter((l) =>
      /^hearth_node_phase_seconds_total.*phase="compute"/.test(l));
  const before = await spent();
  assert.equal(before.length, 4);
  await sleep(2500);
  return before.join() === (await spent()).join();
}

// Check 4: a prompt that is too long is refused by whoever reads it; it does
// not wait for what runs.
test('a refusal does not wait its turn', async () => {
  const one = await new Cluster({ args: ['--parallel', '1'] }).start();
  try {
    const leave = new AbortController();
    const long = await one.post('/v1/completions', { model: one.model,
      prompt: 'The door', max_tokens: 1900, ignore_eos: true, stream: true,
      temperature: 0 }, { signal: leave.signal });
    let ended = false;
    const reading = long.text().then(() => { ended = true; }, () => {});
    await until('it to run', async () => await one.load() === 1);
    const t0 = Date.now();
    const r = await one.post('/v1/chat/completions',
      { model: one.model, messages: user('word '.repeat(20000)) });
    console.log(`refused after ${Date.now() - t0} ms`);
    assert.equal(r.status, 400);
    assert.equal((await r.json()).error.code, 'context_length_exceeded');
    assert.equal(await one.load(), 1);
    assert.ok(!ended, 'it waited for the answer before it');
    leave.abort();
    await reading;
  } finally {
    await one.stop();
  }
});

test('what benchmarks send', async () => {
  const res = await c.post('/v1/completions', { model: c.model,
    prompt: 'The cat', max_tokens: 20, repetition_penalty: 1.0,
    logprobs: null, ignore_eos: true, stream: true, temperature: 0,
    stream_options: { include_usage: true } });
  let usage, first;
  for await (const e of events(res)) {
    if (!e.data || e.data === '[DONE]') continue;
    const chunk = JSON.parse(e.data);
    if (chunk.choices.length > 0 && first === undefined)
      first = chunk.choices[0].text;
    if (chunk.choices.length === 0) usage = chunk.usage;
  }
  assert.equal(usage.completion_tokens, 20);
  assert.ok(first.length > 0, 'the first chunk comes with the first token');
  const text = 'The quick brown fox';
  const llama = await (await c.post('/tokenize', { content: text })).json();
  const vllm = await (await c.post('/tokenize', { prompt: text,
    model: c.model, add_special_tokens: false })).json();
  assert.deepEqual(llama.tokens, vllm.tokens);
  assert.equal(vllm.count, vllm.tokens.length);
  const back = await (await c.post('/detokenize',
    { tokens: llama.tokens })).json();
  assert.equal((back.content ?? back.prompt).trim(), text);
});

test('a known beginning is read from the cache', async () => {
  const story = 'It was a dark night and the wind blew over the hills. ';
  const long = ask({ messages: user(story.repeat(40)), max_tokens: 8 });
  const cold = await (await c.post('/v1/chat/completions',
    { ...long, cache_prompt: false })).json();
  const first = await (await c.post('/v1/chat/completions', long)).json();
  const again = await (await c.post('/v1/chat/completions', long)).json();
  const cached = (r) => r.usage.prompt_tokens_details.cached_tokens;
  assert.equal(cached(cold), 0);
  assert.ok(cached(again) >= again.usage.prompt_tokens - 17);
  for (const r of [first, again])
    assert.equal(r.choices[0].message.content, cold.choices[0].message.content);
});

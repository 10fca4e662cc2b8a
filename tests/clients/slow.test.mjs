// Patience of clients while a long prompt is read: check 5.
import assert from 'node:assert/strict';
import path from 'node:path';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { Cluster, KEY, events } from './cluster.mjs';

let c;
before(async () => {
  c = new Cluster({ args: ['--ctx', '32768'] });
  c.o.model = path.join(c.dir, 'slow.gguf');
  c.hearth('synth', '--shape',
    'd=1024,layers=16,heads=16,kv=8,ff=4096,vocab=4096', '--type', 'Q8_0',
    '-o', c.o.model);
  await c.start();
});
after(() => c.stop());

// A prompt that takes about so long to read, by how long a short one takes.
async function prompt(ms) {
  const { tokens } = await (await c.post('/tokenize',
    { content: 'stone and water ' })).json();
  const { timings } = await (await c.post('/v1/completions', {
    model: c.model, prompt: 'stone and water '.repeat(100), max_tokens: 1,
    cache_prompt: false })).json();
  const n = Math.min(timings.prompt_per_second * ms / 1000, 30000);
  return 'stone and water '.repeat(Math.floor(n / tokens.length));
}

// Requests that ended, by the server's own count.
async function finished() {
  const text = await (await c.get('/metrics')).text();
  return [...text.matchAll(/^hearth_requests_total\{\S+ (\d+)$/gm)]
    .reduce((sum, [, n]) => sum + Number(n), 0);
}

test('one request, kept alive by comments with progress', async () => {
  let requests = 0, progress = 0, alive = 0;
  const watching = async (...a) => {
    requests++;
    const res = await fetch(...a);
    const [one, two] = res.body.tee();
    (async () => {
      for await (const e of events({ body: two }))
        if (e.comment?.startsWith('prefill_progress')) progress++;
        else if (e.comment === 'keep-alive') alive++;
    })().catch(() => {});
    return new Response(one, res);
  };
  const api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY,
    timeout: 2000, maxRetries: 2, fetch: watching });
  const content = await prompt(10000);
  const before = await finished();
  const t0 = Date.now();
  const stream = await api.chat.completions.create({ model: c.model,
    stream: true, max_tokens: 3, cache_prompt: false,
    messages: [{ role: 'user', content }] });
  let first;
  for await (const chunk of stream)
    if (chunk.choices.length && first === undefined) first = Date.now() - t0;
  console.log(`${first} ms; ${progress} of progress, ${alive} of life`);
  assert.ok(first > 2000, `the prompt took ${first} ms: too quick a machine`);
  assert.equal(requests, 1);
  assert.equal(await finished() - before, 1, 'the server saw another');
  assert.ok(progress > 0, 'no progress was told');
});

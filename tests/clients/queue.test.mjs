// More requests than the service takes at once: check 12.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { spawn } from 'node:child_process';
import path from 'node:path';
import OpenAI from 'openai';
import { Cluster, events, until } from './cluster.mjs';

const PARALLEL = 8, QUEUE = 16, ALL = 50;
let c;
// A model that is slow enough for long answers to stay while others come.
before(async () => {
  c = new Cluster({ key: 'one', args: ['--api-key', 'two', '--ctx', '32768',
    '--parallel', `${PARALLEL}`, '--queue', `${QUEUE}`] });
  c.o.model = path.join(c.dir, 'slow.gguf');
  c.hearth('synth', '--shape',
    'd=512,layers=12,heads=8,kv=4,ff=2048,vocab=4096', '--type', 'Q8_0',
    '-o', c.o.model);
  await c.start();
});
after(() => c.stop());

// By the key that asks: a client of its own in the queue.
function ask(key, body, signal) {
  return fetch(c.base + '/v1/completions', { method: 'POST', signal,
    headers: { 'Content-Type': 'application/json',
      Authorization: 'Bearer ' + key },
    body: JSON.stringify({ model: c.model, prompt: 'The door opened and',
      ignore_eos: true, temperature: 0, ...body }) });
}
const long = { max_tokens: 3900, stream: true };

async function requests() {
  return (await (await c.get('/v1/cluster')).json()).requests;
}
const busy = (running, queued) => until(`${running} running, ${queued} queued`,
  async () => {
    const r = await requests();
    return r.running === running && r.queued === queued;
  });

// So many long answers; the function ends them.
async function occupy(n) {
  const leave = new AbortController();
  const all = await Promise.all(Array.from({ length: n },
    () => ask('one', long, leave.signal)));
  for (const r of all) r.text().catch(() => {}); // read, until it is ended
  return () => leave.abort();
}

let refused = 0;
test('50 at once, 8 at a time, 16 wait, the rest comes later', async () => {
  const release = await occupy(PARALLEL);
  await busy(PARALLEL, 0);
  const all = await Promise.all(Array.from({ length: ALL - PARALLEL },
    async () => {
      // A whole answer is told at its end only, a refusal at once.
      const r = await ask('one', { max_tokens: 4 });
      if (r.status === 429 && ++refused === ALL - PARALLEL - QUEUE) release();
      return { status: r.status, retry: r.headers.get('retry-after'),
        body: await r.json() };
    }));
  const served = all.filter((r) => r.status === 200);
  const told = all.filter((r) => r.status === 429);
  assert.equal(served.length, QUEUE);
  assert.equal(told.length, ALL - PARALLEL - QUEUE);
  for (const r of told) {
    assert.match(r.retry, /^[1-9]\d*$/);
    assert.equal(r.body.error.code, 'queue_full');
    assert.equal(r.body.error.type, 'rate_limit_error');
  }
  for (const r of served) assert.equal(r.body.usage.completion_tokens, 4);
  await busy(0, 0);
});

test('openai comes back by itself when told to', async () => {
  const release = await occupy(PARALLEL + QUEUE);
  await busy(PARALLEL, QUEUE);
  let tries = 0;
  const api = new OpenAI({ baseURL: c.base + '/v1', apiKey: 'two',
    maxRetries: 5, fetch: (...a) => {
      if (++tries === 2) release();
      return fetch(...a);
    } });
  const r = await api.completions.create({ model: c.model, prompt: 'A',
    max_tokens: 2 });
  assert.ok(r.id);
  assert.ok(tries >= 2, 'it was not refused first');
  await busy(0, 0);
});

// One client's crowd does not keep another waiting, and nobody is served
// later than at twice its place in the order of arrival.
test('turns are fair', async () => {
  const release = await occupy(PARALLEL);
  await busy(PARALLEL, 0);
  const done = [], ends = [];
  const come = async (key, queued) => {
    const place = queued;
    ends.push(ask(key, { max_tokens: 8 }).then(async (r) => {
      assert.equal(r.status, 200);
      await r.json();
      done.push({ key, place });
    }));
    await busy(PARALLEL, queued);
  };
  for (let i = 1; i < QUEUE; i++) await come('one', i);
  await come('two', QUEUE);
  release();
  await Promise.all(ends);
  const at = done.findIndex((d) => d.key === 'two') + 1;
  assert.ok(at <= 2 * PARALLEL, `the second client was served as ${at}.`);
  done.forEach((d, i) => assert.ok(i + 1 <= 2 * (PARALLEL + d.place),
    `what came as ${d.place}. was served as ${i + 1}.`));
});

// Prompts of any length, one of them long enough to be read in pieces beside
// the others' answers.
test('eight at once: each gets what it gets alone', async () => {
  const asks = [3, 9, 31, 40, 70, 130, 300, 700].map((n, i) => ({
    max_tokens: 48, cache_prompt: false,
    prompt: Array.from({ length: n }, (_, k) => 10 + (k * 37 + i * 101) % 4000)
  }));
  const text = async (body) => {
    const r = await ask('one', body);
    assert.equal(r.status, 200);
    return (await r.json()).choices[0].text;
  };
  const alone = [];
  for (const a of asks) alone.push(await text(a));
  assert.equal(new Set(alone).size, asks.length, 'they do not tell apart');
  for (let round = 0; round < 3; round++)
    assert.deepEqual(await Promise.all(asks.map(text)), alone);
});

// Check 6: the prompt of one who left is not read to its end.
test('curl killed while its prompt is read', { timeout: 120000 }, async () => {
  const count = async (what) => Number(new RegExp(`^hearth_${what} (\\d+)`, 'm')
    .exec(await (await c.get('/metrics')).text())[1]);
  const [gone, read] = [await count('requests_total{finish="cancelled"}'),
    await count('prompt_tokens_total')];
  const all = 30000;
  const p = spawn('curl', ['-sN', c.base + '/v1/completions',
    '-H', 'Authorization: Bearer one', '-H', 'Content-Type: application/json',
    '-d', '@-'], { stdio: ['pipe', 'ignore', 'ignore'] });
  p.stdin.end(JSON.stringify({ prompt: Array(all).fill(300), max_tokens: 4,
    stream: true, cache_prompt: false }));
  await until('the prompt to be begun', async () =>
    await count('prompt_tokens_total') > read);
  p.kill('SIGKILL');
  await busy(0, 0);
  await until('the request to count as cancelled', async () =>
    await count('requests_total{finish="cancelled"}') === gone + 1);
  const done = await count('prompt_tokens_total') - read;
  assert.ok(done < all, 'all of the prompt was read');
  console.log(`${done} of ${all} tokens were read`);
});

test('a stream that waits is told nothing wrong', async () => {
  const release = await occupy(PARALLEL);
  await busy(PARALLEL, 0);
  const waiting = ask('two', { max_tokens: 3, stream: true });
  await busy(PARALLEL, 1);
  release();
  let text = '', done = false;
  for await (const e of events(await waiting)) {
    if (e.data === '[DONE]') done = true;
    else if (e.data) text += JSON.parse(e.data).choices[0]?.text ?? '';
  }
  assert.ok(done && text.length > 0);
});

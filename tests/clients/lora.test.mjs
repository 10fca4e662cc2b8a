// Adapters as clients of llama.cpp's and vLLM's servers ask for them, with
// openai-node.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { Cluster, KEY, MODELS } from './cluster.mjs';

let c, api, dir;
before(async () => {
  dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hearth-lora-'));
  for (const [name, seed] of [['one', '1'], ['two', '2']])
    execFileSync(process.env.HEARTH, ['synth', '--lora',
      path.join(MODELS, 'tale-q8_0.gguf'), '--rank', '8', '--seed', seed,
      '-o', path.join(dir, name + '.gguf')]);
  c = await new Cluster({ workers: 1, args: ['--lora',
    path.join(dir, 'one.gguf') + ':0', '--lora-dir', dir] }).start();
  api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY });
});
after(async () => {
  await c.stop();
  fs.rmSync(dir, { recursive: true });
});

const ask = (o) => api.chat.completions.create({ model: c.model,
  messages: [{ role: 'user', content: 'Once upon a time' }], temperature: 0,
  max_tokens: 16, ...o }).then((r) => r.choices[0].message.content);

const post = (where, body) => fetch(c.base + where, { method: 'POST',
  headers: { Authorization: 'Bearer ' + KEY,
    'Content-Type': 'application/json' }, body: JSON.stringify(body) });

test('as a model, by id and by scale', async () => {
  const names = [];
  for await (const m of api.models.list()) names.push(m.id);
  assert.ok(names.includes('one'), names);
  const plain = await ask({}), one = await ask({ model: 'one' });
  assert.notEqual(one, plain);
  assert.equal(await ask({ model: c.model + ':one' }), one);
  assert.equal(await ask({ lora: [{ id: 0, scale: 1 }] }), one);
  assert.equal(await ask({ lora: [{ id: 0, scale: 0 }] }), plain);
  assert.equal(await ask({}), plain);
});

test('several at once keep their own answers', async () => {
  const loaded = await post('/v1/load_lora_adapter',
    { lora_name: 'two', lora_path: path.join(dir, 'two.gguf') });
  assert.equal(loaded.status, 200, await loaded.text());
  const sets = [{}, { model: 'one' }, { model: 'two' },
    { lora: [{ id: 0, scale: 0.5 }, { name: 'two', scale: -1 }] }];
  const alone = [];
  for (const s of sets) alone.push(await ask(s));
  assert.equal(new Set(alone).size, sets.length, alone);
  const mixed = await Promise.all(sets.concat(sets).map(ask));
  assert.deepEqual(mixed, alone.concat(alone));
  const gone = await post('/v1/unload_lora_adapter', { lora_name: 'two' });
  assert.equal(gone.status, 200);
  await assert.rejects(ask({ model: 'two' }), OpenAI.NotFoundError);
});

test('usual scales, and what is refused', async () => {
  const one = await ask({ model: 'one' }), plain = await ask({});
  const set = await post('/lora-adapters', [{ id: 0, scale: 1 }]);
  assert.deepEqual(await set.json(), { success: true });
  const list = await (await c.get('/lora-adapters')).json();
  assert.equal(list[0].scale, 1);
  assert.equal(list[0].rank, 8);
  assert.equal(await ask({}), one);
  assert.equal(await ask({ lora: [] }), plain);
  await assert.rejects(ask({ lora: [{ id: 9 }] }),
    (e) => e instanceof OpenAI.BadRequestError && e.param === 'lora');
  await assert.rejects(ask({ lora: 'one' }), OpenAI.BadRequestError);
  const outside = await post('/v1/load_lora_adapter',
    { lora_name: 'x', lora_path: '/etc/hostname' });
  assert.equal(outside.status, 403);
  const wrong = await post('/v1/load_lora_adapter',
    { lora_name: 'one', lora_path: 'one.gguf' });
  assert.equal(wrong.status, 400);
});

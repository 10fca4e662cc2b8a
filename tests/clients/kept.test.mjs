// A context that outlives the processes: --kv-dir, with a coordinator and a
// worker that are ended and started again.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, until } from './cluster.mjs';

let c;
before(async () => {
  c = new Cluster({ workers: 1 });
  c.o.args = ['--kv-dir', path.join(c.dir, 'kv'), '--shares', '1,1',
    '--log-level', 'info'];
  await c.start();
});
after(() => c.stop());

const files = () => fs.existsSync(path.join(c.dir, 'kv'))
  ? fs.readdirSync(path.join(c.dir, 'kv')) : [];

const story = 'It was a dark night and the wind blew over the hills. ';
async function ask() {
  const r = await c.post('/v1/completions', { model: c.model,
    prompt: story.repeat(40), max_tokens: 24, temperature: 0 });
  assert.equal(r.status, 200);
  const a = await r.json();
  return { text: a.choices[0].text, all: a.usage.prompt_tokens,
    cached: a.usage.prompt_tokens_details.cached_tokens };
}

async function end(signal) {
  for (const p of c.procs)
    if (p.exitCode === null && p.signalCode === null) {
      const gone = new Promise((done) => p.once('exit', done));
      p.kill(signal);
      await gone;
    }
}

for (const signal of ['SIGTERM', 'SIGKILL'])
  test(`after ${signal} and a new start the prompt is not read again`,
    async () => {
      const first = await ask();
      await until('the context to be written', async () =>
        c.log('serve').includes('CONTEXT-KEPT') && files().length > 0);
      await end(signal);
      await c.start();
      const again = await ask();
      assert.ok(again.cached > 0.9 * again.all,
        `${again.cached} of ${again.all} tokens were kept`);
      assert.equal(again.text, first.text);
      assert.match(c.log('serve'), /CONTEXT-READ/);
    });

test('a damaged file costs the prompt, not the answer', async () => {
  const first = await ask();
  await end('SIGTERM');
  for (const f of files()) {
    const at = path.join(c.dir, 'kv', f);
    if (!fs.statSync(at).isFile()) continue;
    const bytes = fs.readFileSync(at);
    bytes[bytes.length >> 1] ^= 1;
    fs.writeFileSync(at, bytes);
  }
  await c.start();
  const again = await ask();
  assert.equal(again.text, first.text);
  assert.equal(again.cached, 0);
});

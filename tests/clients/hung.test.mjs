// A device that is not dead but says nothing: stopped, or behind a link that
// swallows everything. Check 7's variants, with a real client.
import assert from 'node:assert/strict';
import net from 'node:net';
import { after, before, test } from 'node:test';
import OpenAI from 'openai';
import { Cluster, KEY, VIA, sleep, until } from './cluster.mjs';

// What is promised is 2 s, and told here; which rule found it is asserted: the
// device was silent for 1.6 s in a step that stood still.
const HUNG = /worker-1.*silent for 1\.6 s/;

// Both ports of the coordinator, at another address of this machine. While
// `deaf`, bytes are taken and not passed on, in both directions, and nobody is
// told.
class Relay {
  constructor(c) { this.c = c; this.deaf = false; this.all = []; }

  async open() {
    this.server = [0, 1].map((i) => net.createServer((a) => {
      const b = net.connect(this.c.port + i, '127.0.0.1');
      for (const [from, to] of [[a, b], [b, a]]) {
        from.setNoDelay(true);
        from.on('data', (d) => { if (!this.deaf) to.write(d); });
        from.on('close', () => { if (!this.deaf) to.destroy(); });
        from.on('error', () => {});
        this.all.push(from);
      }
    }));
    await Promise.all(this.server.map((s, i) =>
      new Promise((done) => s.listen(this.c.port + i, VIA, done))));
  }

  // The link works again: what was under way on it is lost.
  mend() {
    if (!this.deaf) return;
    for (const s of this.all.splice(0)) s.destroy();
    this.deaf = false;
  }

  close() {
    for (const s of this.all) s.destroy();
    for (const s of this.server) s.close();
  }
}

let c, relay, api;
before(async () => {
  c = new Cluster({ workers: 1, via: VIA,
    args: ['--shares', '1,1', '--bind', '127.0.0.1'] });
  await c.serve();
  relay = new Relay(c);
  await relay.open();
  c.workers = [c.worker(1)];
  await c.ready(2);
  c.model = 'tale-q8_0';
  api = new OpenAI({ baseURL: c.base + '/v1', apiKey: KEY, maxRetries: 0 });
});
after(async () => {
  relay?.close();
  await c.stop();
});

// A stream that is hurt after three tokens ends in an error that names the
// device, the coordinator says that it is not whole, and after `mend` answers
// again without anybody's help.
async function hurt(how, mend, why) {
  const stream = await api.chat.completions.create({ model: c.model,
    stream: true, max_tokens: 1900, ignore_eos: true,
    messages: [{ role: 'user', content: 'Once upon a time' }] });
  let tokens = 0, at;
  await assert.rejects(async () => {
    for await (const chunk of stream)
      if (chunk.choices[0]?.delta?.content && ++tokens === 3) {
        how();
        at = Date.now();
      }
  }, (e) => {
    assert.ok(e instanceof OpenAI.APIError, String(e));
    assert.match(e.message, why);
    return true;
  });
  console.log(`the client was told after ${Date.now() - at} ms`);
  // A link that broke is opened anew before one can ask.
  if (why === HUNG) await until('health to say so', async () => {
    const r = await fetch(c.base + '/health');
    const h = await r.json();
    return r.status === 503 && h.error.code === 'cluster_degraded' &&
      /worker-1/.test(h.error.message);
  });
  mend();
  await c.ready(2);
  const r = await api.chat.completions.create({ model: c.model, max_tokens: 4,
    messages: [{ role: 'user', content: 'Again' }] });
  assert.ok(r.choices[0].message.content.length > 0);
  assert.equal(c.procs.find((p) => p.spawnargs.includes('serve')).exitCode,
    null, 'the coordinator is gone');
}

test('a worker that is stopped', () => hurt(
  () => c.workers[0].kill('SIGSTOP'), () => c.workers[0].kill('SIGCONT'),
  HUNG));

test('a link that swallows everything', async () => {
  try {
    await hurt(() => { relay.deaf = true; }, () => relay.mend(), HUNG);
  } finally {
    relay.mend();
  }
});

test('a link that breaks', () => hurt(
  () => { for (const s of relay.all.splice(0)) s.destroy(); }, () => {},
  /worker-1/));

test('a pause that is short is waited for', async () => {
  const ask = { model: c.model, stream: true, max_tokens: 200, temperature: 0,
    messages: [{ role: 'user', content: 'Once upon a time' }] };
  const read = async (each) => {
    let text = '', n = 0;
    for await (const chunk of await api.chat.completions.create(ask)) {
      text += chunk.choices[0]?.delta?.content ?? '';
      if (++n === 3) each();
    }
    return text;
  };
  const want = await read(() => {});
  assert.equal(await read(async () => {
    c.workers[0].kill('SIGSTOP');
    await sleep(300);
    c.workers[0].kill('SIGCONT');
  }), want);
});

// Questions about health beside a running answer: check 13. Reports how many
// and what they cost; that all are answered and the answer is the same is
// what is asserted (scripts/bench-serve-health measures properly). Slow; needs
// wrk. Idle connections and a client that dribbles, beside the same answer.
import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { Cluster, events, sleep } from './cluster.mjs';

const IDLE = 10000;
let c, alone;
before(async () => {
  c = await new Cluster({ args: ['--ctx', '2048'] }).start();
  alone = await story();
});
after(() => c.stop());

async function story() {
  const t0 = Date.now();
  let text = '', n = 0;
  const res = await c.post('/v1/completions', { model: c.model, stream: true,
    prompt: 'The door opened and', temperature: 0, max_tokens: 1900,
    ignore_eos: true, cache_prompt: false });
  for await (const e of events(res))
    if (e.data && e.data !== '[DONE]') {
      text += JSON.parse(e.data).choices[0]?.text ?? '';
      n++;
    }
  assert.ok(n > 1);
  return { text, ms: Date.now() - t0 };
}

function tell(what, beside) {
  assert.equal(beside.text, alone.text, 'the answer was disturbed');
  console.log(`${what}: ${beside.ms} ms for the answer, alone ${alone.ms} ms`);
}

const wrk = spawnSync('wrk', ['-v']).error;
test('64 connections ask for health', wrk
  ? { skip: 'SKIPPED: wrk is not installed' } : {}, async () => {
  let out = '';
  const p = spawn('wrk', ['-t2', '-c64', '-d5s', c.base + '/health']);
  p.stdout.on('data', (d) => { out += d; });
  const ended = new Promise((done) => p.on('exit', done));
  await sleep(200);
  const beside = await story();
  assert.equal(await ended, 0, out);
  assert.doesNotMatch(out, /Non-2xx|Socket errors/, out);
  tell(/Requests\/sec:.*/.exec(out)[0].replace(/\s+/g, ' '), beside);
});

function connect(n) {
  return Promise.all(Array.from({ length: n }, () => new Promise((done) => {
    const s = net.connect(c.http, '127.0.0.1', () => done(s));
    s.on('error', () => done(null));
  })));
}

const rss = () => Number(/VmRSS:\s+(\d+)/.exec(spawnSync('cat',
  [`/proc/${c.procs[0].pid}/status`], { encoding: 'utf8' }).stdout)[1]);

test(`${IDLE} idle connections`, async () => {
  const before = rss(), all = [];
  for (let i = 0; i < IDLE; i += 500) all.push(...await connect(500));
  const open = all.filter((s) => s && !s.destroyed).length;
  tell(`${open} idle connections, ${rss() - before} KiB more`, await story());
  assert.ok(open > IDLE / 10, 'this system gives too few connections');
  assert.ok(rss() - before < 128 << 10, 'memory is not bounded');
  assert.equal((await fetch(c.base + '/health')).status, 200);
  for (const s of all) s?.destroy();
});

const BODY = 8 << 20, BODIES = 64 << 20;

// The largest body there may be, one byte more, and what is no JSON.
test('bodies of the largest size', { timeout: 120000 }, async () => {
  const before = rss();
  const send = async (body) => {
    const r = await fetch(c.base + '/v1/chat/completions',
      { method: 'POST', headers: c.headers(), body });
    return [r.status, (await r.json()).error.code];
  };
  const message = (n) => JSON.stringify({ model: c.model, messages:
    [{ role: 'user', content: 'stone '.repeat(n / 6) }] });
  const frame = message(0).length;
  const largest = message(BODY - frame).padEnd(BODY, ' ');
  assert.equal(largest.length, BODY);
  const beside = story();
  assert.deepEqual(await send(largest), [400, 'context_length_exceeded']);
  assert.equal((await send(largest + ' '))[0], 413);
  for (const bad of [largest.slice(0, -10).trimEnd().slice(0, -1),
    '['.repeat(BODY), '{"a":'.repeat(BODY / 8), '\0'.repeat(BODY)])
    assert.deepEqual(await send(bad), [400, 'invalid_json']);
  tell(`bodies of ${BODY} bytes, ${rss() - before} KiB more`, await beside);
  assert.ok(rss() - before < 256 << 10, 'memory is not bounded');
});

// More than all bodies together may have, none of them whole: what is too much
// is refused, and the rest costs what it may.
test('many large bodies that do not end', { timeout: 120000 }, async () => {
  const n = BODIES / BODY + 4, before = rss();
  const all = await connect(n), answers = [];
  for (const s of all) {
    s.on('data', (d) => answers.push(String(d)));
    s.write('POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n' +
      `Authorization: Bearer ${c.o.key}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${BODY}\r\n\r\n`);
    s.write(Buffer.alloc(BODY - 1, 0x20));
  }
  const beside = await story();
  for (let t = 0; t < 300 && answers.length < 4; t++) await sleep(100);
  tell(`${n} such bodies, ${rss() - before} KiB more`, beside);
  assert.ok(answers.length >= 4, `${answers.length} were refused`);
  for (const a of answers) assert.match(a, /^HTTP\/1\.1 503 /);
  assert.ok(rss() - before < BODIES / 1024 + (64 << 10), 'not bounded');
  for (const s of all) s.destroy();
  assert.equal((await fetch(c.base + '/health')).status, 200);
});

// A byte a time, forever: told 408 after 10 s, and nobody else waits.
test('slow clients', { timeout: 120000 }, async () => {
  const all = await connect(100), answers = [];
  for (const s of all) s.on('data', (d) => answers.push(String(d)));
  const head = 'POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nX-A: ';
  let i = 0;
  const timer = setInterval(() => {
    for (const s of all) if (!s.destroyed) s.write(head[i] ?? 'a');
    i++;
  }, 100);
  tell('100 connections that dribble', await story());
  for (let t = 0; t < 300 && answers.length < 100; t++) await sleep(100);
  clearInterval(timer);
  assert.equal(answers.length, 100);
  for (const a of answers) assert.match(a, /^HTTP\/1\.1 408 /);
  for (const s of all) s.destroy();
});

// The service over TLS with a CA of one's own: curl, node's https, openai, and
// API keys over it. Needs openssl (to make the certificates) and curl.
import assert from 'node:assert/strict';
import { execFile, execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import OpenAI from 'openai';
import { Cluster, KEY, until } from './cluster.mjs';

const run = promisify(execFile);
const skip = ['openssl', 'curl'].find(
  (p) => spawnSync(p, ['version']).error);
const o = skip ? { skip: `SKIPPED: ${skip} is not installed` } : {};
let c, file, base, agent;

function certificates(dir) {
  const at = (n) => path.join(dir, n);
  const ssl = (...a) => execFileSync('openssl', a, { stdio: 'pipe' });
  const key = (n) => ssl('ecparam', '-name', 'prime256v1', '-genkey',
    '-noout', '-out', at(n));
  for (const ca of ['ca', 'other']) {
    key(ca + '.key');
    ssl('req', '-x509', '-new', '-key', at(ca + '.key'), '-days', '2',
      '-subj', '/CN=' + ca, '-out', at(ca + '.pem'));
  }
  key('site.key');
  ssl('req', '-new', '-key', at('site.key'), '-subj', '/CN=localhost',
    '-out', at('site.csr'));
  fs.writeFileSync(at('ext'), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  ssl('x509', '-req', '-in', at('site.csr'), '-CA', at('ca.pem'), '-CAkey',
    at('ca.key'), '-CAcreateserial', '-days', '2', '-extfile', at('ext'),
    '-out', at('site.pem'));
  return at;
}

before(async () => {
  if (skip) return;
  c = new Cluster();
  file = certificates(c.dir);
  c.o.args = ['--tls-cert', file('site.pem'), '--tls-key', file('site.key')];
  await c.serve();
  base = `https://127.0.0.1:${c.http}`;
  agent = new https.Agent({ ca: fs.readFileSync(file('ca.pem')),
    keepAlive: true });
  await until('the service', async () =>
    (await ask('GET', '/health')).status === 200);
});
after(async () => {
  agent?.destroy();
  if (c) await c.stop();
});

// By node's https, over connections that are kept.
function ask(method, where, { body, key, on } = {}) {
  return new Promise((done, fail) => {
    const r = https.request(base + where, { method, agent, headers: {
      ...(key ? { Authorization: 'Bearer ' + key } : {}),
      ...(body ? { 'Content-Type': 'application/json' } : {}) } }, (res) => {
      const { socket } = res; // which is taken from it at the end
      const tls = { version: socket.getProtocol(),
        trusted: socket.authorized };
      let text = '';
      res.setEncoding('utf8');
      res.on('data', (d) => { text += d; if (on) on(d); });
      res.on('end', () => done({ status: res.statusCode, text, tls }));
      res.on('error', fail);
    });
    r.on('error', fail);
    r.end(body ? JSON.stringify(body) : undefined);
  });
}
const story = { prompt: 'The door opened and', max_tokens: 24, temperature: 0 };

test('node: whole and streamed answers, TLS 1.2 or newer', o, async () => {
  const whole = await ask('POST', '/v1/completions', { key: KEY, body: story });
  assert.equal(whole.status, 200, whole.text);
  assert.match(whole.tls.version, /^TLSv1\.[23]$/);
  assert.ok(whole.tls.trusted);
  let parts = 0;
  const stream = await ask('POST', '/v1/completions', { key: KEY,
    body: { ...story, stream: true }, on: () => parts++ });
  const text = stream.text.split('\n\n').filter((l) => l.startsWith('data: {'))
    .map((l) => JSON.parse(l.slice(6)).choices[0]?.text ?? '').join('');
  assert.equal(text, JSON.parse(whole.text).choices[0].text);
  assert.ok(stream.text.trimEnd().endsWith('data: [DONE]'));
  assert.ok(parts > 1, 'the stream came in one piece');
});

test('node: a body of megabytes arrives, many connections', o, async () => {
  const big = 'word '.repeat(1 << 20);
  const long = await ask('POST', '/tokenize', { key: KEY,
    body: { content: big } });
  assert.equal(long.status, 200, long.text.slice(0, 200));
  assert.ok(JSON.parse(long.text).tokens.length >= 1 << 20);
  const all = await Promise.all(Array.from({ length: 40 },
    () => ask('GET', '/health')));
  assert.ok(all.every((r) => r.status === 200));
});

test('keys count over TLS as without', o, async () => {
  assert.equal((await ask('GET', '/health')).status, 200);
  for (const key of [undefined, 'wrong', KEY + 'x']) {
    const r = await ask('POST', '/v1/completions', { key, body: story });
    assert.equal(r.status, 401);
    assert.equal(JSON.parse(r.text).error.code, 'invalid_api_key');
  }
});

test('curl with our CA, and no other', o, async () => {
  const url = base + '/v1/completions';
  const args = ['-sS', '--fail-with-body', '-H', 'Authorization: Bearer ' + KEY,
    '-H', 'Content-Type: application/json', '-d', JSON.stringify(story)];
  const { stdout } = await run('curl', ['--cacert', file('ca.pem'), ...args,
    url]);
  assert.equal(JSON.parse(stdout).usage.completion_tokens, 24);
  await run('curl', ['--cacert', file('ca.pem'), '--tlsv1.2', '--tls-max',
    '1.2', '-sSf', `https://localhost:${c.http}/health`]);
  for (const bad of [['--cacert', file('other.pem')],
    ['--cacert', file('ca.pem'), '--tls-max', '1.1']])
    await assert.rejects(run('curl', [...bad, ...args, url]));
});

test('openai by its own fetch', o, async () => {
  const code = `import OpenAI from 'openai';
    const api = new OpenAI({ baseURL: '${base}/v1', apiKey: '${KEY}' });
    const s = await api.chat.completions.create({ model: 'tale-q8_0',
      stream: true, max_tokens: 8, ignore_eos: true,
      messages: [{ role: 'user', content: 'Once' }] });
    let n = 0;
    for await (const c of s) n += c.choices[0]?.delta?.content ? 1 : 0;
    if (n === 0) throw new Error('no text');`;
  await run(process.execPath, ['--input-type=module', '-e', code],
    { env: { ...process.env, NODE_EXTRA_CA_CERTS: file('ca.pem') } });
});

test('plain HTTP on the TLS port ends, and disturbs nobody', o, async () => {
  await assert.rejects(new Promise((done, fail) => {
    http.get(`http://127.0.0.1:${c.http}/health`, done).on('error', fail);
  }));
  assert.equal((await ask('GET', '/health')).status, 200);
});

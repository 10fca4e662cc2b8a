// A coordinator and workers of this checkout, as processes, each with a
// directory of its own: on loopback, or with LAB in the boxes of scripts/lab of
// that name, where this program runs in the coordinator's. HEARTH names the
// program, MODELS the bundled models' folder.
import assert from 'node:assert/strict';
import { spawn, execFileSync } from 'node:child_process';
import fs from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';

const HEARTH = process.env.HEARTH;
export const MODELS = process.env.MODELS;
export const LAB = process.env.LAB;
export const KEY = 'k';
const PATIENCE_MS = 60000;
// Where workers find the coordinator, and where a relay before it can be.
const HOST = LAB ? '10.78.0.1' : '127.0.0.1';
export const VIA = LAB ? HOST : '127.0.0.2';

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

// Until fn() gives something true, which is returned.
export async function until(what, fn, ms = PATIENCE_MS) {
  const end = Date.now() + ms;
  let last;
  while (Date.now() < end) {
    try {
      const v = await fn();
      if (v) return v;
    } catch (e) { last = e; }
    await sleep(50);
  }
  throw new Error(`waited ${ms} ms for ${what}` + (last ? `: ${last}` : ''));
}

function freePort() {
  return new Promise((done) => {
    const s = net.createServer();
    s.listen(0, '127.0.0.1', () => {
      const { port } = s.address();
      s.close(() => done(port));
    });
  });
}

// The data port, and its neighbour for control, which must be free too.
async function freePair() {
  for (;;) {
    const port = await freePort();
    const ok = port < 65535 && await new Promise((done) => {
      const s = net.createServer();
      s.once('error', () => done(false));
      s.listen(port + 1, '127.0.0.1', () => s.close(() => done(true)));
    });
    if (ok) return port;
  }
}

export class Cluster {
  // {model, workers, args: of serve, key, via: the address that workers join}
  constructor(o = {}) {
    this.o = { model: path.join(MODELS, 'tale-q8_0.gguf'), workers: 0,
      args: [], key: KEY, ...o };
    this.dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hearth-clients-'));
    this.procs = [];
  }

  // box: of the lab, for what runs elsewhere. `ip` becomes the program.
  run(name, args, box) {
    const log = fs.openSync(path.join(this.dir, name + '.log'), 'a');
    const [program, ...all] = LAB && box
      ? ['ip', 'netns', 'exec', `${LAB}-${box}`, HEARTH, ...args]
      : [HEARTH, ...args];
    const p = spawn(program, all, { stdio: ['ignore', 'pipe', log],
      env: { PATH: process.env.PATH, HOME: this.dir, TMPDIR: this.dir } });
    p.text = '';
    p.stdout.on('data', (d) => { p.text += d; });
    this.procs.push(p);
    return p;
  }

  // A port may be taken between looking and listening: try again with others.
  async serve() {
    for (let i = 0; i < 5; i++) {
      this.port = await freePair();
      this.http = await freePort();
      this.base = `http://127.0.0.1:${this.http}`;
      const p = this.run('serve', ['serve', '-m', this.o.model,
        '--port', `${this.port}`, '--http-port', `${this.http}`,
        '--state-dir', path.join(this.dir, 'c'), '--threads', '1',
        ...(this.o.key ? ['--api-key', this.o.key] : []), ...this.o.args]);
      const began = await until('serve to print its join line',
        () => p.text.includes('\n') || p.exitCode !== null);
      if (began && p.exitCode === null) return p;
    }
    throw new Error('serve does not start: ' + this.log('serve'));
  }

  hearth(...args) {
    return execFileSync(HEARTH, args, { encoding: 'utf8',
      env: { ...process.env, HOME: this.dir }, stdio: ['pipe', 'pipe', 'pipe'] });
  }

  worker(i) {
    const name = `worker-${i}`;
    const args = ['worker', '--state-dir', path.join(this.dir, name),
      '--store', path.join(this.dir, name + '.store'), '--name', name,
      '--threads', '1', '--join', `${this.o.via ?? HOST}:${this.port}`];
    if (!fs.existsSync(path.join(this.dir, name))) {
      const line = this.hearth('pair', '--state-dir', path.join(this.dir, 'c'));
      const code = /--code (\S+)/.exec(line)[1];
      args.push('--code', code);
    }
    return this.run(name, args, `w${i}`);
  }

  // The bundled model with another chat template, filled up to the length of
  // its own with a comment.
  template(text) {
    const file = fs.readFileSync(path.join(MODELS, 'tale-q8_0.gguf'));
    const name = Buffer.from('tokenizer.chat_template');
    const at = file.indexOf(name) + name.length + 4;
    const length = Number(file.readBigUInt64LE(at));
    const rest = length - Buffer.byteLength(text) - 4;
    assert.ok(rest >= 0, `the template is ${-rest} bytes too long`);
    file.write(text + '{#' + '.'.repeat(rest) + '#}', at + 8);
    this.o.model = path.join(this.dir, 'other.gguf');
    fs.writeFileSync(this.o.model, file);
  }

  async start() {
    await this.serve();
    this.workers = [];
    for (let i = 1; i <= this.o.workers; i++) this.workers.push(this.worker(i));
    await this.ready(1 + this.o.workers);
    this.model = (await (await this.get('/v1/models')).json()).data[0].id;
    return this;
  }

  ready(ranks) {
    return until('the cluster to be ready', async () => {
      const r = await this.get('/v1/cluster');
      const c = r.ok && await r.json();
      return c && c.state === 'ready' &&
        c.devices.filter((d) => d.rank >= 0).length === ranks;
    });
  }

  headers() {
    return { 'Content-Type': 'application/json',
      ...(this.o.key ? { Authorization: 'Bearer ' + this.o.key } : {}) };
  }

  get(p) { return fetch(this.base + p, { headers: this.headers() }); }

  post(p, body, options = {}) {
    return fetch(this.base + p, { method: 'POST', headers: this.headers(),
      body: JSON.stringify(body), ...options });
  }

  log(name) {
    return fs.readFileSync(path.join(this.dir, name + '.log'), 'utf8');
  }

  // Requests that run or wait, by the coordinator's own account.
  async load() {
    const c = await (await this.get('/v1/cluster')).json();
    return c.requests.running + c.requests.queued;
  }

  async stop() {
    for (const p of this.procs) if (p.exitCode === null) p.kill('SIGKILL');
    await sleep(50);
    fs.rmSync(this.dir, { recursive: true, force: true });
  }
}

// The events of a server-sent stream, comments as {comment}.
export async function* events(res) {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  let rest = '';
  for await (const bytes of res.body) {
    rest += decoder.decode(bytes, { stream: true });
    const parts = rest.split('\n\n');
    rest = parts.pop();
    for (const part of parts)
      for (const line of part.split('\n')) {
        if (line.startsWith(':')) yield { comment: line.slice(1).trim() };
        else if (line.startsWith('data: ')) yield { data: line.slice(6) };
      }
  }
}

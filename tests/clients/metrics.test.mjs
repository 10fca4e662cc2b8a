// /metrics by Prometheus' rules, with promtool where it is installed: check 21.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { after, before, test } from 'node:test';
import { Cluster, MODELS, until } from './cluster.mjs';

let c;
before(async () => { c = await new Cluster({ workers: 1 }).start(); });
after(() => c.stop());

const scrape = async () => {
  const r = await c.get('/metrics');
  assert.equal(r.status, 200);
  assert.match(r.headers.get('content-type'), /^text\/plain; version=0\.0\.4/);
  return r.text();
};

// {name: {type, help, samples: {labels: value}}} of the text format; throws
// where it is none.
function parse(text) {
  const all = {};
  let open;
  assert.ok(text.endsWith('\n'));
  for (const line of text.trimEnd().split('\n')) {
    const meta = /^# (HELP|TYPE) ([a-zA-Z_:][\w:]*) (.+)$/.exec(line);
    if (meta) {
      const [, what, name, rest] = meta;
      open = all[name] ??= { samples: {} };
      open.name = name;
      assert.equal(open[what], undefined, `${name} has ${what} twice`);
      assert.deepEqual(open.samples, {}, `${name}: ${what} after samples`);
      open[what] = rest;
      continue;
    }
    const at = /^([a-zA-Z_:][\w:]*)(\{[^}]*\})? (\S+)$/.exec(line);
    assert.ok(at, 'no sample: ' + line);
    const [, name, labels = '', value] = at;
    const family = open.TYPE === 'histogram'
      ? name.replace(/_(bucket|sum|count)$/, '') : name;
    assert.equal(family, open.name, 'families are mixed: ' + line);
    assert.match(labels, /^(\{[a-z_]+="([^"\\]|\\.)*"(,[a-z_]+="([^"\\]|\\.)*")*\})?$/);
    const key = name + labels;
    assert.ok(!(key in open.samples), key + ' is there twice');
    assert.ok(Number.isFinite(Number(value)), line);
    open.samples[key] = Number(value);
  }
  return all;
}

// What promtool's linter asks for, and the reference's rules of names.
function lint(all) {
  for (const [name, m] of Object.entries(all)) {
    assert.ok(m.HELP && m.TYPE, name + ' has no HELP or no TYPE');
    assert.match(m.TYPE, /^(counter|gauge|histogram)$/);
    assert.match(name, /^hearth_[a-z0-9_]+$/, 'one prefix, snake case');
    assert.equal(name.endsWith('_total'), m.TYPE === 'counter',
      name + ': _total is for counters, and for all of them');
    assert.doesNotMatch(name, /_(count|sum|bucket)$/);
    assert.doesNotMatch(name,
      /_(ms|milliseconds|us|ns|minutes|hours|kb|mb|mib|percent|gauge|counter)(_|$)/,
      'base units only');
    if (m.TYPE === 'histogram') lintHistogram(name, m.samples);
  }
}

function lintHistogram(name, samples) {
  let last = -1, bound = -Infinity, seen;
  assert.match(name, /_(seconds|bytes)$/);
  for (const [key, v] of Object.entries(samples)) {
    const le = /_bucket\{le="([^"]+)"\}/.exec(key);
    if (!le) continue;
    seen = le[1] === '+Inf' ? Infinity : Number(le[1]);
    assert.ok(seen > bound && v >= last, `${name}: buckets do not grow`);
    [bound, last] = [seen, v];
  }
  assert.equal(seen, Infinity);
  assert.equal(samples[name + '_count'], last);
  assert.ok(samples[name + '_sum'] >= 0);
}

function monotonic(before, now) {
  for (const [name, m] of Object.entries(before))
    if (m.TYPE !== 'gauge')
      for (const [key, v] of Object.entries(m.samples))
        assert.ok(now[name].samples[key] >= v, `${key} went back`);
}

const value = (all, name, labels = '') =>
  all['hearth_' + name].samples['hearth_' + name + labels];

const complete = (o) => c.post('/v1/completions', { model: c.model,
  prompt: 'The door', max_tokens: 5, ignore_eos: true, ...o });

test('well formed, named by the rules', async () => {
  await (await complete()).text();
  const text = await scrape();
  const all = parse(text);
  lint(all);
  for (const name of ['build_info', 'requests_total', 'requests_running',
    'requests_waiting', 'prompt_tokens_total', 'generated_tokens_total',
    'comm_bytes_total', 'node_phase_seconds_total', 'node_rtt_seconds',
    'worker_disconnects_total', 'kv_cache_usage_ratio', 'node_up',
    'node_memory_bytes', 'time_to_first_token_seconds',
    'time_per_output_token_seconds', 'e2e_request_seconds', 'queue_seconds'])
    assert.ok(all['hearth_' + name], name + ' is missing');
  const tool = spawnSync('promtool', ['check', 'metrics'],
    { input: text, encoding: 'utf8' });
  if (tool.error) return console.log('promtool: SKIPPED: not installed');
  assert.equal(tool.status, 0, tool.stdout + tool.stderr);
});

test("the dashboard's queries ask for what there is", async () => {
  const all = parse(await scrape());
  const file = fs.readFileSync(path.join(MODELS,
    '../configs/grafana/hearth.json'), 'utf8');
  const names = new Set(JSON.stringify(JSON.parse(file)).match(
    /hearth_[a-z0-9_]+/g));
  assert.ok(names.size > 8);
  for (const name of names) {
    const family = all[name] ?? all[name.replace(/_(bucket|sum|count)$/, '')];
    assert.ok(family, `the dashboard asks for ${name}, which is not told`);
    if (!(name in all)) assert.equal(family.TYPE, 'histogram', name);
  }
});

test('the checker sees what is wrong', () => {
  const good = '# HELP hearth_a_total A.\n# TYPE hearth_a_total counter\n' +
    'hearth_a_total 1\n';
  lint(parse(good));
  assert.throws(() => lint(parse(good.replaceAll('_total', ''))));
  assert.throws(() => lint(parse(good.replaceAll('hearth_a', 'hearth_a_ms'))));
  assert.throws(() => parse(good + 'hearth_a_total 2\n'));
  assert.throws(() => parse(good + 'hearth_b 2\n'));
  assert.throws(() => parse(good.replace(' 1', ' many')));
  assert.throws(() => lint(parse(good.replace(/# HELP.*\n/, ''))));
});

test('counters only grow, by what was done', async () => {
  const before = parse(await scrape());
  const ends = await Promise.all([complete(), complete({ max_tokens: 7 }),
    complete({ max_tokens: 'many' })]);
  for (const r of ends) await r.text();
  const sent = (all) => Object.entries(all.hearth_comm_bytes_total.samples)
    .filter(([k]) => k.includes('dir="sent"'));
  const spent = (all) => Object.entries(
    all.hearth_node_phase_seconds_total.samples)
    .filter(([k]) => k.includes('phase="compute"'));
  let now;
  // A worker tells of its part once a second.
  await until('both devices to tell of it', async () => {
    now = parse(await scrape());
    return [...sent(now), ...spent(now)].every(([k, v]) => v >
      (before.hearth_comm_bytes_total.samples[k] ??
        before.hearth_node_phase_seconds_total.samples[k]));
  });
  assert.equal(sent(now).length, 2);
  assert.equal(spent(now).length, 2);
  const phases = Object.keys(now.hearth_node_phase_seconds_total.samples)
    .map((k) => /phase="(\w+)"/.exec(k)[1]);
  assert.deepEqual([...new Set(phases)],
    ['compute', 'send', 'receive', 'wait', 'disk']);
  assert.ok(Object.entries(now.hearth_node_phase_seconds_total.samples)
    .filter(([k]) => k.includes('phase="send"')).every(([, v]) => v > 0));
  lint(now);
  monotonic(before, now);
  const grown = (name, labels) =>
    value(now, name, labels) - value(before, name, labels);
  assert.equal(grown('generated_tokens_total'), 12);
  assert.equal(grown('requests_total', '{finish="length"}'), 2);
  assert.equal(grown('requests_total', '{finish="refused"}'), 1);
});

// Check 4: refused before anything of it leaves this machine.
test('a prompt that is too long costs the devices nothing', async () => {
  const sent = async () => Object.entries(
    parse(await scrape()).hearth_comm_bytes_total.samples)
    .filter(([k]) => k.includes('dir="sent"') && !k.includes('worker-1'))
    .map(([, v]) => v);
  const before = await sent();
  const r = await complete({ prompt: 'word '.repeat(20000) });
  assert.equal(r.status, 400);
  assert.equal((await r.json()).error.code, 'context_length_exceeded');
  assert.equal(before.length, 1);
  assert.deepEqual(await sent(), before);
});

test('a lost device is counted', async () => {
  const before = parse(await scrape());
  assert.equal(value(before, 'worker_disconnects_total'), 0);
  c.workers[0].kill('SIGKILL');
  await until('the loss to be counted', async () =>
    value(parse(await scrape()), 'worker_disconnects_total') === 1);
  c.workers[0] = c.worker(1);
  await c.ready(2);
  await (await complete()).text();
  const now = parse(await scrape());
  lint(now);
  monotonic(before, now);
});

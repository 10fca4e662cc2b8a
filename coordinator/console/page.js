'use strict';
/* The console: chat on the left, the cluster on the right. Talks to the
 * server it came from and to nothing else (docs/console.md has the JSON).
 * Text from the model or from devices enters the page as text nodes only. */

const $ = (id) => document.getElementById(id);

/* An element: make('p', {class: 'note'}, 'text', child...). */
function make(tag, attrs, ...kids) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(attrs || {})) {
    if (k === 'class') e.className = v;
    else if (k.startsWith('on')) e.addEventListener(k.slice(2), v);
    else e.setAttribute(k, v);
  }
  e.append(...kids);
  return e;
}

function svg(tag, attrs) {
  const e = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [k, v] of Object.entries(attrs)) e.setAttribute(k, v);
  return e;
}

function bytes(n) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let i = 0;
  while (n >= 1024 && i < 4) { n /= 1024; i++; }
  return (n < 10 && i > 0 ? n.toFixed(1) : Math.round(n)) + ' ' + units[i];
}

const number = (n, digits) => n.toLocaleString('en', {
  minimumFractionDigits: digits, maximumFractionDigits: digits });
const seconds = (ms) => ms < 995 ? Math.round(ms) + ' ms'
  : number(ms / 1000, 1) + ' s';
const plural = (n, word) => `${number(n, 0)} ${word}${n === 1 ? '' : 's'}`;

/* Browser storage may be switched off; the page works without it. */
function stored(store, key, value) {
  try {
    if (value === undefined) return JSON.parse(window[store].getItem(key));
    window[store].setItem(key, JSON.stringify(value));
  } catch (e) { /* nothing is kept then */ }
  return null;
}

/* ---- asking the server ------------------------------------------------- */

function headers() {
  const h = { 'Content-Type': 'application/json' };
  if (params.key) h.Authorization = 'Bearer ' + params.key;
  return h;
}

async function complaint(res) {
  let text = '';
  try {
    const body = await res.json();
    text = body.error && (body.error.message || body.error);
  } catch (e) { /* no JSON: the status has to do */ }
  if (res.status === 401) text = (text || 'an API key is needed') +
    ' (Parameters has a field for it)';
  return new Error(text || `the server answered ${res.status}`);
}

async function ask(path, options) {
  const res = await fetch(path, { headers: headers(), ...options });
  if (!res.ok) throw await complaint(res);
  return res;
}

/* Server-sent events: calls on.data(object) and on.comment(text). */
async function events(res, on) {
  const reader = res.body.getReader();
  const decoder = new TextDecoder();
  let rest = '';
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    rest += decoder.decode(value, { stream: true });
    const lines = rest.split(/\r?\n/);
    rest = lines.pop();
    for (const line of lines) {
      if (line.startsWith(':')) on.comment && on.comment(line.slice(1).trim());
      else if (line === 'data: [DONE]') return;
      else if (line.startsWith('data:')) on.data(JSON.parse(line.slice(5)));
    }
  }
}

/* ---- parameters -------------------------------------------------------- */

const NUMBERS = ['temperature', 'top_p', 'top_k', 'min_p', 'max_tokens',
  'seed'];
let params = stored('localStorage', 'hearth-params') || {};

function readParams() {
  params = { system: $('p-system').value, key: $('p-key').value };
  for (const k of NUMBERS)
    if ($('p-' + k).value !== '') params[k] = Number($('p-' + k).value);
  stored('localStorage', 'hearth-params', params);
}

function showParams() {
  $('p-system').value = params.system || '';
  $('p-key').value = params.key || '';
  for (const k of NUMBERS) $('p-' + k).value = params[k] ?? '';
}

/* ---- chat: the conversation -------------------------------------------- */

/* {role, content, reasoning?, error?, stat?}; what the server is sent is the
 * role and the content. */
let talk = stored('sessionStorage', 'hearth-talk') || [];
let running = null; /* AbortController of the answer being made */
let model = '';

function save() { stored('sessionStorage', 'hearth-talk', talk); }

/* Inline code and bold; all else is text. */
function inline(text, into) {
  for (const part of text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/)) {
    if (/^`.+`$/.test(part)) into.append(make('code', {}, part.slice(1, -1)));
    else if (/^\*\*.+\*\*$/.test(part))
      into.append(make('b', {}, part.slice(2, -2)));
    else if (part) into.append(part);
  }
  return into;
}

function block(text, into) {
  const lines = text.split('\n');
  const heading = /^#{1,6} (.*)$/.exec(text);
  if (heading) into.append(inline(heading[1], make('h3')));
  else if (lines.every((l) => /^\s*[-*] /.test(l)))
    into.append(make('ul', {}, ...lines.map((l) =>
      inline(l.replace(/^\s*[-*] /, ''), make('li')))));
  else if (lines.every((l) => /^\s*\d+[.)] /.test(l)))
    into.append(make('ol', { start: parseInt(text, 10) }, ...lines.map((l) =>
      inline(l.replace(/^\s*\d+[.)] /, ''), make('li')))));
  else into.append(inline(text, make('p')));
}

/* The Markdown that models write most: code fences, lists, headings. */
function render(text, into) {
  into.replaceChildren();
  text.trimStart().split(/^```/m).forEach((part, i) => {
    if (i % 2 === 1)
      into.append(make('pre', {}, make('code', {},
        part.replace(/^[^\n]*\n?/, '').replace(/\n$/, ''))));
    else part.split(/\n{2,}/).map((b) => b.replace(/^\n+|\n+$/g, ''))
      .filter(Boolean).forEach((b) => block(b, into));
  });
}

function tool(text, label, act) {
  return make('button', { type: 'button', class: 'quiet', 'aria-label': label,
    onclick: act }, text);
}

function copyText(text, button) {
  const area = make('textarea', { class: 'hidden' });
  const done = () => {
    const before = button.textContent;
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = before; }, 1500);
  };
  if (navigator.clipboard) {
    navigator.clipboard.writeText(text).then(done, () => {});
    return;
  }
  /* Without TLS on another machine there is no clipboard interface. */
  area.value = text;
  button.after(area);
  area.select();
  if (document.execCommand('copy')) done();
  area.remove();
}

function tools(m, i) {
  const bar = make('div', { class: 'tools' });
  if (m.role === 'user')
    bar.append(tool('Edit', 'Edit this message', () => edit(i)));
  else {
    if (m.stat) bar.append(make('span',
      { class: 'stat', title: m.parts || '' }, m.stat));
    bar.append(tool('Copy', 'Copy this answer',
      (e) => copyText(m.content, e.target)));
    bar.append(tool('Regenerate', 'Answer again', () => {
      talk.length = i;
      answer();
    }));
  }
  return bar;
}

function fill(view, m) {
  view.body.className = 'body' + (view.live && m.content ? ' caret' : '');
  render(m.content, view.body);
  if (m.reasoning) {
    const d = make('details', {}, make('summary', {}, 'Reasoning'),
      m.reasoning);
    d.open = !m.content;
    view.body.prepend(d);
  }
  if (m.error) view.body.append(make('p', { class: 'error', role: 'alert' },
    m.error));
}

function addMessage(m, i, live) {
  const body = make('div', { class: 'body' });
  const box = make('article', { class: 'msg ' + m.role,
    'aria-label': m.role === 'user' ? 'You' : 'Answer' }, body);
  const view = { box, body, live };
  if (m.role === 'user') body.append(m.content);
  else fill(view, m);
  if (!live) box.append(tools(m, i));
  $('log').append(box);
  return view;
}

function showTalk() {
  $('log').replaceChildren($('empty'));
  $('empty').hidden = talk.length > 0;
  talk.forEach((m, i) => addMessage(m, i, false));
  $('log').scrollTop = $('log').scrollHeight;
}

/* The message goes back to the prompt; it and what followed leave the talk
 * when the new one is sent. */
let editing = -1;

function edit(i) {
  if (running) running.abort();
  editing = i;
  $('prompt').value = talk[i].content;
  $('send').textContent = 'Send again';
  grow();
  $('prompt').focus();
}

function noEdit() {
  editing = -1;
  $('send').textContent = 'Send';
}

/* ---- chat: an answer --------------------------------------------------- */

function requestBody() {
  const body = { model, stream: true, stream_options: { include_usage: true },
    messages: talk.map((m) => ({ role: m.role, content: m.content })) };
  if (params.system)
    body.messages.unshift({ role: 'system', content: params.system });
  for (const k of NUMBERS) if (params[k] !== undefined) body[k] = params[k];
  return body;
}

/* How the prompt went over the devices: what it took and was thought to take,
 * and, for the tip, each one's part. */
function prefillText(p) {
  const predicted = p.predicted_ms === null ? '' :
    ` (${seconds(p.predicted_ms)} predicted)`;
  const mode = p.mode === 'tp' ? '' : ` by ${p.mode}`; /* tp: in steps */
  return `prompt read${mode} in ${seconds(p.took_ms)}${predicted}`;
}
function prefillParts(p) {
  return p.ranks.map((r) => `rank ${r.rank}: ${plural(r.rows, 'token')}, ` +
    `computed ${seconds(r.compute_ms)}, waited ${seconds(r.waited_ms)}, ` +
    `sent ${bytes(r.sent_bytes)}, received ${bytes(r.received_bytes)}`)
    .join('\n');
}

function statLine(usage, timings, firstMs, totalMs) {
  const n = usage.completion_tokens;
  const cached = (usage.prompt_tokens_details || {}).cached_tokens || 0;
  const rate = timings && timings.predicted_per_second ||
    (n > 1 ? (n - 1) * 1000 / Math.max(totalMs - firstMs, 1) : 0);
  const parts = [plural(n, 'token')];
  if (rate > 0) parts.push(number(rate, 1) + ' tokens/s');
  parts.push('first after ' + seconds(firstMs));
  if (cached > 0) parts.push(
    `${number(cached, 0)} of ${number(usage.prompt_tokens, 0)} from cache`);
  return parts.join(' · ');
}

function progress(text, view) {
  const found = /^prefill_progress (\{.*\})$/.exec(text);
  if (!found || view.started) return;
  const p = JSON.parse(found[1]);
  const done = p.done ?? p.processed ?? 0;
  if (p.total > 0) view.note.textContent = `Reading the prompt, ${
    number(done, 0)} of ${plural(p.total, 'token')}`;
}

function take(chunk, m, view) {
  if (chunk.error)
    throw new Error(chunk.error.message || String(chunk.error));
  if (chunk.timings) view.timings = chunk.timings;
  if (chunk.cluster) view.prefill = chunk.cluster.prefill;
  if (chunk.usage) view.usage = chunk.usage;
  const choice = (chunk.choices || [])[0];
  const delta = choice && choice.delta || {};
  if (choice && choice.finish_reason) m.finish = choice.finish_reason;
  const thought = delta.reasoning_content || delta.reasoning || '';
  if (!delta.content && !thought) return;
  if (!view.started) view.firstMs = performance.now() - view.from;
  view.started = true;
  m.content += delta.content || '';
  if (thought) m.reasoning = (m.reasoning || '') + thought;
  redraw(view, m);
}

/* At most one drawing per frame, however fast tokens come; follows the end
 * unless the reader scrolled away from it. */
function redraw(view, m) {
  if (view.pending) return;
  view.pending = true;
  requestAnimationFrame(() => {
    const log = $('log');
    const follow = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    view.pending = false;
    fill(view, m);
    if (follow) log.scrollTop = log.scrollHeight;
  });
}

function finish(view, m) {
  const total = performance.now() - view.from;
  view.live = false;
  running = null;
  if (view.usage)
    m.stat = statLine(view.usage, view.timings, view.firstMs || total, total);
  if (view.prefill) {
    m.stat = (m.stat ? m.stat + ' · ' : '') + prefillText(view.prefill);
    m.parts = prefillParts(view.prefill);
  }
  if (m.finish === 'length') m.stat = (m.stat ? m.stat + ' · ' : '') +
    'stopped at the token limit';
  save();
  showTalk();
  $('stop').hidden = true;
  $('send').hidden = false;
}

async function answer() {
  if (running) return;
  const m = { role: 'assistant', content: '' };
  running = new AbortController();
  $('stop').hidden = false;
  $('send').hidden = true;
  showTalk();
  const view = addMessage(m, talk.length, true);
  view.from = performance.now();
  view.note = make('p', { class: 'progress', role: 'status' }, 'Waiting');
  view.body.append(view.note);
  $('log').scrollTop = $('log').scrollHeight;
  const body = requestBody();
  talk.push(m);
  try {
    const res = await ask('/v1/chat/completions', { method: 'POST',
      body: JSON.stringify(body), signal: running.signal });
    await events(res, { data: (d) => take(d, m, view),
      comment: (t) => progress(t, view) });
  } catch (e) {
    if (e.name !== 'AbortError') m.error = say(e);
    else m.stat = 'stopped';
  }
  finish(view, m);
}

function say(e) {
  return e instanceof TypeError
    ? 'The coordinator cannot be reached. Is hearth serve running?'
    : e.message;
}

function send(e) {
  const text = $('prompt').value.trim();
  if (e) e.preventDefault();
  if (!text || running) return;
  if (editing >= 0) talk.length = editing;
  noEdit();
  talk.push({ role: 'user', content: text });
  $('prompt').value = '';
  grow();
  answer();
}

function grow() {
  const p = $('prompt');
  p.style.height = 'auto';
  p.style.height = p.scrollHeight + 2 + 'px';
}

/* ---- cluster ----------------------------------------------------------- */

const PHASES = ['compute', 'send', 'receive', 'wait', 'disk'];
const HISTORY = 120; /* seconds */
const history = [];

function fact(name, value, wide) {
  return make('div', wide ? { class: 'wide' } : {}, make('dt', {}, name),
    make('dd', {}, value));
}

function facts(d) {
  const list = make('dl', { class: 'facts' });
  if (d.rank >= 0) list.append(fact('Share', number(d.share * 100, 1) + ' %'));
  list.append(fact('Weights', bytes(d.shard_bytes)));
  list.append(fact('Memory', bytes(d.memory_bytes)));
  if (d.read_bytes_per_s > 0)
    list.append(fact('Reads', number(d.read_bytes_per_s / 1e9, 1) + ' GB/s'));
  list.append(fact('Threads', `${d.threads} of ${d.cores}`));
  const trip = d.round_trip_s > 0
    ? `, ${number(d.round_trip_s * 1000, 1)} ms there and back` : '';
  list.append(fact('Link', d.coordinator ? 'this machine' : d.address + trip,
    true));
  list.append(fact('Processor', `${d.arch} ${d.isa}`, true));
  return list;
}

/* Where the last steps' time went, in ms per step, from the sums of two
 * tellings; what was shown last stays while nothing runs. */
const times = new Map();

function stepTime(d) {
  const kept = times.get(d.id) || {};
  const steps = d.time.steps - (kept.sums ? kept.sums.steps : 0);
  if (steps > 0) {
    const fresh = !kept.sums || steps > d.time.steps;
    kept.ms = {};
    for (const p of PHASES)
      kept.ms[p] = (d.time[p + '_s'] - (fresh ? 0 : kept.sums[p + '_s'])) *
        1000 / steps;
  } else if (steps < 0) kept.ms = null;
  kept.sums = d.time;
  times.set(d.id, kept);
  return kept.ms;
}

function timeBar(t) {
  const total = PHASES.reduce((sum, p) => sum + (t[p] || 0), 0);
  const text = PHASES.filter((p) => t[p] >= 0.005)
    .map((p) => `${p} ${number(t[p], 2)} ms`).join(', ');
  const bar = make('div', { class: 'bar', role: 'img', title: text,
    'aria-label': 'Time per step: ' + text });
  for (const p of PHASES) {
    if (!(t[p] > 0)) continue;
    const part = make('i', { class: p });
    part.style.flexGrow = t[p] / total;
    bar.append(part);
  }
  return make('div', {}, bar, make('small', {},
    `${number(total, 1)} ms per step: ${text}`));
}

const TONE = { ready: 'ready', idle: 'busy', loading: 'busy',
  linking: 'busy' };

function device(d) {
  const loading = d.state === 'loading' && d.shard_bytes > 0
    ? ` ${Math.floor(100 * d.done_bytes / d.shard_bytes)} %` : '';
  const li = make('li', { class: TONE[d.state] || 'bad' },
    make('div', { class: 'dev-head ' + (TONE[d.state] || 'bad') },
      make('span', { class: 'dot', 'aria-hidden': 'true' }),
      make('b', {}, d.name),
      make('span', { class: 'what' }, d.state + loading)),
    facts(d));
  const ms = d.rank >= 0 && stepTime(d);
  if (ms) li.append(timeBar(ms));
  if (d.reason) li.append(make('p', { class: 'why' }, d.reason));
  return li;
}

function plot() {
  const w = 320, h = 88;
  const max = Math.max(1, ...history) * 1.1;
  const at = (v, i) => `${((HISTORY - history.length + i) * w / (HISTORY - 1))
    .toFixed(1)} ${(h - v / max * (h - 4)).toFixed(1)}`;
  const line = 'M' + history.map(at).join('L');
  const first = ((HISTORY - history.length) * w / (HISTORY - 1)).toFixed(1);
  const p = $('plot');
  p.replaceChildren(
    svg('path', { class: 'grid', d: `M0 ${h - .5}H${w}M0 ${h / 2}H${w}` }),
    svg('path', { class: 'area', d: `${line}L${w} ${h}L${first} ${h}Z` }),
    svg('path', { class: 'curve', d: line }));
  p.setAttribute('aria-label', 'Tokens per second over the last two minutes,' +
    ` now ${number(history[history.length - 1], 1)}`);
  $('plot-max').textContent = 'up to ' + number(Math.max(0, ...history), 1);
}

function totalsLine(c) {
  const t = c.totals || {};
  const parts = [plural(t.generated_tokens || 0, 'token') + ' written'];
  if (t.cached_tokens > 0)
    parts.push(number(t.cached_tokens, 0) + ' read from cache');
  return parts.join(', ');
}

function showState(kind, text) {
  $('state').className = kind;
  if ($('state-text').textContent !== text)
    $('state-text').textContent = text;
}

function showCluster(c) {
  const r = c.requests;
  const busy = r.running + r.queued === 0 ? 'ready' :
    `${plural(r.running, 'request')} running` +
    (r.queued > 0 ? `, ${r.queued} waiting` : '');
  showState(c.state === 'ready' ? 'ready' : c.state === 'failed' ? 'bad'
    : 'busy', c.model + ' · ' +
    (c.state === 'ready' ? busy : c.reason || c.state));
  model = c.id || c.model;
  $('rate').textContent = number(c.tokens_per_s.decode, 1);
  $('totals').textContent = totalsLine(c);
  $('devices').replaceChildren(...c.devices.map(device));
  history.push(c.tokens_per_s.decode);
  if (history.length > HISTORY) history.shift();
  plot();
}

async function watch() {
  for (let wait = 500; ; wait = Math.min(wait * 2, 5000)) {
    try {
      const res = await ask('/v1/cluster/events');
      await events(res, { data: (c) => { wait = 500; showCluster(c); } });
      showState('busy', 'connecting');
    } catch (e) {
      showState('bad', say(e));
    }
    await new Promise((done) => setTimeout(done, wait));
  }
}

/* ---- joining and planning ---------------------------------------------- */

let joinTimer = 0;

function joinLeft(until) {
  const left = Math.max(0, Math.round((until - Date.now()) / 1000));
  $('join-left').textContent = left === 0
    ? 'This code has expired; close and open again for another.'
    : `Works once, for ${Math.ceil(left / 60)} more minutes.`;
}

async function join() {
  clearInterval(joinTimer);
  $('join-line').textContent = '';
  $('qr').replaceChildren();
  $('qr').hidden = true;
  $('join-left').textContent = 'Making a code';
  $('join').showModal();
  try {
    const res = await ask('/v1/cluster/pair', { method: 'POST', body: '{}' });
    const p = await res.json();
    const until = Date.now() + p.expires_s * 1000;
    const quiet = 4;
    const size = p.qr.size + 2 * quiet;
    $('join-line').textContent = p.command;
    $('qr').setAttribute('viewBox', `${-quiet} ${-quiet} ${size} ${size}`);
    $('qr').replaceChildren(svg('path', { d: p.qr.path, fill: '#000' }));
    $('qr').hidden = false;
    joinLeft(until);
    joinTimer = setInterval(() => joinLeft(until), 1000);
  } catch (e) {
    $('join-left').textContent = say(e);
  }
}

function planTable(p) {
  const rows = p.ranks.map((r) => make('tr', {},
    make('th', { scope: 'row' }, r.name || 'rank ' + r.rank),
    make('td', {}, number(r.share * 100, 1) + ' %'),
    make('td', {}, bytes(r.weights_bytes)),
    make('td', {}, bytes(r.kv_bytes)),
    make('td', r.fits ? {} : { class: 'no' },
      r.memory_bytes > 0 ? (r.fits ? 'fits ' : 'too much for ') +
        bytes(r.memory_bytes) : 'no device yet')));
  const head = ['Device', 'Share', 'Weights', 'Context', 'Memory'];
  return make('table', {}, make('thead', {}, make('tr', {},
    ...head.map((t) => make('th', { scope: 'col' }, t)))),
  make('tbody', {}, ...rows));
}

async function plan(e) {
  e.preventDefault();
  const q = new URLSearchParams({ shares: $('plan-shares').value.trim() });
  if ($('plan-ctx').value.trim()) q.set('ctx', $('plan-ctx').value.trim());
  try {
    const res = await ask('/v1/cluster/plan?' + q);
    const p = await res.json();
    const lines = [planTable(p)];
    if (p.bytes_per_token > 0) lines.push(make('p', { class: 'note' },
      `Each token moves ${bytes(p.bytes_per_token)} over the network` +
      (p.tokens_per_s > 0 ? `; at best ${number(p.tokens_per_s, 1)
        } tokens/s by memory speed` : '') + '.'));
    if (p.reason) lines.push(make('p', { class: 'why' }, p.reason));
    $('plan').replaceChildren(...lines);
  } catch (err) {
    $('plan').replaceChildren(make('p', { class: 'why' }, say(err)));
  }
}

/* ---- start ------------------------------------------------------------- */

function view(name, focus) {
  document.body.className = 'show-' + name;
  for (const n of ['chat', 'cluster']) {
    $('tab-' + n).setAttribute('aria-selected', n === name);
    $('tab-' + n).tabIndex = n === name ? 0 : -1;
  }
  if (focus) $('tab-' + name).focus();
}

function keys(e) {
  if (e.key === 'Escape' && running && !document.querySelector('dialog[open]'))
    running.abort();
}

function start() {
  $('legend').append(...PHASES.map((p) =>
    make('li', {}, make('i', { class: p, 'aria-hidden': 'true' }), p)));
  $('form').addEventListener('submit', send);
  $('prompt').addEventListener('input', grow);
  $('prompt').addEventListener('keydown', (e) => {
    if (e.key === 'Enter' && !e.shiftKey && !e.isComposing) send(e);
    else if (e.key === 'Escape' && editing >= 0) noEdit();
  });
  $('stop').addEventListener('click', () => running && running.abort());
  $('new-chat').addEventListener('click', () => {
    if (running) running.abort();
    talk = [];
    noEdit();
    save();
    showTalk();
    $('prompt').focus();
  });
  $('open-params').addEventListener('click', () => {
    showParams();
    $('params').showModal();
  });
  $('params').addEventListener('close', readParams);
  $('reset-params').addEventListener('click', () => {
    params = { key: params.key };
    showParams();
  });
  $('open-join').addEventListener('click', join);
  $('join').addEventListener('close', () => clearInterval(joinTimer));
  $('copy-join').addEventListener('click',
    (e) => copyText($('join-line').textContent, e.target));
  $('plan-form').addEventListener('submit', plan);
  for (const n of ['chat', 'cluster'])
    $('tab-' + n).addEventListener('click', () => view(n, false));
  document.querySelector('nav').addEventListener('keydown', (e) => {
    if (e.key === 'ArrowLeft') view('chat', true);
    if (e.key === 'ArrowRight') view('cluster', true);
  });
  document.addEventListener('keydown', keys);
  view('chat', false);
  showTalk();
  watch();
}

start();

// Prompts by template against @huggingface/jinja: check 19. Templates written
// for this test, in the manner of the families people use, and the published
// ones of the golden data, which are other projects' text and not in this
// repository.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Template } from '@huggingface/jinja';
import { Cluster } from './cluster.mjs';

const dir = fs.mkdtempSync(path.join(os.tmpdir(), 'hearth-templates-'));
after(() => fs.rmSync(dir, { recursive: true, force: true }));

const templates = {
  chatml: `{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' +
    m['content'] | trim + '<|im_end|>' + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}`,
  headers: `{{ bos_token }}
{%- if messages[0].role == 'system' %}
    {%- set system = messages[0].content | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{{- '<|start|>system<|end|>' ~ system ~ '<|eot|>' }}
{%- for m in messages %}
    {{- '<|start|>' + m.role + '<|end|>\\n\\n' + m.content + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|end|>\\n\\n' }}
{%- endif %}`,
  inst: `{{ bos_token }}{% for m in messages %}
{%- if m.role == 'system' %}{{ raise_exception('no system here') }}
{%- elif (m.role == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('roles must alternate') }}
{%- elif m.role == 'user' %}{{ '[INST] ' ~ m.content ~ ' [/INST]' }}
{%- else %}{{ ' ' ~ m.content ~ eos_token }}{% endif %}
{%- endfor %}`,
  macros: `{%- macro part(m, first=false) -%}
{{ 'A' if first else 'B' }}({{ m.role | upper }}|{{ m.content | length }})
{%- endmacro -%}
{%- set ns = namespace(n=0) -%}
{%- for m in messages if m.role != 'system' -%}
{%- set ns.n = ns.n + 1 -%}
{{ part(m, first=loop.first) }}{% if not loop.last %},{% endif %}
{%- endfor %} n={{ ns.n }} last={{ messages[-1].content.split(' ')[-1] }}
{{ messages | map(attribute='role') | join('/') }}
{{ messages[0] | tojson }} {{ 'y' if messages[::-1][0].role is string }}`,
};

const talks = {
  one: [{ role: 'user', content: ' Hello "there" ' }],
  system: [{ role: 'system', content: 'Be brief.\n' },
    { role: 'user', content: 'Héllo wörld' }],
  turns: [{ role: 'user', content: 'a b' }, { role: 'assistant', content: 'c' },
    { role: 'user', content: 'd {{ e }}' }],
};

const NOW = '2026-01-02 03:04:05';
function ours(text, input) {
  const file = path.join(dir, 't.jinja');
  fs.writeFileSync(file, text);
  return execFileSync(process.env.HEARTH,
    ['template', '--file', file, '--now', NOW],
    { input: JSON.stringify(input), encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'] });
}

// The oracle, by the clock that ours is given.
const RealDate = Date;
class Then extends RealDate {
  constructor(...a) { super(...(a.length ? a : [2026, 0, 2, 3, 4, 5])); }
}
function theirs(text, input) {
  globalThis.Date = Then;
  try {
    return new Template(text).render(input);
  } finally {
    globalThis.Date = RealDate;
  }
}

for (const [name, text] of Object.entries(templates))
  for (const [talk, messages] of Object.entries(talks))
    test(`${name}, ${talk}`, () => {
      const input = { messages, add_generation_prompt: true,
        bos_token: '<s>', eos_token: '</s>' };
      let want;
      try {
        want = theirs(text, input);
      } catch {
        assert.throws(() => ours(text, input));
        return;
      }
      assert.equal(ours(text, input), want);
    });

const GOLDEN = path.join(process.env.HEARTH_GOLDEN, 'templates');
const families = !fs.existsSync(GOLDEN) ? [] : fs.readdirSync(GOLDEN)
  .filter((f) => f.endsWith('.jinja')).map((f) => f.slice(0, -6));
const need = families.length > 0 ? {}
  : { skip: 'SKIPPED: no golden data at ' + GOLDEN };
const text = (family) =>
  fs.readFileSync(path.join(GOLDEN, family + '.jinja'), 'utf8');

// What Python's jinja2 makes of them, or a template's own exception.
test('published templates: every golden case', need, () => {
  let cases = 0;
  for (const family of families) {
    const all = JSON.parse(fs.readFileSync(path.join(GOLDEN,
      family + '.json'), 'utf8'));
    for (const one of all) {
      const what = `${family}, ${one.case}`;
      cases++;
      if ('error' in one)
        assert.throws(() => ours(text(family), one), (e) => {
          assert.ok(e.stderr.includes(one.error), `${what}: ${e.stderr}`);
          return true;
        });
      else
        assert.equal(ours(text(family), one), one.expect, what);
    }
  }
  console.log(`${cases} cases of ${families.length} templates`);
});

const said = (role, content) => ({ role, content });
const published = {
  plain: [said('user', 'Hi there')],
  system: [said('system', 'You are terse.'), said('user', 'Grüße, 世界!')],
  turns: [said('user', 'One <b>two</b>'), said('assistant', 'Three.'),
    said('user', 'Four\nfive'), said('assistant', 'Six'),
    said('user', ' seven ')],
};

// With and without a system message, tools null, several turns. The oracle
// cannot render some templates at all; those are counted, and it must be few.
test('published templates: the oracle agrees', need, () => {
  const missing = new Set(), differ = [];
  let same = 0, refused = 0;
  for (const family of families)
    for (const [talk, messages] of Object.entries(published)) {
      const input = { messages, tools: null, add_generation_prompt: true,
        bos_token: '<s>', eos_token: '</s>' };
      let want, got;
      try {
        want = theirs(text(family), input);
      } catch { want = null; }
      try {
        got = ours(text(family), input);
      } catch { got = null; }
      if (got === null && want === null) refused++;
      else if (got === want) same++;
      else if (want === null) missing.add(family);
      else differ.push(`${family}, ${talk}: ours ${JSON.stringify(got)}, ` +
        `theirs ${JSON.stringify(want)}`);
    }
  console.log(`${same} equal, ${refused} refused by both; not rendered by the oracle: ` +
    ([...missing].join(', ') || 'none'));
  assert.deepEqual(differ, []);
  assert.ok(missing.size <= families.length / 8);
});

test('/apply-template is what the oracle renders', async () => {
  const c = await new Cluster().start();
  try {
    const template = (await (await c.get('/props')).json()).chat_template;
    for (const [talk, messages] of Object.entries(published)) {
      const r = await c.post('/apply-template', { messages });
      const got = (await r.json()).prompt;
      const want = theirs(template, { messages, add_generation_prompt: true,
        bos_token: '<s>', eos_token: '</s>' });
      assert.equal(got, want, talk);
    }
  } finally {
    await c.stop();
  }
});

// Prompts by template against @huggingface/jinja: check 19. The templates are
// written for this test, in the manner of the families people use.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';
import { Template } from '@huggingface/jinja';

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

function ours(text, input) {
  const file = path.join(dir, 't.jinja');
  fs.writeFileSync(file, text);
  return execFileSync(process.env.HEARTH, ['template', '--file', file],
    { input: JSON.stringify(input), encoding: 'utf8',
      stdio: ['pipe', 'pipe', 'pipe'] });
}

for (const [name, text] of Object.entries(templates))
  for (const [talk, messages] of Object.entries(talks))
    test(`${name}, ${talk}`, () => {
      const input = { messages, add_generation_prompt: true,
        bos_token: '<s>', eos_token: '</s>' };
      let want;
      try {
        want = new Template(text).render(input);
      } catch (e) {
        assert.throws(() => ours(text, input));
        return;
      }
      assert.equal(ours(text, input), want);
    });

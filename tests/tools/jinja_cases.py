#!/usr/bin/env python3
"""Write tests/data/jinja_cases.json: snippets of templates, their variables,
and what Python's jinja2 makes of them, set up as chat templates are. Needs
jinja2; run it again only when cases are added."""
import datetime
import json
import sys

import jinja2
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

VARS = {
    "s": "  Hello, World\n", "u": "Grüße 👋 an alle", "e": "", "n": 7, "f": 2.5,
    "big": 1e22, "small": 1.5e-7, "t": True, "no": False, "nil": None,
    "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "d": {"b": 1, "a": {"x": [1, "é"]}},
    "m": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"},
          {"role": "user", "content": "<|im_end|>"}],
    "q": "it's \"q\"\t\\",
}

CASES = r"""
{{ s }}|{{ s|trim }}|{{ s.strip() }}|{{ s.lstrip() }}|{{ s.rstrip() }}
{{ u|length }} {{ u[0:5] }} {{ u[-4:] }} {{ u[::-1] }} {{ u[6] }} {{ u.split()|tojson }}
{{ n + 1 }} {{ n - 10 }} {{ n * 3 }} {{ n / 2 }} {{ n // 2 }} {{ n % 4 }} {{ -n // 2 }} {{ -n % 4 }}
{{ f + 1 }} {{ f * 2 }} {{ 1.0 }} {{ big }} {{ small }} {{ 0.1 + 0.2 }} {{ 100000.0 }} {{ 1e16 }} {{ 123456789012345680.0 }}
{{ t }} {{ no }} {{ nil }} {{ l }} {{ w }} {{ d }} {{ (1, 'a') }} {{ (1,) }} {{ q }} {{ [q] }}
{{ d|tojson }} {{ u|tojson }} {{ q|tojson }} {{ l|tojson(indent=2) }} {{ d|tojson(indent=4) }}
{{ d|tojson(sort_keys=True, separators=(',', ':')) }} {{ u|tojson(ensure_ascii=True) }}
{% for x in l %}{{ loop.index }}/{{ loop.length }}:{{ x }}{% if not loop.last %},{% endif %}{% endfor %}
{% for x in l %}{{ loop.previtem }}-{{ loop.nextitem }};{% endfor %}
{% for x in [] %}a{% else %}empty{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k in d %}{{ k }}{% endfor %} {% for c in 'añb' %}[{{ c }}]{% endfor %}
{% for x in l if x > 1 %}{{ loop.index0 }}{{ x }}{{ loop.last }} {% endfor %}
{% for x in range(10) %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 5 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% set x = 1 %}{% for i in l %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}
{% set ns = namespace(a=1, b='x') %}{% for i in l %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }}{{ ns.b }}
{% set a, b = 1, 2 %}{{ b }}{{ a }} {% set c = [1] + [2] %}{{ c }}
{% set z %}  text {{ n }} {% endset %}[{{ z }}] {% set z | upper %}abc{% endset %}{{ z }}
{% macro f(a, b='d', c=none) %}<{{ a }}|{{ b }}|{{ c }}>{% endmacro %}{{ f(1) }}{{ f(1, c=3) }}{{ f(b=2, a=1) }}
{% macro r(n) %}{{ n }}{% if n > 0 %}{{ r(n - 1) }}{% endif %}{% endmacro %}{{ r(4) }}
{% set g = 5 %}{% macro h() %}{{ g }}{% set g = 9 %}{{ g }}{% endmacro %}{{ h() }}{{ g }}
{{ 'a' if t else 'b' }} {{ 'a' if no }}| {{ 1 if no else 2 if no else 3 }}
{{ t and no }} {{ e or 'x' }} {{ not e }} {{ 0 or none }} {{ 1 and 'y' }}
{{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ 'a' < 'b' }} {{ true == 1 }} {{ none == false }}
{{ 1 in l }} {{ 9 not in l }} {{ 'el' in s }} {{ 'a' in d }} {{ 'user' in ['user'] }}
{{ missing is defined }} {{ n is defined }} {{ nil is none }} {{ s is string }} {{ d is mapping }} {{ l is iterable }} {{ n is iterable }}
{{ l is sequence }} {{ d is sequence }} {{ t is boolean }} {{ n is number }} {{ n is integer }} {{ f is float }} {{ t is true }} {{ no is false }}
{{ nil is not none }} {{ missing is undefined }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is eq 7 }} {{ n is in [7] }}
[{{ missing }}] {{ missing|default('x') }} {{ e|default('x') }} {{ e|default('x', true) }} {{ d.zz is defined }}
{{ d.a.x[1] }} {{ d['a']['x'][0] }} {{ d.get('zz') }} {{ d.get('zz', 4) }} {{ d.get('b') }} {{ d.a.x.0 }}
{{ w|join(', ') }} {{ w|sort|join }} {{ l|sort(reverse=true) }} {{ w|unique|list }} {{ ['a', 'A', 'b']|unique|list }}
{{ l|first }} {{ l|last }} {{ l|length }} {{ l|reverse|list }} {{ d|list }} {{ d|length }} {{ 'abc'|list }}
{{ d|dictsort }} {{ {'B': 1, 'a': 2}|dictsort }} {{ {'x': 2, 'y': 1}|dictsort(by='value') }}
{{ m|map(attribute='role')|join(',') }} {{ m|selectattr('role', 'equalto', 'user')|list|length }} {{ m|rejectattr('role', 'equalto', 'user')|map(attribute='content')|first }}
{{ w|map('upper')|list }} {{ [1, 2, 3]|select('odd')|list }} {{ [1, 2, 3]|reject('odd')|list }} {{ [0, 1, none]|select|list }}
{{ 'aXbXc'.split('X') }} {{ 'aXbXc'.split('X', 1) }} {{ 'a b  c'.split() }} {{ 'a b  c'.split(' ') }} {{ 'aXbXc'.split('X')[-1] }} {{ 'a,b,c'.rsplit(',', 1) }}
{{ 'abc'.startswith('ab') }} {{ 'abc'.endswith('bc') }} {{ 'abc'.startswith(('x', 'a')) }} {{ 'xxabxx'.strip('x') }} {{ 'a.b'.replace('.', '-') }}
{{ 'abc'|upper }} {{ 'ABC'|lower }} {{ 'hello wORLD'|capitalize }} {{ 'hello wORLD'|title }} {{ 'aaa'|replace('a', 'b', 2) }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(2, blank=true) }}
{{ '5'|int + 1 }} {{ 'x'|int }} {{ 'x'|int(3) }} {{ 2.9|int }} {{ '2.5'|float }} {{ n|string + '!' }} {{ n|abs }}
{{ 'a' ~ 1 ~ none ~ 2.0 }} {{ 'a' 'b' }} {{ 'ab' * 3 }} {{ "\u00e9\x41\n" }}
{{ -1|abs }} {{ 2 ** 3 }} {{ (1 + 2) * 3 }} {{ 1 + 2 ~ 3 }} {{ not true or true }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[:-1] }} {{ l[::2] }} {{ l[5:] }} {{ l[-9:2] }} [{{ l[9] }}]
  {% if t %}
    yes
  {% endif %}
after
a {%- if t %} b {%- endif %} c {{- ' d ' -}} e
{# comment #}x{#- c -#} y {#- z #}
{% raw %}{{ not this }}{% endraw %}
x{% if no %}1{% elif nil %}2{% elif t %}3{% else %}4{% endif %}y
{% filter upper %}abc {{ s|trim }}{% endfilter %}
{% if (m[0].role == 'user') != (0 % 2 == 0) %}bad{% else %}good{% endif %}
{{ strftime_now('%d %B %Y %H:%M:%S') }}
{{ dict(a=1, b=[2])|tojson }} {{ {'a': 1}['a'] }} {{ {'a': {'b': {}}}.a.b }}
{% generation %}kept{% endgeneration %}
{{ '<b>'|safe + '<i>' }} {{ '<' + '&'|safe }} {{ '<' ~ '&'|safe }}
{% for a, b in [(1, 2), (3, 4)] %}{{ a + b }} {% endfor %}{% for (a, b) in [(1, 2)] %}{{ a }}{% endfor %}
{% for x in l %}{% for y in l %}{{ loop.index }}{% endfor %}{{ loop.index }};{% endfor %}
{{ none|selectattr('x')|list }} {{ m[1:]|length }} {{ (m|last).role }} {{ m[-1]['content'] }}
{{ "a" if "b" in "abc" and not "z" in "abc" else "c" }} {{ [1,2] == [1,2] }} {{ {'a':1} == {'a':1} }} {{ (1,2) == (1,2) }}
{{ 1_000 }} {{ 1e3 }} {{ 0.5 }} {{ 5 % 3.5 }} {{ 7 // 2.0 }} {{ true + 1 }} {{ -f }} {{ 3 - -2 }}
{{ missing.x }}
{{ d.zz.y }}
{{ 'a' + 1 }}
{{ 1 + missing }}
{{ raise_exception('Roles must alternate') }}
{{ l.append(1) }}
{% for x in nil %}{% endfor %}
{{ 1 / 0 }}
{{ d|tojson|from_json }}
{{ undefined_function(1) }}
{% set d.x = 1 %}
{{ [1, missing]|tojson }}
{{ s|nosuchfilter }}
"""


def cases():
    """One per line, but for two that span lines."""
    out, held = [], None
    for line in CASES.strip("\n").split("\n"):
        if line == "  {% if t %}":
            held = [line]
        elif held is not None:
            held.append(line)
            if line == "after":
                out.append("\n".join(held) + "\n")
                held = None
        else:
            out.append(line)
    return out


def main():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                        extensions=[loopcontrols, Generation])

    def raise_exception(text):
        raise jinja2.exceptions.TemplateError(text)

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent,
                          separators=separators, sort_keys=sort_keys)

    env.filters["tojson"] = tojson
    env.filters["from_json"] = json.loads
    env.globals["raise_exception"] = raise_exception
    now = datetime.datetime(2026, 1, 2, 3, 4, 5)
    env.globals["strftime_now"] = now.strftime
    out = []
    for text in cases():
        case = {"template": text}
        try:
            case["expect"] = env.from_string(text).render(**VARS)
        except Exception as e:
            case["error"] = str(e)
        out.append(case)
    with open(sys.argv[1], "w", encoding="utf-8") as f:
        json.dump({"vars": VARS, "cases": out}, f, ensure_ascii=False, indent=1)
        f.write("\n")


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        next(parser.stream)
        return parser.parse_statements(["name:endgeneration"], drop_needle=True)


if __name__ == "__main__":
    main()

// 200 random schemas and prompts against a server: every answer that ends by
// itself parses and validates. Slow.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster } from './cluster.mjs';

const ALL = 200, AT_ONCE = 8;
let c;
before(async () => {
  c = await new Cluster({ args: ['--parallel', `${AT_ONCE}`,
    '--queue', `${ALL}`, '--ctx', '2048'] }).start();
});
after(() => c.stop());

// Numbers from a seed, the same each time.
function random(seed) {
  let s = seed >>> 0;
  return (n) => {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0;
    return Math.floor(s / 2 ** 32 * n);
  };
}

const WORDS = ['red', 'green "quoted"', 'blau\\grün', '日本', 'a b', ''];

function schema(r, depth) {
  switch (r(depth > 0 ? 9 : 6)) {
  case 0: return { type: 'boolean' };
  case 1: { // no larger than a few digits: a random model never stops
    const minimum = r(50) - 25;
    return { type: 'integer', minimum, maximum: minimum + r(1000) };
  }
  case 2: { const minLength = r(4);
    return { type: 'string', minLength, maxLength: minLength + r(12) }; }
  case 3: return { enum: WORDS.slice(0, 1 + r(WORDS.length)) };
  case 4: return { type: 'null' };
  case 5: return { const: [WORDS[r(WORDS.length)], r(100), null][r(3)] };
  case 6: { const minItems = r(3);
    return { type: 'array', items: schema(r, depth - 1), minItems,
      maxItems: minItems + r(3) }; }
  case 7: return { anyOf: [schema(r, depth - 1), schema(r, depth - 1)] };
  default: return object(r, depth);
  }
}

function object(r, depth) {
  const properties = {}, required = [];
  for (let i = 0, n = 1 + r(4); i < n; i++) {
    const key = ['name', 'n', 'größe', 'is "it"', 'z'][i];
    properties[key] = schema(r, depth - 1);
    if (r(3) > 0) required.push(key);
  }
  return { type: 'object', properties, required, additionalProperties: false };
}

// Just the keywords above.
function valid(s, v) {
  if (s.anyOf) return s.anyOf.some((one) => valid(one, v));
  if (s.enum) return s.enum.includes(v);
  if ('const' in s) return s.const === v;
  switch (s.type) {
  case 'boolean': return typeof v === 'boolean';
  case 'null': return v === null;
  case 'integer': return Number.isInteger(v) && v >= s.minimum && v <= s.maximum;
  case 'string': { const n = typeof v === 'string' ? [...v].length : -1;
    return n >= s.minLength && n <= s.maxLength; }
  case 'array': return Array.isArray(v) && v.length >= s.minItems &&
    v.length <= s.maxItems && v.every((one) => valid(s.items, one));
  default: return v !== null && typeof v === 'object' && !Array.isArray(v) &&
    s.required.every((k) => k in v) && Object.keys(v).every((k) =>
    k in s.properties && valid(s.properties[k], v[k]));
  }
}

test('the validator sees what is wrong', () => {
  const s = { type: 'object', properties: { n: { type: 'integer', minimum: 1,
    maximum: 3 } }, required: ['n'], additionalProperties: false };
  assert.ok(valid(s, { n: 2 }));
  for (const v of [{}, { n: 4 }, { n: 1.5 }, { n: 2, m: 1 }, [], null, 'n'])
    assert.ok(!valid(s, v), JSON.stringify(v));
});

test(`${ALL} random schemas`, async () => {
  let cut = 0, next = 0, whole = 0;
  const one = async (seed) => {
    const r = random(seed * 7919 + 1), s = object(r, 3);
    const words = Array.from({ length: 1 + r(12) }, () => WORDS[r(6)] + ' ');
    const res = await c.post('/v1/chat/completions', { model: c.model,
      messages: [{ role: 'user', content: 'Make ' + words.join('') }],
      temperature: [0, 0.7, 1.5][r(3)], seed, max_tokens: 700,
      response_format: { type: 'json_schema',
        json_schema: { name: 's', strict: true, schema: s } } });
    const a = await res.json();
    assert.equal(res.status, 200, JSON.stringify([s, a]));
    const { content } = a.choices[0].message;
    if (a.choices[0].finish_reason === 'length') return void cut++;
    assert.equal(a.choices[0].finish_reason, 'stop');
    assert.ok(valid(s, JSON.parse(content)), JSON.stringify(s) + content);
    whole++;
  };
  await Promise.all(Array.from({ length: AT_ONCE }, async () => {
    while (next < ALL) await one(next++);
  }));
  console.log(`${whole} answers were whole, ${cut} were cut at their length`);
  assert.ok(cut <= ALL / 20, `${cut} answers did not come to an end`);
});

// Keywords that people's libraries write, each with what must hold of a value.
const node = (v) => v === null || (Number.isInteger(v.v) && v.v >= 0 &&
  v.v <= 9 && Object.keys(v).length === 2 && node(v.next));
const UNUSUAL = {
  recursion: [{ $defs: { node: { type: 'object', properties: {
    v: { type: 'integer', minimum: 0, maximum: 9 },
    next: { anyOf: [{ $ref: '#/$defs/node' }, { type: 'null' }] } },
  required: ['v', 'next'], additionalProperties: false } },
  $ref: '#/$defs/node' }, node],
  anyOf: [{ anyOf: [{ type: 'array', items: { type: 'boolean' }, maxItems: 3 },
    { type: 'null' }] }, (v) => v === null || v.every((b) => b === !!b)],
  unicode: [{ enum: ['größe', '日本語', '👋🏽', 'a"b\\c\n'] },
    (v) => ['größe', '日本語', '👋🏽', 'a"b\\c\n'].includes(v)],
  pattern: [{ type: 'string', pattern: '^[A-Z]{2}-\\d{3,4}$' },
    (v) => /^[A-Z]{2}-\d{3,4}$/.test(v)],
  items: [{ type: 'array', minItems: 2, maxItems: 4,
    items: { type: 'string', maxLength: 3 } },
  (v) => v.length >= 2 && v.length <= 4 && v.every((s) => s.length <= 3)],
  closed: [{ type: 'object', properties: { x: { type: 'boolean' } },
    additionalProperties: false }, (v) => Object.keys(v).every((k) => k === 'x')],
  bounds: [{ type: 'object', properties: {
    n: { type: 'number', minimum: -1.5, maximum: 2.25 },
    i: { type: 'integer', exclusiveMinimum: -3, exclusiveMaximum: 4 } },
  required: ['n', 'i'] }, (v) => v.n >= -1.5 && v.n <= 2.25 && v.i > -3 &&
    v.i < 4],
  dateTime: [{ type: 'string', format: 'date-time' },
    (v) => !Number.isNaN(Date.parse(v))],
  uri: [{ type: 'string', format: 'uri' }, (v) => new URL(v).host.length > 0],
  tuple: [{ type: 'array', prefixItems: [{ type: 'boolean' }, { const: 'x' }],
    items: false, minItems: 2 }, (v) => v.length === 2 && v[1] === 'x'],
  allOf: [{ allOf: [{ type: 'object', properties: { a: { type: 'boolean' } },
    required: ['a'] }, { properties: { b: { type: 'null' } },
    required: ['b'] }] }, (v) => typeof v.a === 'boolean' && v.b === null],
};

const form = (schema, o) => c.post('/v1/chat/completions', { model: c.model,
  messages: [{ role: 'user', content: 'Go' }], max_tokens: 600,
  response_format: { type: 'json_schema',
    json_schema: { name: 's', strict: true, schema } }, ...o });

test('unusual schemas', async () => {
  for (const [name, [schema, holds]] of Object.entries(UNUSUAL)) {
    let whole = 0;
    for (let seed = 1; seed <= 6; seed++) {
      const a = await (await form(schema, { seed })).json();
      assert.ok(a.choices, name + JSON.stringify(a));
      if (a.choices[0].finish_reason === 'length') continue;
      const { content } = a.choices[0].message;
      assert.ok(holds(JSON.parse(content)), name + ': ' + content);
      whole++;
    }
    assert.ok(whole > 0, name + ': no answer came to an end');
  }
});

test('what no grammar can say is refused by its name', async () => {
  const refused = { not: { not: { type: 'string' } },
    if: { if: {}, then: {} }, patternProperties: { patternProperties: {} },
    contains: { type: 'array', contains: { const: 1 } },
    uniqueItems: { type: 'array', items: { enum: [1, 2] }, uniqueItems: true },
    multipleOf: { type: 'integer', multipleOf: 3 },
    'look-around': { type: 'string', pattern: '(?=a)b' },
    iri: { type: 'string', format: 'iri' },
    'leads nowhere': { $ref: 'https://x.example/s.json' } };
  for (const [text, schema] of Object.entries(refused)) {
    const r = await form(schema), { error } = await r.json();
    assert.equal(r.status, 400, text);
    assert.equal(error.param, 'response_format');
    assert.ok(error.message.includes(text), error.message);
  }
});

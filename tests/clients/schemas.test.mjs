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

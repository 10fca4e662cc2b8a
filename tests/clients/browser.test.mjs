// The console in Chromium: check 14, and what a person does with it.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { chromium } from 'playwright-core';
import { Cluster, until } from './cluster.mjs';

let c, browser;
before(async () => {
  c = await new Cluster({ workers: 1, key: null }).start();
  browser = await chromium.launch({ args: ['--no-sandbox'],
    executablePath: process.env.CHROMIUM || '/usr/bin/chromium' });
});
after(async () => {
  if (browser) await browser.close();
  await c.stop();
});

// A page whose every complaint and foreign request is noted.
async function open(o = {}) {
  const context = await browser.newContext({
    viewport: { width: 1280, height: 800 }, ...o });
  const page = await context.newPage();
  page.wrong = [];
  page.on('console', (m) => m.type() === 'error' && page.wrong.push(m.text()));
  page.on('pageerror', (e) => page.wrong.push(String(e)));
  page.on('request', (r) => {
    if (!r.url().startsWith(c.base) && !r.url().startsWith('data:'))
      page.wrong.push('asks ' + r.url());
  });
  await page.goto(c.base + '/');
  await page.waitForFunction(() => document.querySelectorAll('#devices > li')
    .length > 0);
  return page;
}

async function set(page, values) {
  await page.click('#open-params');
  for (const [k, v] of Object.entries(values)) await page.fill('#p-' + k, v);
  await page.click('#params .main');
}

async function say(page, text) {
  await page.fill('#prompt', text);
  await page.keyboard.press('Enter');
}

const answered = (page, n) => page.waitForFunction((want) =>
  document.querySelectorAll('.msg.assistant .tools').length === want, n);

test('shows all devices, a plan, a join line', async () => {
  const page = await open();
  assert.equal(await page.locator('#devices > li').count(), 2);
  assert.match(await page.locator('#devices').innerText(), /worker-1/);
  await page.fill('#plan-shares', '1,1,1');
  await page.click('#plan-form button');
  await page.waitForSelector('#plan tbody tr');
  assert.equal(await page.locator('#plan tbody tr').count(), 3);
  await page.fill('#plan-shares', 'nonsense');
  await page.click('#plan-form button');
  await page.waitForSelector('#plan .why');
  await page.click('#open-join');
  await page.waitForSelector('#qr path');
  assert.match(await page.locator('#join-line').innerText(),
    /^hearth worker --join \S+:\d+ --code \S{4}-\S{4}$/);
  await page.keyboard.press('Escape');
  assert.deepEqual(page.wrong.filter((w) => !/400/.test(w)), []);
  await page.context().close();
});

test('chats, stops, regenerates, edits', async () => {
  const page = await open();
  await set(page, { temperature: '0', max_tokens: '12' });
  await say(page, 'Once upon a time');
  await answered(page, 1);
  const first = await page.locator('.msg.assistant .body').innerText();
  assert.ok(first.trim().length > 0);
  assert.match(await page.locator('.msg .stat').innerText(), /12 tokens/);
  await page.click('text=Regenerate');
  await answered(page, 1);
  await page.waitForSelector('#send:visible');
  assert.equal(await page.locator('.msg.assistant .body').innerText(), first);
  await page.click('text=Edit');
  assert.equal(await page.inputValue('#prompt'), 'Once upon a time');
  await say(page, 'The <b>cat</b>');
  await answered(page, 1);
  assert.equal(await page.locator('.msg.user').count(), 1);
  assert.equal(await page.locator('.msg.user b').count(), 0, 'text, not HTML');
  await set(page, { max_tokens: '1800' });
  await say(page, 'A very long story');
  await page.waitForFunction(() => {
    const all = document.querySelectorAll('.msg.assistant .body');
    return all.length === 2 && all[1].innerText.length > 40;
  });
  await page.keyboard.press('Escape');
  await answered(page, 2);
  assert.match(await page.locator('.msg').last().innerText(), /stopped/);
  await until('nothing to run', async () => await c.load() === 0, 10000);
  await page.reload();
  await answered(page, 2);
  await page.click('#new-chat');
  assert.equal(await page.locator('.msg').count(), 0);
  assert.deepEqual(page.wrong, []);
  await page.context().close();
});

for (const scheme of ['light', 'dark'])
  for (const width of [320, 360, 768, 1280])
    test(`nothing overflows: ${scheme}, ${width} wide`, async () => {
      const page = await open({ colorScheme: scheme,
        viewport: { width, height: 740 } });
      await set(page, { max_tokens: '8' });
      await say(page, 'A' + 'b'.repeat(300) + '\n```\n' + 'c'.repeat(300));
      await answered(page, 1);
      const wide = () => page.evaluate(() =>
        document.documentElement.scrollWidth - window.innerWidth);
      assert.ok(await wide() <= 0);
      if (width < 900) {
        await page.focus('#tab-chat');
        await page.keyboard.press('ArrowRight');
      }
      assert.ok(await page.locator('#devices').isVisible());
      assert.ok(await wide() <= 0);
      assert.deepEqual(page.wrong, []);
      await page.context().close();
    });

test('other origins: no chat, no join line', async () => {
  const evil = { Origin: 'https://evil.example' };
  const r = await fetch(c.base + '/v1/models', { headers: evil });
  assert.equal(r.headers.get('access-control-allow-origin'), null);
  const pair = await fetch(c.base + '/v1/cluster/pair', { method: 'POST',
    headers: evil });
  assert.equal(pair.status, 403);
  const near = await fetch(c.base + '/v1/cluster/pair', { method: 'POST',
    headers: { Origin: 'http://localhost:3000' } });
  assert.equal(near.status, 403, 'loopback pages chat, but do not pair');
  const preflight = await fetch(c.base + '/v1/chat/completions', {
    method: 'OPTIONS', headers: { Origin: 'http://localhost:3000',
      'Access-Control-Request-Method': 'POST' } });
  assert.equal(preflight.headers.get('access-control-allow-origin'),
    'http://localhost:3000');
});

test('survives the loss of a device', async () => {
  const page = await open();
  await set(page, { max_tokens: '1900' });
  await say(page, 'A story that is cut off');
  await page.waitForFunction(() => {
    const b = document.querySelector('.msg.assistant .body');
    return b && b.innerText.length > 40;
  });
  c.workers[0].kill('SIGKILL');
  await page.waitForSelector('.msg .error');
  assert.match(await page.locator('.msg .error').innerText(), /worker-1/);
  c.workers[0] = c.worker(1);
  await c.ready(2);
  await set(page, { max_tokens: '8' });
  await say(page, 'And again');
  await answered(page, 2);
  await page.context().close();
});

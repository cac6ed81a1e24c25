// Real Streamlit in a real browser: a slider that reruns the script over the WebSocket; an untouched tab.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Usher, screenshot } from './usher.mjs';
import { enter, moveSlider, newPerson, openBrowser, openShadows } from './people.mjs';

let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

test('a slider reruns the script, before a stop and after it', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'streamlit' });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();

  await enter(page, usher.url('alice', '/?from=mail#part'), 'alice');
  const arrived = new URL(page.url());
  assert.deepEqual([arrived.search, arrived.hash], ['?from=mail', '#part']);
  await moveSlider(page);
  await screenshot(page, 'streamlit-1-at-work');

  await usher.command('stop', 'alice');
  await usher.phase('alice', 'stopped');
  assert.deepEqual(await usher.processes(), [], 'a stop leaves no process');
  await page.goto(usher.url('alice', '/'));
  await moveSlider(page);
  await screenshot(page, 'streamlit-2-back');
});

test('an untouched tab is reaped, and the page says so', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'streamlit', idle: true });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await openShadows(page);
  await enter(page, usher.url('alice', '/'), 'alice');
  await page.getByRole('slider').first().waitFor();

  await usher.phase('alice', 'stopped', 120);
  await page.getByText(/stopped/i).first().waitFor({ timeout: 90_000 });
  await screenshot(page, 'streamlit-3-reaped');
});

// The waiting page: many tabs, a phone, no JavaScript, a failure.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Usher, screenshot, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

const SLOW = `[templates.slow]
command = ["{usher}", "demo", "--socket", "{socket}", "--start-delay", "6000"]
connect = "socket"
`;
const BROKEN = `[templates.broken]
command = ["/bin/sh", "-c", "echo the library is missing; exit 3", "{socket}"]
connect = "socket"
`;
const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

async function start(t, template, options) {
  const usher = await Usher.start({ template, settings: template === 'slow' ? SLOW : BROKEN });
  t.after(() => usher.stop());
  const context = await newPerson(browser, options);
  t.after(() => context.close());
  return { usher, context, page: await context.newPage() };
}

/** Whether the demo itself is shown, and not a page about it. */
const atWork = (page) => page.locator('script[src*="demo.js"]').waitFor({ state: 'attached' });

test('ten waiting tabs of one host all arrive, each at its own link', { timeout: 120_000 }, async (t) => {
  const { usher, context, page } = await start(t, 'slow');
  await enter(page, usher.url('alice', '/?tab=0#part0'), 'alice');
  const tabs = [page];
  for (let i = 1; i < 10; i += 1) {
    const tab = await context.newPage();
    await tab.goto(usher.url('alice', `/?tab=${i}#part${i}`));
    tabs.push(tab);
  }
  for (const [i, tab] of tabs.entries()) {
    await tab.bringToFront();
    await atWork(tab);
    const { search, hash } = new URL(tab.url());
    assert.deepEqual([search, hash], [`?tab=${i}`, `#part${i}`]);
  }
});

for (const colorScheme of ['light', 'dark']) {
  test(`on a phone, in ${colorScheme}, the page fits and goes on`, { timeout: 60_000 }, async (t) => {
    const { usher, page } = await start(t, 'slow', { ...PHONE, colorScheme });
    await enter(page, usher.url('alice'), 'alice');
    await page.getByRole('heading').first().waitFor();
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `wider than the phone by ${overflow} px`);
    await screenshot(page, `waiting-phone-${colorScheme}`);
    await atWork(page);
  });
}

test('without JavaScript the page goes on by itself', { timeout: 60_000 }, async (t) => {
  const { usher, page } = await start(t, 'slow', { javaScriptEnabled: false });
  await enter(page, usher.url('alice', '/?deep=link'), 'alice');
  await screenshot(page, 'waiting-no-javascript');
  await atWork(page);
  assert.equal(new URL(page.url()).search, '?deep=link');
});

test('a failure names its cause, shows the log and offers another try', { timeout: 60_000 }, async (t) => {
  const { usher, page } = await start(t, 'broken');
  await enter(page, usher.url('alice'), 'alice');
  await page.getByText('the library is missing').first().waitFor();
  const retry = page.getByRole('button', { name: /again|retry/i }).first();
  await retry.waitFor();
  await screenshot(page, 'waiting-failed');
  const pressed = page.waitForResponse((answer) => new URL(answer.url()).pathname === '/.usher/start');
  await retry.click();
  assert.ok((await pressed).status() < 400);
  await waitFor('it to fail again', 30, async () => (await usher.workspace('alice'))?.phase === 'failed');
});

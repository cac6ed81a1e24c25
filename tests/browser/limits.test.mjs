// Somebody has asked for more than they may: the page that tells them, and the way on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Usher, screenshot, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

const PHONE = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true };
let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

for (const [name, options] of [['desktop', {}], ['phone', PHONE]]) {
  test(`too many requests, on a ${name}`, { timeout: 120_000 }, async (t) => {
    // The first table of the settings is [limits].
    const usher = await Usher.start({ template: 'demo', settings: 'requests_per_user = "30"\n' });
    t.after(() => usher.stop());
    const context = await newPerson(browser, options);
    t.after(() => context.close());
    const waiting = await context.newPage();
    await enter(waiting, usher.url('alice'), 'alice');
    await usher.phase('alice', 'ready');
    await waiting.close();
    const page = await context.newPage();
    let answer = await page.goto(usher.url('alice', '/note?x=1'));
    for (let more = 60; more > 0 && answer.status() !== 429; more -= 1) answer = await page.goto(answer.url());
    assert.equal(answer.status(), 429);
    assert.ok(Number(answer.headers()['retry-after']) >= 1);
    await page.getByRole('heading', { name: 'Too much at once' }).waitFor();
    assert.match(await page.locator('main').innerText(), /at most 30 a minute \(limits\.requests_per_user\)\. Please try again in \d+ s\./);
    const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
    assert.ok(overflow <= 0, `wider than the window by ${overflow} px`);
    await screenshot(page, `limited-${name}`);
    await waitFor('what was asked for first', 30, async () => {
      const [again] = await Promise.all([page.waitForNavigation(), page.getByRole('link', { name: 'Try again' }).click()]);
      return again.status() === 200;
    });
    assert.equal(page.url(), usher.url('alice', '/note?x=1'));
  });
}

// A service worker has taken a workspace's host over: nothing that the edge sends there is seen any more. Its owner repairs it
// from the portal, and is at the workspace again; or its template allows no workers any more, and it leaves by itself.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Usher, screenshot, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

const HOSTILE = new URL('./hostile.mjs', import.meta.url).pathname;
const SETTINGS = `
[templates.hostile]
command = ["${process.execPath}", "${HOSTILE}", "{socket}"]
connect = "socket"
service_workers = true
`;
let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

/** Alice, a tab of her workspace, and her dashboard. */
async function at(t, portal) {
  const usher = await Usher.start({ template: 'hostile', settings: SETTINGS, portal });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const waiting = await context.newPage();
  await enter(waiting, usher.url('alice'), 'alice');
  await usher.phase('alice', 'ready');
  await waiting.close();
  const tab = await context.newPage();
  await tab.goto(usher.url('alice'));
  return { usher, context, tab, dashboard: await context.newPage() };
}

/** The same, but a worker answers everything in place of the workspace. */
async function hijacked(t, portal) {
  const alice = await at(t, portal);
  await alice.tab.evaluate(async () => {
    localStorage.setItem('kept', 'yes');
    document.cookie = 'kept=yes';
    await navigator.serviceWorker.register('/worker.js?always', { scope: '/' });
    await navigator.serviceWorker.ready;
  });
  return alice;
}

/** What a tab gets at a path of hers: its title, and whether the worker made it. */
async function visit({ usher, context }, path, tab) {
  const page = tab ?? await context.newPage();
  const answer = await page.goto(usher.url('alice', path));
  const got = { title: await page.title(), byWorker: answer.fromServiceWorker() };
  if (page !== tab) await page.close();
  return got;
}

async function repair({ usher, dashboard }) {
  await dashboard.goto(usher.portal);
  await dashboard.locator('summary', { hasText: 'Repair' }).click();
  await dashboard.getByRole('button', { name: 'Repair' }).click();
}

for (const portal of ['lab.localhost', 'usher.localhost']) {
  test(`a repair from ${portal} takes the worker away`, { timeout: 120_000 }, async (t) => {
    const alice = await hijacked(t, portal);
    const { usher, context, tab, dashboard } = alice;
    const cookies = async () => (await context.cookies(usher.url('alice'))).map(({ name, value }) => `${name}=${value}`);
    for (const path of ['/before', '/.usher/before']) {
      assert.deepEqual(await visit(alice, path), { title: 'hijacked', byWorker: true });
    }
    assert.deepEqual(await visit(alice, '/open', tab), { title: 'hijacked', byWorker: true });
    const before = await cookies();
    await repair(alice);
    await dashboard.getByText('Done: this browser was told to forget').waitFor();
    await screenshot(dashboard, `repaired-${portal}`);
    assert.deepEqual(await visit(alice, '/after'), { title: 'evil', byWorker: false });
    // The tab that was open all the time has to be loaded again, and then it is repaired as well.
    assert.equal(await tab.title(), 'hijacked');
    await tab.reload();
    assert.equal(await tab.title(), 'evil');
    const left = await tab.evaluate(async () => ({
      workers: (await navigator.serviceWorker.getRegistrations()).length,
      controlled: navigator.serviceWorker.controller !== null,
      kept: localStorage.getItem('kept'),
    }));
    assert.deepEqual(left, { workers: 0, controlled: false, kept: null });
    assert.deepEqual(await cookies(), before);
    assert.ok(before.includes('kept=yes'), before.join(' '));
  });
}

test('a repair has what is cached asked for anew', { timeout: 120_000 }, async (t) => {
  const alice = await at(t, 'lab.localhost');
  for (let visits = 0; visits < 2; visits += 1) {
    assert.equal((await visit(alice, '/kept')).title, 'asked for 1 times');
  }
  await repair(alice);
  await alice.dashboard.getByText('Done: this browser was told to forget').waitFor();
  assert.equal((await visit(alice, '/kept')).title, 'asked for 2 times');
});

test('a repair whose answer does not come says so', { timeout: 120_000 }, async (t) => {
  const alice = await hijacked(t);
  const { usher, dashboard } = alice;
  await dashboard.route('**/.usher/reset', (route) => route.abort());
  await repair(alice);
  await dashboard.getByText('That did not work').waitFor();
  assert.equal(await dashboard.getByText('Done: this browser').isVisible(), false);
  await screenshot(dashboard, 'repair-failed');
  assert.deepEqual(await visit(alice, '/after'), { title: 'hijacked', byWorker: true });
  assert.equal((await usher.workspace('alice')).phase, 'ready');
});

test('a worker that is not allowed any more leaves by itself', { timeout: 120_000 }, async (t) => {
  const alice = await hijacked(t);
  assert.deepEqual(await visit(alice, '/before'), { title: 'hijacked', byWorker: true });
  await alice.usher.restart('service_workers = true', 'service_workers = false');
  await alice.usher.phase('alice', 'ready');
  // A browser looks for a new script some time after each visit.
  await waitFor('the worker to leave', 60, async () => !(await visit(alice, '/after', alice.tab)).byWorker);
  await waitFor('it to be forgotten', 30, async () =>
    (await alice.tab.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)) === 0);
  assert.deepEqual(await visit(alice, '/after'), { title: 'evil', byWorker: false });
});

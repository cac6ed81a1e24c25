// Real JupyterLab in a real browser: work, leave, come back; untouched tabs and busy kernels.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Usher, screenshot, waitFor } from './usher.mjs';
import { awaitOutput, enter, logIn, newNotebook, newPerson, openBrowser, openShadows, runCell, saveNotebook, savedNotebook } from './people.mjs';

let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

test('a person works in JupyterLab, leaves, and finds their files again', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'jupyterlab' });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();

  await page.goto(usher.url('alice', '/lab?from=mail#part'));
  assert.equal(new URL(page.url()).hostname, 'lab.localhost', 'the login is on the portal');
  await screenshot(page, 'jupyterlab-1-login');
  await logIn(page, 'alice');
  const arrived = new URL(page.url());
  assert.deepEqual([arrived.pathname, arrived.search, arrived.hash], ['/lab', '?from=mail', '#part']);
  await screenshot(page, 'jupyterlab-2-waiting');

  await newNotebook(page);
  await runCell(page, 'print(1+1)');
  await awaitOutput(page, '2');
  await saveNotebook(page);
  assert.match(await savedNotebook(page), /print\(1\+1\)/);
  await screenshot(page, 'jupyterlab-3-at-work');
  // It asks as soon as the page is restored, long before a cell has run.
  assert.equal(await page.getByText('official Jupyter news').count(), 0, 'nobody is asked about news');

  await usher.command('stop', 'alice');
  await usher.phase('alice', 'stopped');
  assert.deepEqual(await usher.processes(), [], 'a stop leaves no process');
  await page.goto(usher.url('alice', '/lab/tree/Untitled.ipynb'));
  await page.locator('.jp-Notebook .cm-content', { hasText: 'print(1+1)' }).first().waitFor();
  await screenshot(page, 'jupyterlab-4-back');
});

test('an untouched tab is reaped, and the page says so', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'jupyterlab', idle: true });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await openShadows(page);
  await enter(page, usher.url('alice', '/lab'), 'alice');
  await page.locator('.jp-LauncherCard').first().waitFor();

  await usher.phase('alice', 'stopped', 120);
  await page.getByText(/stopped/i).first().waitFor({ timeout: 90_000 });
  await screenshot(page, 'jupyterlab-5-reaped');
});

test('a kernel that computes is kept, and ends with its workspace', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'jupyterlab', idle: true });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await enter(page, usher.url('alice', '/lab'), 'alice');
  await newNotebook(page);
  await runCell(page, 'import time; time.sleep(75); print("done")');
  await page.close();

  const until = Date.now() + 50_000;
  await waitFor('two idle periods to pass', 60, async () => {
    const alice = await usher.workspace('alice');
    assert.equal(alice.phase, 'ready', `stopped while its kernel computed: ${JSON.stringify(alice)}`);
    return Date.now() > until;
  });
  assert.match((await usher.workspace('alice')).why, /busy/i);
  await usher.phase('alice', 'stopped', 120);
  assert.deepEqual(await usher.processes(), [], 'a kernel was left behind');
});

test('a stop after JupyterLab itself was killed leaves no kernel behind', { timeout: 300_000 }, async (t) => {
  const usher = await Usher.start({ template: 'jupyterlab' });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await enter(page, usher.url('alice', '/lab'), 'alice');
  await newNotebook(page);
  await runCell(page, 'import time; time.sleep(3600)');
  await waitFor('the kernel to run beside JupyterLab', 30, async () => (await usher.processes()).length >= 2);

  const server = (await usher.processes()).find((process) => process.command.includes('jupyter-lab'));
  process.kill(server.pid, 'SIGKILL');
  await usher.command('stop', 'alice').catch(() => 'seen as crashed already');
  await waitFor('every process to be gone', 60, async () => (await usher.processes()).length === 0);
});

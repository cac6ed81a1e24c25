// By https, with certificates of Usher's own authority: a browser that was told to trust it, and one that was not.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { BINARY, Usher, screenshot, waitFor } from './usher.mjs';
import { enter, logIn, newPerson, openBrowser } from './people.mjs';

/** By https alone; the second listener leads there. */
const SETTINGS = `[[listeners]]
address = "127.0.0.1:0"
protocol = "redirect"
[certificates.site]
source = "self-signed"
`;
const run = promisify(execFile);
let usher;
let home;
before(async () => {
  usher = await Usher.start({ template: 'demo', settings: SETTINGS, https: true });
  home = await mkdtemp(join(tmpdir(), 'usher-home-'));
});
after(async () => {
  await usher?.stop();
  if (home) await rm(home, { recursive: true, force: true });
});

/** A browser of somebody with this home folder. */
async function browserAt(t, folder) {
  const browser = await openBrowser({ env: { ...process.env, HOME: folder } });
  t.after(() => browser.close());
  return browser;
}

/** Does what `usher ca` tells people to do for Chromium. */
async function trustWhatUsherSays(folder) {
  await writeFile(join(folder, 'usher-ca.crt'), await usher.command('ca'));
  // Only who reads it in a terminal is told.
  const { stdout } = await run('script', ['--quiet', '--return', '--command', `${BINARY} ca --config ${usher.config}`, '/dev/null']);
  const [, told] = stdout.match(/^ *Chromium +(.*\S) +\(on Linux;.*\)\s*$/m);
  await run('sh', ['-c', told], { cwd: folder, env: { ...process.env, HOME: folder } });
}

/** The fingerprint of what is served. */
async function fingerprint() {
  const [listed] = JSON.parse(await usher.command('certs', 'list', '--json'));
  return listed.served.fingerprint;
}

test('who was not told to trust it is warned', { timeout: 60_000 }, async (t) => {
  const stranger = join(home, 'stranger');
  await mkdir(stranger);
  const page = await (await newPerson(await browserAt(t, stranger))).newPage();
  await assert.rejects(page.goto(usher.portal), /ERR_CERT_AUTHORITY_INVALID/);
});

test('from http by way of the login to the demo, whose socket outlives its certificate', { timeout: 120_000 }, async (t) => {
  const folder = join(home, 'alice');
  await mkdir(folder);
  await trustWhatUsherSays(folder);
  const context = await newPerson(await browserAt(t, folder));
  const page = await context.newPage();
  await page.goto(`http://alice.lab.localhost:${usher.ports[1]}/?deep=link`);
  await screenshot(page, 'https-login');
  await logIn(page, 'alice');
  await page.locator('script[src*="demo.js"]').waitFor({ state: 'attached' });
  assert.equal(page.url(), usher.url('alice', '/?deep=link'));
  await screenshot(page, 'https-demo');

  const seen = await page.evaluate(() => ({
    protocol: performance.getEntriesByType('navigation')[0].nextHopProtocol,
    isSecure: isSecureContext,
  }));
  assert.deepEqual(seen, { protocol: 'h2', isSecure: true });
  const cookies = await context.cookies();
  assert.ok(cookies.length > 0);
  assert.deepEqual(cookies.filter(({ name, secure }) => !secure || !name.startsWith('__Host-')), []);

  await page.evaluate(() => new Promise((resolve, reject) => {
    window.echo = new WebSocket(`wss://${location.host}/ws`);
    window.echo.onopen = resolve;
    window.echo.onerror = reject;
  }));
  const before = await fingerprint();
  await usher.command('certs', 'renew', 'site');
  await waitFor('another certificate to be served', 30, async () => (await fingerprint()) !== before);
  const echoed = await page.evaluate(() => new Promise((resolve, reject) => {
    window.echo.onmessage = ({ data }) => resolve(data);
    window.echo.onclose = ({ code }) => reject(new Error(`closed with ${code}`));
    window.echo.send('still here');
  }));
  assert.equal(echoed, 'still here');
  await enter(page, usher.portal, 'alice');
  const answer = await page.reload();
  assert.match((await answer.securityDetails()).protocol, /^TLS 1\.3$/);
  await screenshot(page, 'https-portal');
});

// The page that waits at the portal until a workspace's host has its certificate.
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { promisify } from 'node:util';
import { DOMAIN, Usher, screenshot } from './usher.mjs';
import { newPerson, openBrowser } from './people.mjs';

/** One certificate for the portal, and one for each host, of an authority that is down; and a further workspace. */
const SETTINGS = `[named_workspaces.app]
template = "'demo'"
[certificates.portal]
source = "self-signed"
names = ["${DOMAIN}"]
[certificates.people]
source = "acme"
names = ["*.${DOMAIN}"]
challenge = "tls-alpn-01"
per_host = true
[acme.down]
directory = "https://127.0.0.1:9/dir"
terms_of_service_agreed = true
`;
let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

/** Has the operator bring a certificate for somebody's host. */
async function bring(usher, label) {
  const host = `${label}.${DOMAIN}`;
  const [certificate, key] = [join(usher.folder, `${label}.pem`), join(usher.folder, `${label}-key.pem`)];
  await promisify(execFile)('openssl', [
    'req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-days', '2', '-subj', `/CN=${host}`,
    '-addext', `subjectAltName=DNS:${host}`, '-addext', 'basicConstraints=critical,CA:FALSE', '-out', certificate, '-keyout', key,
  ]);
  await usher.command('certs', 'import', `people--${host}`, '--certificate', certificate, '--private-key', key);
}

for (const javaScriptEnabled of [true, false]) {
  const how = javaScriptEnabled ? 'with' : 'without';
  test(`${how} JavaScript the portal leads on once the host has its certificate`, { timeout: 120_000 }, async (t) => {
    const usher = await Usher.start({ template: 'demo', settings: SETTINGS, https: true });
    t.after(() => usher.stop());
    const context = await newPerson(browser, { javaScriptEnabled, ignoreHTTPSErrors: true });
    t.after(() => context.close());
    const page = await context.newPage();
    await page.goto(`${usher.portal}login`);
    await page.locator('form input:not([type=hidden])').first().fill('alice');
    await page.keyboard.press('Enter');
    await page.getByRole('heading', { name: 'Your workspaces' }).waitFor();

    const open = () => page.getByRole('link', { name: 'Open app--alice' }).click();
    await open();
    await page.getByRole('heading', { name: 'Start it first' }).waitFor();
    await page.getByRole('button', { name: 'Start' }).click();
    await page.getByRole('heading', { name: 'Your workspaces' }).waitFor();
    await open();
    await page.getByRole('heading', { name: /certificate/ }).waitFor();
    await page.getByText('This page goes on by itself').waitFor();
    assert.equal(new URL(page.url()).hostname, DOMAIN);
    await screenshot(page, `awaiting-certificate-${how}-javascript`);
    await page.getByRole('heading', { name: 'There is no certificate yet' }).waitFor();

    await bring(usher, 'app--alice');
    await page.waitForURL((url) => url.hostname === `app--alice.${DOMAIN}`);
    await page.locator('script[src*="demo.js"]').waitFor({ state: 'attached' });
  });
}

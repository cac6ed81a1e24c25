// A person in a real browser logs in at a real provider, looks at where they are logged in, and logs out.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { BINARY, Usher, screenshot, waitFor } from './usher.mjs';
import { newPerson, openBrowser } from './people.mjs';

const ACCOUNTS = {
  alice: { name: 'Ada Lovelace', preferred_username: 'alice', groups: ['staff', 'platform'], email: 'ada@example.org', email_verified: true },
  bob: { name: 'Bob', preferred_username: 'bob', groups: ['staff'] },
};

let browser, provider, usher;
before(async () => {
  browser = await openBrowser();
  provider = await Provider.start();
  process.env.LAB_SECRET = 'between the two';
  usher = await Usher.start({
    template: 'demo',
    settings: `[login.providers.lab]
issuer = "${provider.address}"
title = "The Lab"
client_id = "usher"
client_secret = { from_env = "LAB_SECRET" }
`,
    admin: `'platform' in groups`,
  });
  await waitFor('the provider to be heard', 30, () => usher.events('the identity provider answers').length > 0);
  const portal = usher.portal.replace(/\/$/, '');
  await provider.control('client', {
    client_id: 'usher', client_secret: 'between the two', response_types: ['code'],
    redirect_uris: [`${portal}/auth/lab/callback`], post_logout_redirect_uris: [`${portal}/logged-out`],
    grant_types: ['authorization_code', 'refresh_token'],
  });
});
after(async () => {
  await usher?.stop();
  provider?.process.stdin.end();
  await browser?.close();
});

class Provider {
  static async start() {
    const provider = new Provider();
    const script = new URL('../identity/provider.mjs', import.meta.url).pathname;
    provider.process = spawn(process.execPath, [script, JSON.stringify({ accounts: ACCOUNTS })], { stdio: ['pipe', 'pipe', 'inherit'] });
    for await (const line of createInterface({ input: provider.process.stdout })) {
      provider.address = line;
      return provider;
    }
    throw new Error('the provider says nothing');
  }

  async control(what, said) {
    const answer = await fetch(`${this.address}/control/${what}`, { method: 'POST', body: JSON.stringify(said) });
    assert.equal(answer.status, 200, await answer.text());
  }
}

/** Chooses the provider, and is there whom they say. */
async function logInAtTheLab(page, name) {
  await page.getByRole('link', { name: 'The Lab' }).click();
  await page.getByLabel('Name').fill(name);
  await page.getByRole('button', { name: 'Log in' }).click();
}

test('from a deep link by way of a provider back to the very place in the page', async () => {
  const context = await newPerson(browser);
  const page = await context.newPage();
  await page.goto(usher.url('alice', '/deep?x=1#part-2'));
  await screenshot(page, 'login-chooser');
  await logInAtTheLab(page, 'alice');
  const wanted = usher.url('alice', '/deep?x=1#part-2');
  await page.waitForURL(wanted);
  await usher.phase('alice', 'ready');
  await page.getByText('alice').first().waitFor();
  assert.equal(page.url(), wanted);
  await context.close();
});

test('ten tabs at once, each to its own place', async () => {
  const context = await newPerson(browser);
  const tabs = await Promise.all([...Array(10).keys()].map(async (n) => {
    const page = await context.newPage();
    await page.goto(usher.url('bob', `/tab-${n}#at-${n}`));
    return page;
  }));
  // The last to begin is the first to finish.
  for (const page of tabs.toReversed()) {
    await page.getByRole('link', { name: 'The Lab' }).click();
    await page.waitForURL((url) => url.pathname.startsWith('/interaction/') || url.hostname.startsWith('bob.'));
    if (new URL(page.url()).pathname.startsWith('/interaction/')) {
      await page.getByLabel('Name').fill('bob');
      await page.getByRole('button', { name: 'Log in' }).click();
    }
  }
  for (const [n, page] of tabs.entries()) await page.waitForURL(usher.url('bob', `/tab-${n}#at-${n}`));
  await context.close();
});

test('where somebody is logged in, who else is, and the way out', async () => {
  const context = await newPerson(browser);
  const page = await context.newPage();
  const problems = [];
  page.on('console', (message) => message.type() === 'error' && problems.push(message.text()));
  await page.goto(usher.portal);
  await logInAtTheLab(page, 'alice');
  await page.waitForURL(usher.portal);
  await screenshot(page, 'portal');
  await page.goto(new URL('/sessions', usher.portal).href);
  await page.getByText('(this one)').waitFor();
  await page.getByRole('heading', { name: /^Chrom/ }).first().waitFor();
  await screenshot(page, 'sessions');
  await page.goto(new URL('/people', usher.portal).href);
  await page.getByText('alice').first().waitFor();
  await screenshot(page, 'people');
  assert.deepEqual(problems, [], 'nothing that the pages do is forbidden to them');
  await page.goto(usher.portal);
  await page.getByRole('button', { name: /log out/i }).first().click();
  await page.getByText('You are logged out').waitFor();
  await screenshot(page, 'logged-out-here');
  await page.getByRole('link', { name: /Log out at The Lab/ }).click();
  await page.getByRole('button', { name: 'Yes' }).click();
  await page.waitForURL(new URL('/logged-out', usher.portal).href);
  await screenshot(page, 'logged-out');
  await context.close();
});

test('a token for a program, made, shown once and revoked', async () => {
  const context = await newPerson(browser);
  const page = await context.newPage();
  await page.goto(usher.portal);
  await logInAtTheLab(page, 'alice');
  await page.waitForURL(usher.portal);
  await page.goto(new URL('/tokens', usher.portal).href);
  await page.getByLabel('What it is for').fill('the nightly build');
  await page.getByRole('checkbox', { name: 'workspaces:read' }).check();
  await screenshot(page, 'token-new');
  await page.getByRole('button', { name: 'Make it' }).click();
  const token = await page.locator('#token').textContent();
  await screenshot(page, 'token-made');
  // Node's own fetch would look lab.localhost up at the system's resolver.
  const ask = () => page.evaluate(async (token) => {
    const answer = await fetch('/api/v1/workspaces', { credentials: 'omit', headers: { authorization: `Bearer ${token}` } });
    return answer.status;
  }, token);
  assert.equal(await ask(), 200);
  await page.goto(new URL('/tokens', usher.portal).href);
  await page.getByText('the nightly build').waitFor();
  assert.ok(!(await page.content()).includes(token));
  await screenshot(page, 'tokens');
  await page.getByRole('button', { name: 'Revoke' }).click();
  await page.getByText('the nightly build').waitFor({ state: 'detached' });
  assert.equal(await ask(), 401);
  await context.close();
});

test('a command line that is let in', async () => {
  const context = await newPerson(browser);
  const page = await context.newPage();
  const problems = [];
  page.on('console', (message) => message.text().includes('Content Security Policy') && problems.push(message.text()));
  const home = await mkdtemp(join(tmpdir(), 'usher-login-'));
  const login = spawn(BINARY, ['login', '--portal', usher.portal, '--no-browser'], { env: { ...process.env, XDG_CONFIG_HOME: home } });
  const done = new Promise((resolve) => login.once('exit', resolve));
  let said = '';
  login.stderr.on('data', (data) => { said += data; });
  await waitFor('the address and the words', 30, async () => /must show (\S+)\./.test(said));
  const [address] = said.match(/http:\S+/);
  const [, words] = said.match(/must show (\S+)\./);
  await page.goto(address);
  await logInAtTheLab(page, 'alice');
  await page.locator('#words', { hasText: words }).waitFor();
  await screenshot(page, 'command-line');
  await page.getByRole('button', { name: 'Let it in' }).click();
  assert.equal(await done, 0, said);
  await screenshot(page, 'command-line-done');
  assert.deepEqual(problems, [], 'the page may send its form to where the command line listens');
  await context.close();
  await rm(home, { recursive: true });
});

test('somebody whom the provider does not know', async () => {
  const context = await newPerson(browser, { viewport: { width: 390, height: 800 } });
  const page = await context.newPage();
  await page.goto(usher.portal);
  await screenshot(page, 'login-chooser-phone');
  await logInAtTheLab(page, 'mallory');
  await page.getByText('The Lab says: nobody is called mallory').waitFor();
  await screenshot(page, 'login-refused-phone');
  await context.close();
});

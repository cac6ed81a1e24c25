// A page of bob's in alice's own browser: what it can do with her cookies.
//
// The page is answered by the test in the place of bob's workspace; all that it sends to alice's host and to the
// portal goes out for real, with what Chromium adds.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Usher, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

let browser, usher, context, page;
before(async () => {
  browser = await openBrowser();
  usher = await Usher.start({ template: 'demo' });
  context = await newPerson(browser);
  const alice = await context.newPage();
  await enter(alice, usher.url('alice'), 'alice');
  await usher.phase('alice', 'ready');
  await context.route(usher.url('bob', '/evil*'), (route) =>
    route.fulfill({ contentType: 'text/html', body: '<!doctype html><title>evil</title><body></body>' }));
});
after(async () => {
  await context?.close();
  await usher?.stop();
  await browser?.close();
});
beforeEach(async () => {
  if ((await usher.workspace('alice')).phase !== 'ready') {
    const alice = await context.newPage();
    await alice.goto(usher.url('alice'));
    await usher.phase('alice', 'ready');
    await alice.close();
  }
  page = await context.newPage();
  await page.goto(usher.url('bob', '/evil'));
});

/** The status with which alice's host answered something of this page. */
async function answered(url, act) {
  const answer = context.waitForEvent('response', (response) => response.url().startsWith(url));
  await act();
  return (await answer).status();
}

test('her own page is let in', async () => {
  const own = await context.newPage();
  assert.equal((await own.goto(usher.url('alice', '/headers'))).status(), 200);
  assert.doesNotMatch(await own.content(), /__Host-usher/);
});

test('fetch', async () => {
  for (const method of ['GET', 'POST']) {
    const url = usher.url('alice', `/headers?${method}`);
    const status = await answered(url, () =>
      page.evaluate(([url, method]) => {
        fetch(url, { method, credentials: 'include', mode: 'no-cors' }).catch(() => 'blocked');
      }, [url, method]));
    assert.equal(status, 403, method);
  }
});

test('a form', async () => {
  for (const [path, policy] of [['/headers?form', ''], ['/.usher/stop', ''], ['/headers?anonymous', 'no-referrer']]) {
    await page.goto(usher.url('bob', '/evil'));
    const status = await answered(usher.url('alice', path), () =>
      page.evaluate(([url, policy]) => {
        const meta = document.createElement('meta');
        meta.name = 'referrer';
        meta.content = policy;
        if (policy) document.head.append(meta);
        const form = document.createElement('form');
        form.method = 'post';
        form.action = url;
        document.body.append(form);
        form.submit();
      }, [usher.url('alice', path), policy]));
    assert.equal(status, 403, path);
  }
  assert.equal((await usher.workspace('alice')).phase, 'ready');
});

test('an iframe', async () => {
  const url = usher.url('alice', '/headers?iframe');
  const status = await answered(url, () =>
    page.evaluate((url) => {
      const frame = document.createElement('iframe');
      frame.src = url;
      document.body.append(frame);
    }, url));
  assert.equal(status, 403);
});

test('an image and a script', async () => {
  for (const tag of ['img', 'script']) {
    const url = usher.url('alice', `/headers?${tag}`);
    const status = await answered(url, () =>
      page.evaluate(([url, tag]) => {
        const element = document.createElement(tag);
        element.src = url;
        document.body.append(element);
      }, [url, tag]));
    assert.equal(status, 403, tag);
  }
});

test('a WebSocket', async () => {
  const outcome = await page.evaluate((url) => new Promise((resolve) => {
    const socket = new WebSocket(url);
    socket.onopen = () => resolve('open');
    socket.onclose = (event) => resolve(event.code);
  }), usher.url('alice', '/ws').replace('http:', 'ws:'));
  assert.equal(outcome, 1006);
});

test('a prefetch wakes nothing', async () => {
  await usher.command('stop', 'alice');
  await usher.phase('alice', 'stopped');
  const url = usher.url('alice', '/?prefetch');
  const seen = usher.log.length;
  await page.evaluate((url) => {
    const rules = document.createElement('script');
    rules.type = 'speculationrules';
    rules.textContent = JSON.stringify({
      prefetch: [{ source: 'list', urls: [url], eagerness: 'immediate' }],
      prerender: [{ source: 'list', urls: [`${url}-render`], eagerness: 'immediate' }],
    });
    document.head.append(rules);
  }, url);
  await waitFor('the prefetch to reach usher', 30, async () =>
    usher.log.slice(seen).some((line) => line.includes(`alice.lab.localhost`)));
  assert.equal((await usher.workspace('alice')).phase, 'stopped');
});

test('a service worker of the application is replaced by one that leaves', async () => {
  const own = await context.newPage();
  await own.goto(usher.url('alice', '/'));
  await own.evaluate(() => navigator.serviceWorker.register('/worker.js').catch(() => 'refused'));
  await waitFor('no worker to be left', 20, async () =>
    (await own.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)) === 0);
});

// A page of bob's in alice's own browser: what it can do with her cookies.
//
// The page comes from a server of the test under bob's host name, at a port of its own: the site, which is all that
// cookies and Sec-Fetch-Site go by, is the same. What it sends goes to usher, with what Chromium adds.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import { after, before, beforeEach, test } from 'node:test';
import { Usher, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

let browser, usher, context, page, evil;
before(async () => {
  browser = await openBrowser();
  usher = await Usher.start({ template: 'demo' });
  context = await newPerson(browser);
  const alice = await context.newPage();
  await enter(alice, usher.url('alice'), 'alice');
  await usher.phase('alice', 'ready');
  const server = createServer((request, answer) => {
    answer.setHeader('content-type', 'text/html');
    answer.end('<!doctype html><title>evil</title><body></body>');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  evil = { server, url: `http://bob.lab.localhost:${server.address().port}/` };
});
after(async () => {
  await context?.close();
  await usher?.stop();
  await browser?.close();
  evil?.server.close();
  evil?.server.closeAllConnections();
});
beforeEach(async () => {
  if ((await usher.workspace('alice')).phase !== 'ready') {
    const alice = await context.newPage();
    await alice.goto(usher.url('alice'));
    await usher.phase('alice', 'ready');
    await alice.close();
  }
  page = await context.newPage();
  await page.goto(evil.url);
});

/** What usher logged of a request to alice's host: a browser does not tell pages what it was that it kept from them. */
async function answered(path, act) {
  await act();
  let event;
  await waitFor(`a request for ${path}`, 30, async () => {
    event = usher.events('request').find((request) => request['http.path'] === path);
    return event !== undefined;
  });
  return event['http.status'];
}

test('her own page is let in', async () => {
  const own = await context.newPage();
  assert.equal((await own.goto(usher.url('alice', '/headers'))).status(), 200);
  assert.doesNotMatch(await own.content(), /__Host-usher/);
});

test('fetch', async () => {
  for (const method of ['GET', 'POST']) {
    const path = `/fetch-${method}`;
    const url = usher.url('alice', path);
    const status = await answered(path, () =>
      page.evaluate(([url, method]) => {
        fetch(url, { method, credentials: 'include', mode: 'no-cors' }).catch(() => 'blocked');
      }, [url, method]));
    assert.equal(status, 403, method);
  }
});

test('a form', async () => {
  for (const [path, policy] of [['/form', ''], ['/.usher/stop', ''], ['/form-anonymous', 'no-referrer']]) {
    page = await context.newPage();
    await page.goto(evil.url);
    const status = await answered(path, () =>
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
  const url = usher.url('alice', '/iframe');
  const status = await answered('/iframe', () =>
    page.evaluate((url) => {
      const frame = document.createElement('iframe');
      frame.src = url;
      document.body.append(frame);
    }, url));
  assert.equal(status, 403);
});

test('an image and a script', async () => {
  for (const tag of ['img', 'script']) {
    const url = usher.url('alice', `/${tag}`);
    const status = await answered(`/${tag}`, () =>
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
  // The demo has no worker: what is registered here is ours.
  const scope = await own.evaluate(async () => (await navigator.serviceWorker.register('/worker.js')).scope);
  assert.equal(scope, usher.url('alice', '/'));
  await waitFor('no worker to be left', 20, async () =>
    (await own.evaluate(async () => (await navigator.serviceWorker.getRegistrations()).length)) === 0);
});

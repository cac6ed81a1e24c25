// A workspace of alice's own runs an application that means harm. It is her neighbour on the same site: her browser sends
// her cookies with whatever it asks of her other workspace and of the portal. Nobody's session changes by it, and nothing is
// started or stopped.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { Usher, waitFor } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

const HOSTILE = new URL('./hostile.mjs', import.meta.url).pathname;
const SETTINGS = `
[named_workspaces.evil]
template = "'hostile'"
[named_workspaces.rest]
template = "'demo'"
[templates.hostile]
command = ["${process.execPath}", "${HOSTILE}", "{socket}"]
connect = "socket"
service_workers = true
`;

let browser, usher, context, evil, own;
before(async () => {
  browser = await openBrowser();
  usher = await Usher.start({ template: 'demo', settings: SETTINGS });
  context = await newPerson(browser);
  const page = await context.newPage();
  await enter(page, usher.url('alice'), 'alice');
  await usher.phase('alice', 'ready');
  evil = await context.newPage();
  await evil.goto(usher.url('evil--alice'));
  await usher.phase('evil--alice', 'ready');
  await page.goto(usher.portal);
  own = await known();
});
after(async () => {
  await context?.close();
  await usher?.stop();
  await browser?.close();
});
beforeEach(async () => {
  evil = await context.newPage();
  await evil.goto(usher.url('evil--alice'));
  await waitFor('the application that means harm', 30, async () => (await evil.title()) === 'evil');
});

/** What the portal knows of alice, asked by a page of its own, and the cookies by which it knows her. */
async function known() {
  const page = await context.newPage();
  const url = new URL('/sessions', usher.portal).href;
  await page.goto(url);
  assert.equal(page.url(), url, 'she is logged in');
  const sessions = await page.evaluate(async () => (await (await fetch('/api/v1/sessions')).json()).sessions.map((one) => one.id));
  await page.close();
  const cookies = (await context.cookies(usher.portal)).filter((cookie) => cookie.name === '__Host-usher');
  return { sessions, cookie: cookies.map((cookie) => cookie.value), people: usher.events('somebody logged in').length };
}

/** Nothing of what is alice's has changed, and her workspaces are as they were. */
async function unharmed() {
  assert.deepEqual(await known(), own);
  const alice = await context.newPage();
  assert.equal((await alice.goto(usher.url('alice', '/headers'))).status(), 200);
  assert.match(await alice.content(), /x-usher-user.*alice/i);
  await alice.close();
  assert.equal((await usher.workspace('alice')).phase, 'ready');
  assert.equal((await usher.workspace('rest--alice'))?.phase ?? 'stopped', 'stopped');
  assert.equal(await usher.workspace('bob'), undefined);
}

test('cookies that it plants, and all that it has forgotten', async () => {
  await evil.goto(usher.url('evil--alice', '/toss'));
  await evil.evaluate(() => {
    for (const name of ['__Host-usher', '__Host-usher-ws', '__host-usher', '\u00a0__Host-usher', '\u2000__Host-usher-ws', '__Host%2dusher']) {
      for (const rest of ['', '; Domain=lab.localhost']) document.cookie = `${name}=evil${rest}; Path=/; Secure`;
    }
    document.cookie = 'app=1,__Host-usher=evil; Domain=lab.localhost; Path=/';
    document.cookie = 'quoted="; __Host-usher=evil; x="; Domain=lab.localhost; Path=/';
  });
  const planted = (await context.cookies(usher.portal)).filter((cookie) => cookie.domain === '.lab.localhost');
  assert.ok(planted.length > 0, 'a page can plant cookies for the whole domain by script');
  assert.ok(!planted.some((cookie) => cookie.name === 'planted'), 'but not by an answer');
  await unharmed();
});

test('sockets', async () => {
  const targets = [usher.url('alice', '/ws'), usher.url('rest--alice', '/ws'), usher.url('bob', '/ws'), `${usher.portal}ws`];
  for (const target of targets) {
    const outcome = await evil.evaluate((url) => new Promise((resolve) => {
      const socket = new WebSocket(url);
      socket.onopen = () => resolve('open');
      socket.onclose = (event) => resolve(event.code);
    }), target.replace('http:', 'ws:'));
    assert.equal(outcome, 1006, target);
  }
  await unharmed();
});

test('forms', async () => {
  const at = (path) => new URL(path, usher.portal).href;
  const [session] = own.sessions;
  const targets = [
    // What its own application would answer, if only the edge let it through; all others look at the origin themselves, too.
    usher.url('alice', '/note'),
    usher.url('alice', '/.usher/stop'), usher.url('rest--alice', '/.usher/start'), usher.url('bob', '/.usher/start'),
    at('/login'), at('/logout'), at(`/api/v1/sessions/${session}/end`), at('/api/v1/workspaces/alice/stop'),
    at('/api/v1/workspaces/rest--alice/start'), at('/api/v1/people/alice/sign-out'),
  ];
  for (const target of targets) {
    for (const policy of ['', 'no-referrer', 'unsafe-url']) {
      const page = await context.newPage();
      await page.goto(usher.url('evil--alice'));
      const answered = page.waitForResponse((response) => response.request().method() === 'POST');
      await page.evaluate(([url, policy]) => {
        const form = document.createElement('form');
        Object.assign(form, { method: 'post', action: url });
        for (const [name, value] of [['name', 'bob'], ['everywhere', 'yes'], ['csrf', 'guess'], ['label', 'alice']]) {
          const field = document.createElement('input');
          Object.assign(field, { name, value });
          form.append(field);
        }
        const meta = document.createElement('meta');
        Object.assign(meta, { name: 'referrer', content: policy });
        if (policy) document.head.append(meta);
        document.body.append(form);
        form.submit();
      }, [target, policy]);
      const status = (await answered).status();
      // Where she has no session yet, the way to one; it forgets what was sent.
      const expected = /^(rest--|bob\.)/.test(new URL(target).hostname) ? [302, 403] : [403, 404];
      assert.ok(expected.includes(status), `${target} ${policy}: ${status}`);
      await page.close();
    }
  }
  await unharmed();
});

test('requests of all kinds', async () => {
  const at = (path) => new URL(path, usher.portal).href;
  // Where her cookies go along, at paths that nothing else here asks for; and where she has none.
  const hers = [usher.url('alice', '/reached'), at('/tokens'), at('/api/v1/tokens')];
  const read = await evil.evaluate(async (targets) => {
    const outcomes = [];
    for (const url of targets) {
      for (const method of ['GET', 'POST', 'DELETE', 'OPTIONS']) {
        for (const mode of ['cors', 'no-cors']) {
          const answer = await fetch(url, { method, mode, credentials: 'include' }).catch(() => undefined);
          outcomes.push(answer === undefined || answer.type === 'opaque' ? 'nothing' : await answer.text());
        }
      }
      for (const tag of ['img', 'script', 'iframe', 'object']) {
        const element = document.createElement(tag);
        element[tag === 'object' ? 'data' : 'src'] = url;
        document.body.append(element);
      }
      navigator.sendBeacon(url, 'x');
    }
    return outcomes;
  }, [...hers, usher.url('rest--alice', '/')]);
  assert.deepEqual([...new Set(read)], ['nothing']);
  // What its page may not read could have been done all the same: two fetches and four elements, two fetches and a beacon.
  for (const { pathname } of hers.map((url) => new URL(url))) {
    const answers = () => usher.events('request').filter((event) => event['http.path'] === pathname && event['http.method'] !== 'OPTIONS');
    await waitFor(`what was asked of ${pathname}`, 30, async () => answers().length >= 9);
    const told = answers().map((event) => `${event['http.method']} ${event['http.status']}`).sort();
    assert.deepEqual(told, [...Array(6).fill('GET 403'), ...Array(3).fill('POST 403')], pathname);
  }
  await unharmed();
});

test('a service worker over everything of its own', async () => {
  await evil.evaluate(async () => {
    await navigator.serviceWorker.register('/worker.js', { scope: '/' });
    await navigator.serviceWorker.ready;
  });
  // Without its cookie there, she is led through the hand-off again, and the worker sees her ticket first.
  await context.clearCookies({ name: '__Host-usher-ws', domain: 'evil--alice.lab.localhost' });
  const page = await context.newPage();
  await page.goto(new URL(`/login?return=${encodeURIComponent(usher.url('evil--alice', '/deep'))}`, usher.portal).href);
  assert.equal(await page.title(), 'hijacked');
  const caught = await page.evaluate(async () => (await (await fetch('/caught')).json()));
  const ticket = caught.find((url) => url.includes('/.usher/enter?ticket='));
  assert.ok(ticket, `what it caught: ${caught.join(' ')}`);
  // It is worth nothing in another browser, nor on another host.
  const mallory = await newPerson(browser);
  const other = await mallory.newPage();
  for (const url of [ticket, ticket.replace('evil--alice', 'alice')]) {
    await other.goto(url);
    const cookies = (await mallory.cookies(url)).map((cookie) => cookie.name);
    assert.ok(!cookies.includes('__Host-usher-ws'), cookies.join(' '));
  }
  await mallory.close();
  await unharmed();
});

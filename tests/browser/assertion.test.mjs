// The README's example of an application that checks who asks, run by a real workspace; and what the demo shows of it.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { Usher, screenshot } from './usher.mjs';
import { enter, newPerson, openBrowser } from './people.mjs';

let browser;
before(async () => { browser = await openBrowser(); });
after(() => browser?.close());

/** Python resolves no `*.localhost`, which browsers do; and a test knows its port only when usher listens. */
const SURROUNDINGS = `
import os, pathlib, socket
lookup = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: lookup("127.0.0.1", *more, **named)
os.environ["PORTAL"] = pathlib.Path(__file__).with_name("portal").read_text()
`;

/** Answers with the claims, or with why not; and with its port and the token, so that a test can go round usher. */
const SERVER = `
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        try:
            status, told = 200, {"claims": who_asks(self.headers)}
        except jwt.PyJWTError as error:
            status, told = 403, {"refused": type(error).__name__}
        told |= {"port": sys.argv[1], "token": self.headers.get("X-Usher-Assertion")}
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
`;

/** The example as it stands in the README. */
async function example() {
  const readme = await readFile(new URL('../../README.md', import.meta.url), 'utf8');
  return readme.match(/<!-- assertion\.py -->\s+\`\`\`python\n(.*?)\`\`\`/s)[1];
}

/** What somebody's workspace says to the page that waited for it. */
async function asked(t, usher, name) {
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  const [answer] = await Promise.all([
    page.waitForResponse((response) => response.request().isNavigationRequest()
      && response.headers()['content-type']?.startsWith('application/json')),
    enter(page, usher.url(name), name),
  ]);
  return answer.json();
}

test('the README’s application believes the portal, for itself alone', { timeout: 120_000 }, async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'usher-assertion-'));
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(join(folder, 'app.py'), SURROUNDINGS + await example() + SERVER);
  const settings = `[templates.checked]
command = ["python", "${folder}/app.py", "{port}"]
connect = "port"
environment = { HOST = "{host}" }
`;
  const usher = await Usher.start({ template: 'checked', settings });
  t.after(() => usher.stop());
  const portal = new URL(usher.portal).origin;
  await writeFile(join(folder, 'portal'), portal);

  const alice = await asked(t, usher, 'alice');
  assert.equal(alice.claims?.preferred_username, 'alice', JSON.stringify(alice));
  assert.deepEqual([alice.claims.iss, alice.claims.aud], [portal, 'alice.lab.localhost']);
  const bob = await asked(t, usher, 'bob');
  assert.notEqual(bob.claims.sub, alice.claims.sub);

  // A port is open to every local program. It shows what it likes, and gets nowhere.
  const round = async (token) => {
    const headers = { 'x-usher-user': 'alice', ...(token && { 'x-usher-assertion': token }) };
    const answer = await fetch(`http://127.0.0.1:${alice.port}/`, { headers });
    return (await answer.json()).refused;
  };
  const [head, , signature] = alice.token.split('.');
  const forged = Buffer.from(JSON.stringify({ ...alice.claims, preferred_username: 'root' })).toString('base64url');
  const none = Buffer.from(JSON.stringify({ alg: 'none', typ: 'JWT' })).toString('base64url');
  assert.deepEqual(
    [await round(), await round(bob.token), await round(`${head}.${forged}.${signature}`), await round(`${none}.${forged}.`)],
    ['DecodeError', 'InvalidAudienceError', 'InvalidSignatureError', 'PyJWKClientError'],
  );
  assert.equal(await round(alice.token), undefined, 'the test asks as an application is asked');
});

test('the demo shows the claims and not the token', { timeout: 120_000 }, async (t) => {
  const usher = await Usher.start({ template: 'demo' });
  t.after(() => usher.stop());
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await enter(page, usher.url('alice'), 'alice');
  const row = page.getByRole('row', { name: 'x-usher-assertion' });
  await row.waitFor();
  const text = await row.innerText();
  assert.match(text, /"aud":"alice\.lab\.localhost"/);
  assert.doesNotMatch(await page.content(), /eyJ/);
  await row.scrollIntoViewIfNeeded();
  await screenshot(page, 'assertion-1-demo');
});

// People with JupyterLab in pods of a real cluster, through the Usher that its chart installs; and what operators do to
// their pods by hand.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster, Release } from './cluster.mjs';
import { screenshot, waitFor } from './usher.mjs';
import { awaitOutput, enter, newNotebook, newPerson, openShadows, runCell, saveNotebook } from './people.mjs';

/** JupyterLab as a pod runs it: on all addresses of its own, where only Usher is let in. */
const config = (image) => `[login]
development = true
development_from_anywhere_unsafe = true
[access]
allow = "true"
template = "'jupyterlab'"
[templates.jupyterlab]
image = "${image}"
image_pull_policy = "Never"
command = ["sh", "-c", '''
settings=.jupyter/lab/user-settings/@jupyterlab/apputils-extension
test -e $settings/notification.jupyterlab-settings || {
  mkdir -p $settings && echo '{"fetchNews": "false"}' > $settings/notification.jupyterlab-settings
}
exec jupyter lab "$@"
''', "jupyter", "--no-browser", "--ServerApp.ip=0.0.0.0", "--ServerApp.port={port}", "--IdentityProvider.token=",
  '--ServerApp.local_hostnames=["localhost","{host}"]', "--ServerApp.root_dir={home}", "--LabApp.news_url=None",
  "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate"]
port = 8888
ready = { path = "/api" }
notice = true
stop_grace = "2s"
volume = { size = "1Gi" }
pod = { containers = [{ name = "workspace", workingDir = "/home/workspace" }] }
background = ["GET /api/kernels*", "GET /api/kernelspecs*", "GET /api/terminals*", "GET /api/sessions*", "GET /api/contents*",
  "GET /api/me*", "GET,PUT /lab/api/workspaces*"]
[templates.jupyterlab.resources]
requests = { cpu = "10m" }
limits = { memory = "1Gi" }
`;

let cluster, release, browser;
before(async () => {
  cluster = await Cluster.open();
  release = await Release.install(cluster, config(await cluster.image('jupyterlab')));
  browser = await cluster.browser(release.address);
}, { timeout: 300_000 });
after(async () => {
  await browser?.close();
  await release?.remove();
  await cluster?.close();
});

/** Somebody with a notebook that has run a cell and is saved. */
async function atWork(t, name) {
  const context = await newPerson(browser);
  t.after(() => context.close());
  const page = await context.newPage();
  await openShadows(page);
  await enter(page, release.url(name, '/lab?from=mail#part'), name);
  const { pathname, search, hash } = new URL(page.url());
  assert.deepEqual([pathname, search, hash], ['/lab', '?from=mail', '#part'], 'the deep link is lost');
  await screenshot(page, `kubernetes-${name}-1-waiting`);
  await newNotebook(page);
  await runCell(page, 'print(6*7)');
  await awaitOutput(page, '42');
  await saveNotebook(page);
  await waitFor('the notebook to be saved', 30, async () => (await saved(page))?.includes('print(6*7)'));
  return { context, page };
}

/** The source of the saved notebook, asked from the page itself. */
function saved(page) {
  return page.evaluate(async () => {
    const answer = await fetch('/api/contents/Untitled.ipynb');
    return answer.ok ? JSON.stringify((await answer.json()).content) : undefined;
  });
}

/** Opens the notebook, waiting for the workspace where that takes a while, and finds what was saved. */
async function comesBack(page, name) {
  await page.goto(release.url(name, '/lab/tree/Untitled.ipynb'));
  await page.locator('.jp-Notebook .cm-content', { hasText: 'print(6*7)' }).first().waitFor();
}

test('alice and bob work in pods of their own, stop, and find their files again', { timeout: 300_000 }, async (t) => {
  const alice = await atWork(t, 'alice');
  const bob = await atWork(t, 'bob');
  await screenshot(alice.page, 'kubernetes-alice-2-at-work');
  const strange = await bob.context.newPage();
  const answer = await strange.goto(release.url('alice', '/lab'));
  assert.equal(answer.status(), 404, 'bob is let into alice’s workspace');

  await release.command('stop', 'alice');
  await release.phase('alice', 'stopped');
  assert.equal(await release.desks('get', 'statefulset/alice', '--output=jsonpath={.spec.replicas}'), '0');
  await comesBack(alice.page, 'alice');
  await screenshot(alice.page, 'kubernetes-alice-3-back');
  assert.match(await saved(bob.page), /print\(6\*7\)/, 'bob was disturbed');
});

test('a pod that is deleted is followed by another, and the page tells it', { timeout: 300_000 }, async (t) => {
  const { page } = await atWork(t, 'carol');
  const uid = () => release.desks('get', 'pod/carol-0', '--output=jsonpath={.metadata.uid}').catch(() => '');
  const before = await uid();
  await release.desks('delete', 'pod/carol-0', '--wait=false');
  await page.goto(release.url('carol', '/lab/tree/Untitled.ipynb'));
  await screenshot(page, 'kubernetes-deleted-1');
  await comesBack(page, 'carol');
  assert.notEqual(await uid(), before);
  await screenshot(page, 'kubernetes-deleted-2-back');
});

test('a drained node’s workspace says what it waits for, and comes back', { timeout: 300_000 }, async (t) => {
  const { page } = await atWork(t, 'dave');
  t.after(() => cluster.kubectl('uncordon', 'node1'));
  // Of this one workspace only: the node has the other tests' pods as well.
  await cluster.kubectl('drain', 'node1', '--ignore-daemonsets', '--delete-emptydir-data', '--pod-selector=usher.dev/workspace=dave');
  await page.goto(release.url('dave', '/lab/tree/Untitled.ipynb'));
  await page.getByText(/no node|drain|emptied/i).first().waitFor();
  await screenshot(page, 'kubernetes-drained-1');
  await cluster.kubectl('uncordon', 'node1');
  await page.locator('.jp-Notebook .cm-content', { hasText: 'print(6*7)' }).first().waitFor();
  await screenshot(page, 'kubernetes-drained-2-back');
});

test('a workspace that is scaled to none says that it was stopped, and starts by a visit', { timeout: 300_000 }, async (t) => {
  const { page } = await atWork(t, 'erin');
  await release.desks('scale', 'statefulset/erin', '--replicas=0');
  await page.getByText(/stopped/i).first().waitFor({ timeout: 90_000 });
  await screenshot(page, 'kubernetes-scaled-1');
  await release.phase('erin', 'stopped');
  await comesBack(page, 'erin');
  await screenshot(page, 'kubernetes-scaled-2-back');
});

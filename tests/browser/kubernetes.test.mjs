// People with JupyterLab in pods of a real cluster, through the Usher that its chart installs; and what operators do to
// their pods by hand.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Cluster, Release } from './cluster.mjs';
import { screenshot } from './usher.mjs';
import { awaitOutput, enter, newNotebook, newPerson, openShadows, runCell, saveNotebook, savedNotebook } from './people.mjs';

/** JupyterLab as a pod runs it: on all addresses of its own, where only Usher is let in. */
const config = (image) => `[login]
development = true
development_from_anywhere_unsafe = true
[access]
allow = "true"
template = "'jupyterlab'"
[limits]
logins_per_address = 1000
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
start_timeout = "5m"
volume = { size = "1Gi" }
working_dir = "/home/workspace"
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
  // A pod, a volume and JupyterLab start one after the other.
  context.setDefaultTimeout(240_000);
  const page = await context.newPage();
  t.after(async () => {
    await screenshot(page, `kubernetes-${name}-9-at-the-end`);
    await context.close();
  });
  await openShadows(page);
  await enter(page, release.url(name, '/lab?from=mail#part'), name);
  const { pathname, search, hash } = new URL(page.url());
  assert.deepEqual([pathname, search, hash], ['/lab', '?from=mail', '#part'], 'the deep link is lost');
  await screenshot(page, `kubernetes-${name}-1-waiting`);
  await newNotebook(page);
  await runCell(page, 'print(6*7)');
  await awaitOutput(page, '42');
  await saveNotebook(page);
  assert.match(await savedNotebook(page), /print\(6\*7\)/);
  return { context, page };
}

/** Waits until the notebook is shown as it was saved. */
function showsNotebook(page) {
  return page.locator('.jp-Notebook .cm-content', { hasText: 'print(6*7)' }).first().waitFor();
}

test('alice and bob work in pods of their own, stop, and find their files again', { timeout: 900_000 }, async (t) => {
  const alice = await atWork(t, 'alice');
  const bob = await atWork(t, 'bob');
  await screenshot(alice.page, 'kubernetes-alice-2-at-work');
  const strange = await bob.context.newPage();
  const answer = await strange.goto(release.url('alice', '/lab'));
  assert.equal(answer.status(), 404, 'bob is let into alice’s workspace');

  await release.command('stop', 'alice');
  await release.phase('alice', 'stopped');
  assert.equal(await release.desks('get', 'statefulset/alice', '--output=jsonpath={.spec.replicas}'), '0');
  await alice.page.goto(release.url('alice', '/lab/tree/Untitled.ipynb'));
  await showsNotebook(alice.page);
  await screenshot(alice.page, 'kubernetes-alice-3-back');
  assert.match(await savedNotebook(bob.page), /print\(6\*7\)/, 'bob was disturbed');
});

test('what operators do to a pod by hand is told on its page, and it comes back', { timeout: 900_000 }, async (t) => {
  const { page } = await atWork(t, 'carol');
  const uid = () => release.desks('get', 'pod/carol-0', '--output=jsonpath={.metadata.uid}', '--ignore-not-found');

  await t.test('kubectl delete pod', async () => {
    const before = await uid();
    await release.desks('delete', 'pod/carol-0');
    await page.goto(release.url('carol', '/lab/tree/Untitled.ipynb'));
    await page.getByText('removed', { exact: true }).waitFor();
    await screenshot(page, 'kubernetes-deleted-1');
    await showsNotebook(page);
    assert.notEqual(await uid(), before);
    await screenshot(page, 'kubernetes-deleted-2-back');
  });

  await t.test('kubectl drain', async () => {
    // Of this one workspace only: the node has the other tests' pods as well.
    const rest = ['--ignore-daemonsets', '--delete-emptydir-data', '--pod-selector=usher.dev/workspace=carol'];
    try {
      await cluster.kubectl('drain', 'node1', ...rest);
      await page.goto(release.url('carol', '/lab/tree/Untitled.ipynb'));
      await page.getByText('unschedulable', { exact: true }).waitFor();
      await screenshot(page, 'kubernetes-drained-1');
    } finally {
      await cluster.kubectl('uncordon', 'node1');
    }
    await showsNotebook(page);
    await screenshot(page, 'kubernetes-drained-2-back');
  });

  await t.test('kubectl scale --replicas=0', async () => {
    await release.desks('scale', 'statefulset/carol', '--replicas=0');
    await page.getByText(/stopped/i).first().waitFor();
    await screenshot(page, 'kubernetes-scaled-1');
    await release.phase('carol', 'stopped');
    await page.goto(release.url('carol', '/lab/tree/Untitled.ipynb'));
    await showsNotebook(page);
    await screenshot(page, 'kubernetes-scaled-2-back');

    // Who comes while the pod still ends is told who did that, and waits for the next. It ends only when it is let go.
    const hold = (finalizers) => release.desks('patch', 'pod/carol-0', '--type=merge',
      `--patch=${JSON.stringify({ metadata: { finalizers } })}`);
    await hold(['usher.test/held']);
    try {
      await release.desks('scale', 'statefulset/carol', '--replicas=0');
      await release.phase('carol', 'stopping');
      await page.goto(release.url('carol', '/lab/tree/Untitled.ipynb'));
      await page.getByText('The workspace was stopped by an operator of the cluster.').first().waitFor();
      await screenshot(page, 'kubernetes-scaled-3-meanwhile');
    } finally {
      await hold(null);
    }
    await showsNotebook(page);
    await screenshot(page, 'kubernetes-scaled-4-back');
  });
});

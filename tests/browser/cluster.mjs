// Usher installed by its chart in a real cluster, and a browser inside that cluster's network.
import { spawn, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openBrowser } from './people.mjs';
import { BINARY, DOMAIN, waitFor } from './usher.mjs';

const SCRIPT = new URL('../cluster/cluster.sh', import.meta.url).pathname;
const CHART = new URL('../../deploy/chart', import.meta.url).pathname;
const PORT = 8080;

/** Runs a program to its end, with something to read; what it printed. Fails with what it said. */
function run(program, args, input = '') {
  return new Promise((resolve, reject) => {
    const options = { timeout: 120_000, maxBuffer: 64 << 20 };
    const child = execFile(program, args, options, (error, stdout, stderr) => {
      if (error) reject(new Error(`${program} ${args.join(' ')}: ${stderr || error.message}`));
      else resolve(stdout.trim());
    });
    child.stdin.on('error', () => {}); // it ended before it had read all, and says why
    child.stdin.end(input);
  });
}

/** A cluster: the one that all suites share, or one that ends with this process. */
export class Cluster {
  static async open() {
    const cluster = new Cluster();
    cluster.folder = process.env.USHER_TEST_CLUSTER ?? await cluster.#start();
    cluster.pid = (await readFile(join(cluster.folder, 'pid'), 'utf8')).trim();
    return cluster;
  }

  async #start() {
    this.process = spawn(SCRIPT, ['up', '--until-eof'], { stdio: ['pipe', 'pipe', 'inherit'] });
    const ended = new Promise((_, reject) => {
      this.process.once('exit', (code) => reject(new Error(`no cluster: its script ended with ${code}`)));
    });
    ended.catch(() => {}); // ending later is no failure
    const lines = createInterface({ input: this.process.stdout });
    const ready = new Promise((resolve) => {
      lines.on('line', (line) => {
        const folder = line.match(/^cluster (\S+) ready/)?.[1];
        if (folder) resolve(folder);
      });
    });
    return Promise.race([ready, ended]);
  }

  async close() {
    if (!this.process) return;
    this.process.stdin.end();
    await new Promise((resolve) => this.process.once('exit', resolve));
  }

  #tool(name, args, input) {
    const program = [join(this.folder, 'programs', name), '--kubeconfig', join(this.folder, 'admin.kubeconfig')];
    return run('nsenter', [`--net=/proc/${this.pid}/ns/net`, ...program, ...args], input);
  }

  kubectl(...args) {
    return this.#tool('kubectl', args);
  }

  helm(values, ...args) {
    return this.#tool('helm', args, JSON.stringify(values));
  }

  /** Whether somebody accepts connections at an address of its network; what was begun too early leads nowhere for ever. */
  accepts(address, port) {
    const opens = ['timeout', '1', 'bash', '-c', `: <>/dev/tcp/${address}/${port}`];
    return run('nsenter', [`--net=/proc/${this.pid}/ns/net`, ...opens]).then(() => true, () => false);
  }

  /** Brings an image in and names it. */
  image(kind, ...args) {
    return run(SCRIPT, ['image', this.folder, kind, ...args]);
  }

  /** A browser in its network, for which Usher's names lead to an address. */
  async browser(address) {
    const folder = await mkdtemp(join(tmpdir(), 'usher-chromium-'));
    const wrapper = join(folder, 'chromium');
    const chromium = process.env.CHROMIUM ?? '/usr/bin/chromium';
    const text = `#!/bin/sh\nexec nsenter --net=/proc/${this.pid}/ns/net ${chromium} "$@"\n`;
    await writeFile(wrapper, text, { mode: 0o755 });
    const rules = [DOMAIN, `*.${DOMAIN}`].map((name) => `MAP ${name}:${PORT} ${address}:${PORT}`).join(',');
    const browser = await openBrowser({ executablePath: wrapper, args: [`--host-resolver-rules=${rules}`] });
    browser.once('disconnected', () => rm(folder, { recursive: true, force: true }));
    return browser;
  }
}

/** Usher in namespaces of its own; `config` is its TOML, but for what the chart writes. */
export class Release {
  static async install(cluster, config) {
    const id = randomBytes(4).toString('hex');
    const release = new Release();
    Object.assign(release, { cluster, records: `records-${id}`, workspaces: `workspaces-${id}` });
    for (const namespace of [release.records, release.workspaces]) {
      await cluster.kubectl('create', 'namespace', namespace);
      await cluster.kubectl('label', 'namespace', namespace, 'pod-security.kubernetes.io/enforce=restricted');
    }
    const [repository, tag] = (await cluster.image('usher', BINARY)).split(':');
    const values = {
      image: { repository, tag, pullPolicy: 'Never' },
      domain: DOMAIN,
      service: { port: PORT },
      drain: { delay: 2, after: 0, spread: 2 },
      workspaces: { namespaces: [release.workspaces] },
      config,
    };
    await cluster.helm(values, 'install', 'usher', CHART, '--values=-', '--namespace', release.records);
    await release.own('rollout', 'status', 'deployment/usher', '--timeout=90s');
    release.address = await release.own('get', 'service', 'usher', '--output=jsonpath={.spec.clusterIP}');
    // What leads connections to its pods hears of them when it can.
    await waitFor('the Service to lead to Usher', 60, () => cluster.accepts(release.address, PORT));
    return release;
  }

  /** kubectl in Usher's own namespace. */
  own(...args) {
    return this.cluster.kubectl('--namespace', this.records, ...args);
  }

  /** kubectl in the workspaces' namespace. */
  desks(...args) {
    return this.cluster.kubectl('--namespace', this.workspaces, ...args);
  }

  /** Runs a command of the binary beside a running Usher. */
  command(...args) {
    const socket = ['--socket', '/var/lib/usher/state/admin.sock'];
    return this.own('exec', 'deployment/usher', '--', 'usher', ...args, ...socket);
  }

  async workspace(name) {
    const status = JSON.parse(await this.command('status', '--json'));
    return status.workspaces.find((workspace) => workspace.workspace === name);
  }

  async phase(name, phase, seconds = 60) {
    await waitFor(`${name} to be ${phase}`, seconds, async () => (await this.workspace(name))?.phase === phase);
  }

  url(label, path = '/') {
    return `http://${label}.${DOMAIN}:${PORT}${path}`;
  }

  async remove() {
    await this.cluster.kubectl('delete', 'namespace', '--wait=false', this.records, this.workspaces);
  }
}

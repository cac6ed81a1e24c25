// The real binary for the browser tests: free ports, a state folder of its own, the applications on its PATH.
import { spawn, execFile } from 'node:child_process';
import { mkdtemp, mkdir, readFile, readdir, rm, writeFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const DOMAIN = 'lab.localhost';
export const BINARY = process.env.USHER_BIN ?? new URL('../../target/debug/usher', import.meta.url).pathname;
const run = promisify(execFile);

/** Stops what is unused for so long that a test can wait for it. */
const SHORT = '[workspaces]\nidle_after = "20s"\nwarn_before = "10s"\n';

/** The templates that the quickstart ships: what is proved is what people get, asked more often whether busy. */
async function shippedTemplates() {
  const file = new URL('../../config/quickstart.toml', import.meta.url);
  const text = await readFile(file, 'utf8');
  return text.slice(text.search(/^\[templates\./m)).replace(/^busy = \{(.*)\}$/m, 'busy = {$1, every = "5s" }');
}

/** A running usher: `template` is what everybody gets, `settings` more of its TOML, `admin` the rule, `portal` the portal's host; with `idle` it stops soon, with `https` it speaks TLS. */
export class Usher {
  static async start({ template, settings = '', admin = 'false', portal = DOMAIN, idle = false, https = false }) {
    const usher = new Usher();
    usher.host = portal;
    usher.scheme = https ? 'https' : 'http';
    usher.folder = await mkdtemp(join(tmpdir(), 'usher-browser-'));
    usher.config = join(usher.folder, 'usher.toml');
    await writeFile(usher.config, `domain = "${DOMAIN}"
portal = "${portal}"
state_dir = "${usher.folder}/state"
[[listeners]]
address = "127.0.0.1:0"
protocol = "${usher.scheme}"
[admin]
address = "127.0.0.1:0"
socket = "${usher.folder}/admin.sock"
[login]
development = true
[access]
allow = "true"
template = "'${template}'"
admin = "${admin}"
[limits]
logins_per_address = 1000
${idle ? SHORT : ''}${settings}
${await shippedTemplates()}`);
    await usher.#launch();
    return usher;
  }

  async #launch() {
    const wanted = (await readFile(this.config, 'utf8')).match(/^\[\[listeners\]\]$/gm).length;
    const path = [process.env.APPS, process.env.PATH].filter(Boolean).join(':');
    this.process = spawn(BINARY, ['serve', '--config', this.config], {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { ...process.env, PATH: path },
    });
    this.ended = new Promise((resolve) => this.process.once('exit', resolve));
    this.log = [];
    const lines = createInterface({ input: this.process.stderr });
    const bound = new Promise((resolve, reject) => {
      const ports = [];
      lines.on('line', (line) => {
        this.log.push(line);
        const address = boundTo(line);
        if (address && ports.push(Number(address.split(':').at(-1))) === wanted) resolve(ports);
      });
      this.ended.then((code) => reject(new Error(`usher ended with ${code}:\n${this.log.join('\n')}`)));
    });
    this.ports = await bound;
    [this.port] = this.ports;
  }

  /** Ends it at once and starts it anew, at the same port, with one text of its configuration changed. Workspaces run on. */
  async restart(from, to) {
    this.process.kill('SIGKILL');
    await this.ended;
    const text = await readFile(this.config, 'utf8');
    const changed = text.replace(from, to).replace('[[listeners]]\naddress = "127.0.0.1:0"', `[[listeners]]\naddress = "127.0.0.1:${this.port}"`);
    await writeFile(this.config, changed);
    await this.#launch();
  }

  /** An address on somebody's workspace host. */
  url(label, path = '/') {
    return `${this.scheme}://${label}.${DOMAIN}:${this.port}${path}`;
  }

  get portal() {
    return `${this.scheme}://${this.host}:${this.port}/`;
  }

  /** The events with this message, oldest first. */
  events(message) {
    return this.log.map(fieldsOf).filter((fields) => fields?.message === message);
  }

  /** Runs another command of the binary on the same configuration. */
  async command(...args) {
    return (await run(BINARY, [...args, '--config', this.config])).stdout;
  }

  /** What `usher status` knows of one workspace; undefined when it knows none. */
  async workspace(name) {
    const status = JSON.parse(await this.command('status', '--json'));
    return status.workspaces.find((workspace) => workspace.workspace === name);
  }

  /** Waits until a workspace is in a phase. */
  async phase(name, phase, seconds = 60) {
    await waitFor(`${name} to be ${phase}`, seconds, async () => (await this.workspace(name))?.phase === phase);
  }

  /** The processes of its workspaces: they carry USHER_WORKSPACE and live in its state folder. */
  async processes() {
    const found = [];
    for (const pid of (await readdir('/proc')).filter((name) => /^[0-9]+$/.test(name))) {
      const environment = await readFile(`/proc/${pid}/environ`, 'utf8').catch(() => '');
      if (!environment.includes('USHER_WORKSPACE=') || !environment.includes(this.folder)) continue;
      const command = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '');
      found.push({ pid: Number(pid), command: command.replaceAll('\0', ' ') });
    }
    return found;
  }

  /** Ends it, and its workspaces with it. */
  async stop() {
    for (const workspace of JSON.parse(await this.command('status', '--json')).workspaces) {
      await this.command('stop', workspace.workspace).catch(() => 'stopped already');
    }
    await waitFor('every workspace to end', 60, async () => (await this.processes()).length === 0);
    this.process.kill('SIGKILL');
    await this.ended;
    const panics = this.log.filter((line) => line.includes('panicked at'));
    await rm(this.folder, { recursive: true, force: true });
    if (panics.length > 0) throw new Error(`usher panicked: ${panics.join('\n')}`);
  }
}

/** The fields of an event of the log; undefined for other lines. */
function fieldsOf(line) {
  if (!line.startsWith('{')) return undefined;
  const event = JSON.parse(line);
  return event.fields ?? event;
}

/** The listener's address, when a line of the log tells it. */
function boundTo(line) {
  const fields = fieldsOf(line);
  return fields?.message === 'listening' ? fields['listener.address'] : undefined;
}

/** Looks until a condition holds. */
export async function waitFor(what, seconds, look) {
  const deadline = Date.now() + seconds * 1000;
  while (!(await look())) {
    if (Date.now() > deadline) throw new Error(`waited ${seconds} s in vain for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

/** Where screenshots go: $SCREENSHOTS, or nowhere that lasts. */
export async function screenshot(page, name) {
  const folder = process.env.SCREENSHOTS;
  if (!folder) return;
  await mkdir(folder, { recursive: true });
  await page.screenshot({ path: join(folder, `${name}.png`) });
}

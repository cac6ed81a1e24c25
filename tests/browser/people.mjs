// People with a real Chromium, and what they do in the applications.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

const modules = process.env.NODE_MODULES ?? new URL('./node_modules', import.meta.url).pathname;
const { chromium } = createRequire(`${modules}/`)('playwright-core');

/** Starts the browser, another one, with more arguments or in another environment. Its sandbox does not run as root, and the pages are ours. */
export async function openBrowser({ executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium', args = [], env } = {}) {
  return chromium.launch({ executablePath, env, args: process.getuid() === 0 ? ['--no-sandbox', ...args] : args });
}

/** A browser profile of its own, with generous patience: two cores may be busy. */
export async function newPerson(browser, options = {}) {
  const context = await browser.newContext(options);
  context.setDefaultTimeout(60_000);
  return context;
}

/** Types a name into the login and sends it. */
export async function logIn(page, name) {
  const field = page.locator('form input:not([type=hidden]):not([type=submit])').first();
  await field.fill(name);
  await field.press('Enter');
  await page.waitForURL((url) => url.hostname.startsWith(`${name}.`));
}

/** Goes to a workspace's address, through the login. */
export async function enter(page, url, name) {
  await page.goto(url);
  if (new URL(page.url()).pathname === '/login') await logIn(page, name);
}

/** JupyterLab: opens a new notebook and waits for its kernel. */
export async function newNotebook(page) {
  await page.locator('.jp-LauncherCard[data-category="Notebook"]').first().click();
  await page.locator('.jp-Notebook .cm-content').first().waitFor();
  // A cell that is run before the notebook has its kernel is not run at all, and the tab says nothing of it.
  await page.locator('#jp-main-statusbar', { hasText: '| Idle' }).waitFor();
}

/** JupyterLab: runs a cell in the open notebook. */
export async function runCell(page, code) {
  await page.locator('.jp-Notebook .jp-Cell.jp-mod-active .cm-content').click();
  await page.keyboard.insertText(code);
  await page.keyboard.press('Shift+Enter');
  await page.locator('.jp-InputPrompt', { hasText: /\[(\*|\d+)\]/ }).first().waitFor();
}

/** JupyterLab: saves the new notebook under the name that it proposes, and waits until the server has said so. */
export async function saveNotebook(page) {
  await page.keyboard.press('Control+s');
  const dialog = page.locator('.jp-Dialog').first();
  // What else it may have to tell comes first, and has a button at the same place.
  assert.match(await dialog.innerText(), /Rename/, 'it does not ask for the name');
  const saved = page.waitForResponse((answer) => answer.request().method() === 'PUT' && /^\/api\/contents\//.test(new URL(answer.url()).pathname));
  const [answer] = await Promise.all([saved, dialog.locator('button.jp-mod-accept').click()]);
  assert.equal(answer.status(), 200, `it is not saved: ${await answer.text()}`);
}

/** JupyterLab: the notebook as it is kept, asked for by the page itself. */
export async function savedNotebook(page) {
  const [status, text] = await page.evaluate(async () => {
    const answer = await fetch('/api/contents/Untitled.ipynb');
    return [answer.status, await answer.text()];
  });
  assert.equal(status, 200, text);
  return JSON.stringify(JSON.parse(text).content);
}

/** JupyterLab: waits for a cell's output. */
export async function awaitOutput(page, text) {
  await page.locator('.jp-OutputArea-output', { hasText: text }).first().waitFor();
}

/** Streamlit: moves the slider one step and waits until the script has run again with its value. */
export async function moveSlider(page) {
  const slider = page.getByRole('slider').first();
  await slider.focus();
  const value = Number(await slider.getAttribute('aria-valuenow') ?? await slider.inputValue()) + 1;
  await page.keyboard.press('ArrowRight');
  await page.locator('[data-testid="stMarkdown"]', { hasText: String(value) }).first().waitFor();
}

/** Makes the shadow roots of a page readable for the test, the closed ones too. */
export async function openShadows(page) {
  await page.addInitScript(() => {
    const attach = Element.prototype.attachShadow;
    Element.prototype.attachShadow = function open(init) {
      return attach.call(this, { ...init, mode: 'open' });
    };
  });
}

// Tells, inside any application, that its workspace is about to be stopped, or that it was.
//
// It lives in pages that are not ours: one element in a closed shadow root, styled by a constructed sheet, filled
// by textContent, so that neither a strict policy nor Trusted Types object; and silent whenever something fails.
(() => {
  "use strict";

  const NAME = "usher-notice";
  if (window.top !== window || document.getElementsByTagName(NAME).length > 0) return;
  if (typeof CSSStyleSheet !== "function" || !("adoptedStyleSheets" in document)) return;

  /** While all is well, when a stop is near, and while something is shown: how often to look, in milliseconds. */
  const FAR = 60_000;
  const NEAR = 10_000;
  const SHOWN = 5_000;
  /** How many seconds ahead a stop is near: a warning may come at any time from here. */
  const SOON = 90;

  // Applications wrap these; ours must not run through their wrappers.
  const fetch = window.fetch.bind(window);
  const later = window.setTimeout.bind(window);
  const never = window.clearTimeout.bind(window);

  let timer = 0;
  let silent = false;
  /** What is shown: `null`, `warn`, `extended`, `stopped`, `back`. */
  let shown = null;
  /** What was dismissed, until something else is to be told. */
  let dismissed = null;
  /** The last `why_alive`, and when it came. */
  let alive = null;
  let stops = Infinity;

  // ---- What is shown -----------------------------------------------------------------------------------

  const STYLE = `
    :host { all: initial !important; position: fixed !important; z-index: 2147483647 !important; inset: 12px 0 auto 0 !important;
      display: flex !important; justify-content: center !important; pointer-events: none !important; color-scheme: light dark !important; }
    :host(:not([data-open])) { visibility: hidden !important; }
    .box { --sheet: #ffffff; --ink: #1b2130; --soft: #596175; --line: #d5dae3; --accent: #2457c5; --accent-ink: #ffffff; --mark: #b87503;
      box-sizing: border-box; max-width: min(46rem, calc(100vw - 24px)); display: flex; flex-wrap: wrap; align-items: center; gap: 8px 16px;
      padding: 10px 10px 10px 18px; pointer-events: auto; color: var(--ink); background: var(--sheet); border: 1px solid var(--line);
      border-radius: 14px; box-shadow: 0 2px 4px rgb(16 24 40 / 10%), 0 12px 36px rgb(16 24 40 / 20%);
      font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; animation: come .25s ease-out; }
    .box::before { content: ""; flex: none; width: 9px; height: 9px; border-radius: 50%; background: var(--mark); }
    .box[data-kind="stopped"] { --mark: #b3261e; }
    .box[data-kind="extended"], .box[data-kind="back"] { --mark: #1a7a4c; }
    .text { flex: 1 1 15rem; margin: 0; overflow-wrap: anywhere; text-wrap: balance; }
    .text b { display: block; font-weight: 650; }
    .text span { color: var(--soft); font-size: 14px; font-variant-numeric: tabular-nums; }
    .buttons { display: flex; gap: 8px; margin-left: auto; }
    button { min-height: 40px; padding: 6px 14px; color: var(--ink); background: transparent; border: 1px solid transparent; border-radius: 9px;
      font: inherit; font-weight: 600; white-space: nowrap; cursor: pointer; }
    button.first { color: var(--accent-ink); background: var(--accent); }
    button:hover { filter: brightness(1.1); text-decoration: underline; }
    button:disabled { opacity: .55; cursor: default; }
    button:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
    [hidden] { display: none !important; }
    @keyframes come { from { opacity: 0; transform: translateY(-10px); } }
    @media (prefers-color-scheme: dark) {
      .box { --sheet: #232936; --ink: #e8ebf1; --soft: #a7b0c2; --line: #3a4356; --accent: #8ab0ff; --accent-ink: #0d1526; --mark: #f2bd5c; }
      .box[data-kind="stopped"] { --mark: #ff9d94; }
      .box[data-kind="extended"], .box[data-kind="back"] { --mark: #6fd3a1; }
    }
    @media (max-width: 480px) { .buttons { width: 100%; } button { flex: 1; } }
    @media (prefers-reduced-motion: reduce) { .box { animation: none; } }
    @media (forced-colors: active) { .box, button { border-color: CanvasText; } }
  `;

  /** Made when there is first something to tell: until then the page is exactly its application's. */
  let parts = null;
  function build() {
    const host = document.createElement(NAME);
    const root = host.attachShadow({ mode: "closed" });
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(STYLE);
    root.adoptedStyleSheets = [sheet];
    const make = (tag, name, parent) => {
      const element = document.createElement(tag);
      element.className = name;
      parent.append(element);
      return element;
    };
    const box = make("div", "box", root);
    const text = make("p", "text", box);
    text.setAttribute("role", "status");
    const buttons = make("div", "buttons", box);
    parts = {
      host, box,
      heading: make("b", "", text), detail: make("span", "", text),
      first: make("button", "first", buttons), dismiss: make("button", "", buttons),
    };
    for (const button of [parts.first, parts.dismiss]) button.type = "button";
    parts.dismiss.textContent = "Dismiss";
    parts.dismiss.addEventListener("click", () => { dismissed = shown; hide(); });
    parts.first.addEventListener("click", () => parts.act?.());
  }

  function write(element, text) {
    // A screen reader hears every write, also one that changes nothing.
    if (element.textContent !== text) element.textContent = text;
  }

  function show(kind, heading, detail, action, act) {
    if (kind === dismissed) return;
    dismissed = null;
    if (!parts) build();
    // Applications replace the body; what was put there may be gone.
    const fresh = !parts.host.isConnected || shown === null;
    if (!parts.host.isConnected) document.documentElement.append(parts.host);
    shown = kind;
    parts.act = act;
    parts.box.dataset.kind = kind;
    parts.host.setAttribute("data-open", "");
    parts.first.hidden = !action;
    write(parts.first, action ?? "");
    const fill = () => {
      write(parts.heading, heading);
      write(parts.detail, detail);
    };
    // A screen reader hears what changes in a region that it knows, not what a new region brings with it.
    if (fresh) {
      write(parts.heading, "");
      write(parts.detail, "");
      later(fill, 50);
    } else {
      fill();
    }
  }

  function hide() {
    shown = null;
    parts?.host.removeAttribute("data-open");
  }

  /** `9 minutes`; the last one by tens of seconds, so that a screen reader is not told each. */
  function time(seconds) {
    if (seconds > 90) return `${Math.round(seconds / 60)} minutes`;
    if (seconds > 50) return "a minute";
    return seconds > 5 ? `${Math.ceil(seconds / 10) * 10} seconds` : "a moment";
  }

  // ---- What is told ------------------------------------------------------------------------------------

  function heard(status) {
    if (status.phase === "ready" && status.why_alive) heardAlive(status.why_alive);
    else if (status.phase !== "ready") heardGone(status);
  }

  function heardAlive(why) {
    alive = why;
    stops = performance.now() + (why.stops_in_s ?? Infinity) * 1000;
    if (shown === "stopped" || dismissed === "stopped") {
      dismissed = null;
      show("back", "Your workspace is running again", "Load this page again if it does not go on by itself.", "Load again",
        () => location.reload());
    } else if (why.warn) {
      showWarning();
    } else if (shown === "warn") {
      hide();
    }
    if (!why.warn && dismissed === "warn") dismissed = null;
  }

  function showWarning() {
    const left = time(Math.max(0, (stops - performance.now()) / 1000));
    if (alive.can_extend) {
      show("warn", `This workspace stops in ${left} unless used`, "Your files are kept.", "Keep it running", extend);
    } else {
      show("warn", `This workspace stops in ${left}`, "It reaches its longest running time. Save your work; your files are kept.");
    }
  }

  function heardGone(status) {
    if (status.phase === "starting" || status.phase === "queued") {
      show("stopped", "Your workspace is starting again", "This page may go on by itself.");
    } else {
      const action = status.phase === "stopping" ? [] : ["Start again", () => location.reload()];
      show("stopped", reason(status), "Your files are kept.", ...action);
    }
  }

  /** Why it stopped, as far as it is known. */
  function reason(status) {
    if (status.cause) return `Your workspace ended: ${status.cause.detail}`;
    return status.stopped?.detail ?? "Your workspace has ended";
  }

  async function extend() {
    parts.first.disabled = true;
    try {
      const answer = await fetch("/.usher/extend", { method: "POST", headers: { accept: "application/json" } });
      if (!answer.ok) throw new Error();
      const why = (await answer.json()).why_alive;
      if (!why) throw new Error();
      heardAlive(why);
      const left = why.stops_in_s === undefined ? "" : `It stops in ${time(why.stops_in_s)} if it is not used.`;
      if (!why.warn) {
        show("extended", "Your workspace keeps running", left);
        later(() => { if (shown === "extended") hide(); }, 6000);
      }
    } catch {
      show("warn", parts.heading.textContent, "That did not work. Use the workspace to keep it running.", "Try again", extend);
    } finally {
      parts.first.disabled = false;
      plan();
    }
  }

  // ---- When it looks -----------------------------------------------------------------------------------

  /** Only while somebody looks at the page: a hidden tab asks nothing. */
  function plan() {
    never(timer);
    if (silent || document.hidden) return;
    const near = (stops - performance.now()) / 1000 < SOON;
    timer = later(look, shown === "warn" || shown === "stopped" ? SHOWN : near ? NEAR : FAR);
  }

  async function look() {
    never(timer);
    if (silent) return;
    try {
      const answer = await fetch("/.usher/status", { cache: "no-store", headers: { accept: "application/json" } });
      if (answer.ok) heard(await answer.json());
    } catch {
      // Offline, or not allowed: nothing is told.
    }
    plan();
  }

  document.addEventListener("securitypolicyviolation", (event) => {
    // The application's policy forbids to ask: each further try would be one more report to its owner.
    if (event.blockedURI.includes("/.usher/")) silent = true;
  });
  document.addEventListener("visibilitychange", () => { if (document.hidden) never(timer); else look(); });
  window.addEventListener("pageshow", (event) => { if (event.persisted) look(); });
  if (!document.hidden) look();
})();

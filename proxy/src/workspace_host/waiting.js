// The waiting page: shows which of its words apply, and opens the workspace when it is ready.
//
// A browser has six connections to this host, over all tabs: the stream is open only while somebody looks.
"use strict";

const at = (id) => document.getElementById(id);
const root = at("waiting");
const POLL = 2000;
const POLL_AT_REST = 5000;
/** A stop may be the first half of a restart that another tab asked for: believed only when it lasts. */
const SETTLES = 1500;

let woken = root.dataset.woken === "true";
let source = null;
let timer = 0;
let settling = 0;
let leaving = false;
let base = { seconds: Number(at("elapsed").dataset.seconds), at: performance.now() };

// ---- What is shown -------------------------------------------------------------------------------------

/** Whether it can be opened: while the cluster is not seen, what is ready has a cause why it cannot. */
function opens(status) {
  return status.phase === "ready" && !status.cause;
}

function viewOf(status) {
  const { phase } = status;
  if (phase === "ready" && !opens(status)) return "unseen";
  if (woken && phase === "stopped") return "starting";
  if (woken && phase === "stopping") return "restarting";
  return phase;
}

function text(element, value) {
  // A live region speaks at every write, also at one that changes nothing.
  if (element.textContent !== value) element.textContent = value;
}

function show(status) {
  clearTimeout(settling);
  if (woken && status.phase === "stopped") {
    settling = setTimeout(() => { woken = false; show(status); }, SETTLES);
  }
  if (status.phase === "queued" || status.phase === "starting") woken = true;
  const view = viewOf(status);
  root.dataset.view = view;
  for (const words of root.querySelectorAll("[data-words]")) {
    words.hidden = words.dataset.words !== view;
    if (!words.hidden) document.title = `${words.querySelector("h1").textContent} · ${root.dataset.workspace} · Usher`;
  }
  for (const place of root.querySelectorAll("[data-position]")) text(place, String(status.position ?? ""));
  for (const place of root.querySelectorAll("[data-why]")) text(place, status.stopped?.detail ?? "");
  for (const form of root.querySelectorAll("form")) {
    const applies = form.dataset.views.split(" ").includes(view);
    form.hidden = !applies || ("hindered" in form.dataset && (!status.cause || status.cause.notice));
  }
  showSteps(view);
  showCause(status.cause);
  showFacts(status);
  showOutput(status.log ?? "");
}

function showSteps(view) {
  const bar = at("progress");
  const steps = [...bar.children];
  const here = steps.findIndex((step) => step.dataset.views.split(" ").includes(view));
  steps.forEach((step, index) => {
    step.dataset.state = index < here ? "done" : index === here ? "now" : "";
  });
  bar.hidden = here < 0;
  if (here < 0) return;
  bar.setAttribute("aria-valuenow", String(here + 1));
  bar.setAttribute("aria-valuetext", steps[here].textContent);
}

function showCause(cause) {
  at("cause").hidden = at("advice").hidden = !cause;
  at("cause").className = cause?.notice ? "note" : "alarm";
  text(at("cause"), cause?.detail ?? "");
  text(at("hint"), cause?.hint ?? "");
  text(at("code"), cause?.code ?? "");
}

function showFacts(status) {
  at("template-row").hidden = !status.template;
  text(at("template"), status.template ?? "");
  at("elapsed-row").hidden = status.since_s === undefined || at("progress").hidden;
  base = { seconds: status.since_s ?? 0, at: performance.now() };
  showElapsed();
}

function showElapsed() {
  const seconds = Math.floor(base.seconds + (performance.now() - base.at) / 1000);
  const rest = String(seconds % 60).padStart(2, "0");
  text(at("elapsed"), seconds < 60 ? `${seconds} s` : `${Math.floor(seconds / 60)} min ${rest} s`);
}

function showOutput(log) {
  const box = at("log");
  at("output").hidden = log === "";
  const follows = box.scrollHeight - box.scrollTop - box.clientHeight < 24;
  text(box, log);
  if (follows) box.scrollTop = box.scrollHeight;
}

// ---- Where it comes from -------------------------------------------------------------------------------

function heard(status) {
  if (leaving) return;
  show(status);
  if (opens(status)) return leave();
  if (status.phase === "failed") rest();
}

/** Opens the workspace. Not by its address: with a fragment in it that would load nothing. */
function leave() {
  leaving = true;
  quiet();
  const [entry] = performance.getEntriesByType("navigation");
  // Should the edge and the workspace disagree, then once a second and not as fast as it goes.
  const again = entry?.type === "reload" && performance.now() < 1000;
  setTimeout(() => location.reload(), again ? 1000 : 0);
}

function quiet() {
  source?.close();
  source = null;
  clearTimeout(timer);
}

/** Nothing moves by itself: looks now and then whether another tab has started it. */
function rest() {
  quiet();
  timer = setTimeout(look, POLL_AT_REST);
}

function listen() {
  quiet();
  source = new EventSource("/.usher/events");
  source.addEventListener("status", (event) => heard(JSON.parse(event.data)));
  source.addEventListener("error", () => {
    // Closed for good means that other tabs hold the streams, or no session: ask instead.
    if (source?.readyState === EventSource.CLOSED) {
      quiet();
      timer = setTimeout(look, POLL);
    }
  });
}

/** Asks once, and again later if nothing can be streamed. */
async function look({ thenListen = false } = {}) {
  clearTimeout(timer);
  try {
    const answer = await fetch("/.usher/status", { cache: "no-store" });
    if (answer.status === 401) return leave();
    if (answer.ok) heard(await answer.json());
  } catch {
    // The edge cannot be reached: it is asked again.
  }
  if (leaving || document.hidden || root.dataset.view === "failed") return;
  if (thenListen) listen();
  else timer = setTimeout(look, POLL);
}

addEventListener("pagehide", quiet);
addEventListener("pageshow", (event) => { if (event.persisted) { leaving = false; look({ thenListen: true }); } });
document.addEventListener("visibilitychange", () => {
  if (document.hidden) quiet();
  else look({ thenListen: true });
});
setInterval(() => { if (!document.hidden) showElapsed(); }, 1000);

// ---- What can be done ----------------------------------------------------------------------------------

for (const form of root.querySelectorAll("form")) {
  form.addEventListener("submit", async (event) => {
    // A form's own way loses the address's fragment.
    event.preventDefault();
    const button = form.querySelector("button");
    button.disabled = true;
    try {
      const body = new URLSearchParams(new FormData(form));
      const answer = await fetch(form.action, { method: "POST", body, headers: { accept: "application/json" } });
      const told = await answer.json();
      at("refused").hidden = answer.ok;
      if (answer.ok) {
        woken = true;
        show(told);
        if (opens(told)) leave();
        else listen();
      } else {
        text(at("refused"), told.detail ?? "It could not be started.");
      }
    } catch {
      at("refused").hidden = false;
      text(at("refused"), "Usher could not be reached. Is this device connected?");
    } finally {
      button.disabled = false;
    }
  });
}

at("log").scrollTop = at("log").scrollHeight;
if (!document.hidden) {
  if (root.dataset.view === "failed") rest();
  else listen();
}

// Keeps the sentences true while somebody looks. A new phase has other buttons: then the page is loaded again,
// unless something is being typed.
const EVERY_MS = 5000;

async function look() {
  if (document.visibilityState !== "visible") return;
  const answer = await fetch("/api/v1/workspaces", { headers: { accept: "application/json" } });
  if (answer.status === 401) return location.reload();
  if (!answer.ok) return;
  const { workspaces, shared } = await answer.json();
  for (const workspace of [...workspaces, ...shared]) {
    const section = document.querySelector(`[data-workspace="${workspace.id}"]`);
    const phase = section && section.querySelector(".phase");
    if (!phase) continue;
    const busy = document.activeElement && document.activeElement.matches("input, select");
    if (phase.dataset.phase !== workspace.phase && !busy) return location.reload();
    if (phase.textContent !== workspace.says) phase.textContent = workspace.says;
  }
}

// A portal that is away for a moment is asked again by the next look.
setInterval(() => look().catch(() => {}), EVERY_MS);
document.addEventListener("visibilitychange", () => look().catch(() => {}));

// Goes on once the certificate is there, and shows what else has changed. A page that no longer looks by itself comes
// without this script.
const EVERY_MS = 2000;
const shown = document.getElementById("awaiting").textContent;

async function look() {
  // Its redirect leads to another host, which is not for a script to follow.
  const answer = await fetch(location.href, { redirect: "manual", headers: { accept: "text/html" } });
  if (answer.status !== 503) return location.reload();
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (page.getElementById("awaiting")?.textContent !== shown) location.reload();
}

// A portal that is away for a moment is asked again by the next look.
setInterval(() => { if (!document.hidden) look().catch(() => {}); }, EVERY_MS);

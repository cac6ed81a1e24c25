// The demo's page. It asks once when it opens and then listens: nothing here polls.
"use strict";

const at = (id) => document.getElementById(id);
const address = (path) => `${location.protocol === "https:" ? "wss" : "ws"}://${location.host}${path}`;

/** Opens a WebSocket, and again some seconds after it closed, but only while somebody looks. */
function keepOpen(path, { opened = () => {}, heard, closed = () => {} }) {
  let socket = null;
  let timer = 0;
  const open = () => {
    clearTimeout(timer);
    if (socket || document.visibilityState === "hidden") return;
    socket = new WebSocket(address(path));
    socket.onopen = opened;
    socket.onmessage = (event) => heard(event.data);
    socket.onclose = (event) => {
      socket = null;
      closed(event);
      timer = setTimeout(open, 5000);
    };
  };
  document.addEventListener("visibilitychange", open);
  open();
  return (text) => {
    if (socket?.readyState !== WebSocket.OPEN) return false;
    socket.send(text);
    return true;
  };
}

function link(state, text) {
  at("link").dataset.state = state;
  if (at("link-text").textContent !== text) at("link-text").textContent = text;
}

// Why it was last closed stays readable while it is tried again.
let why = "not connected";
keepOpen("/clock", {
  opened: () => {
    why = "not connected";
    link("good", "connected to your workspace");
  },
  heard: (text) => {
    const now = new Date(text);
    at("time").textContent = now.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });
    at("time").dateTime = text;
    at("date").textContent = now.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
  },
  closed: (event) => {
    why = event.reason || why;
    link("bad", why);
  },
});

// The address, to see that it survived a login and a start.
const here = location.pathname + location.search + location.hash;
at("here").textContent = here;
at("link-kept").hidden = here === "/";

// The echo: answers come in the order of the messages.
const sentAt = [];
const say = keepOpen("/ws", {
  heard: (text) => {
    const item = document.createElement("li");
    const took = document.createElement("small");
    took.textContent = `${(performance.now() - sentAt.shift()).toFixed(1)} ms`;
    item.append(String(text), took);
    at("answers").querySelector(".empty")?.remove();
    at("answers").prepend(item);
    while (at("answers").children.length > 5) at("answers").lastElementChild.remove();
  },
  closed: () => { sentAt.length = 0; },
});
at("echo").addEventListener("submit", (event) => {
  event.preventDefault();
  sentAt.push(performance.now());
  if (say(at("message").value)) at("message").value = "";
  else sentAt.pop();
});

// The note.
const note = at("note");
let saved = "";
function noteChanged() {
  at("save").disabled = note.value === saved;
  at("note-state").textContent = note.value === saved ? "" : "not saved yet";
}
async function loadNote() {
  const answer = await fetch("/note");
  if (!answer.ok) throw new Error();
  saved = note.value = await answer.text();
  note.disabled = false;
}
async function saveNote() {
  const text = note.value;
  at("save").disabled = true;
  try {
    const answer = await fetch("/note", { method: "PUT", body: text, headers: { "content-type": "text/plain" } });
    if (!answer.ok) throw new Error();
    saved = text;
    noteChanged();
    if (note.value === saved) at("note-state").textContent = "saved";
  } catch {
    at("save").disabled = false;
    at("note-state").textContent = "was not saved";
  }
}
note.addEventListener("input", noteChanged);
at("save").addEventListener("click", saveNote);
loadNote().catch(() => { at("note-state").textContent = "could not be read"; });

// What the workspace was told. A secret here would be a fault of the edge.
const OURS = /^(x-usher-|x-forwarded-|forwarded$)/;
const SECRET = ([name, value]) => name === "authorization" || (name === "cookie" && value.includes("__Host-usher"));
/** What an assertion claims; the token itself is nobody's to copy from a screen. */
function claims(token) {
  const bytes = Uint8Array.from(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
  return `signed claims: ${JSON.stringify(JSON.parse(new TextDecoder().decode(bytes)))}`;
}
async function showHeaders() {
  const fields = await (await fetch("/headers")).json();
  at("fields").replaceChildren(...fields.map(([name, value]) => {
    const row = document.createElement("tr");
    const field = document.createElement("th");
    field.scope = "row";
    field.textContent = name;
    const text = document.createElement("td");
    text.textContent = name === "x-usher-assertion" ? claims(value) : value;
    if (OURS.test(name)) row.dataset.ours = "";
    row.append(field, text);
    return row;
  }));
  const leaks = fields.some(SECRET);
  at("verdict").textContent = leaks ? "A secret of yours is among them!" : "Your session cookie is not among them.";
  at("verdict").toggleAttribute("data-leak", leaks);
  const user = fields.find(([name]) => name === "x-usher-user");
  if (user) at("user").textContent = user[1];
}
showHeaders().catch(() => { at("verdict").textContent = "They could not be asked for."; });

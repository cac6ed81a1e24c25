// What Usher uses of GitHub, by its documentation: the real one cannot be reached by a test.
//
//   node github.mjs '{"user": {"id": 1, "login": "alice"}, "emails": [], "orgs": [], "teams": []}'
//
// It prints its address in one line. A POST of JSON to /control replaces what it says; {"revoked": true} takes all tokens back.
// It ends with its standard input.
import { createHash, randomUUID } from "node:crypto";
import { createServer } from "node:http";

let account = JSON.parse(process.argv[2]);
const codes = new Map();
const tokens = new Set();

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

function redeem(form) {
  const code = codes.get(form.get("code"));
  codes.delete(form.get("code"));
  const challenge = createHash("sha256").update(form.get("code_verifier") ?? "").digest("base64url");
  if (form.get("client_secret") !== account.secret) return { error: "incorrect_client_credentials" };
  if (!code || code.challenge !== challenge || code.redirect !== form.get("redirect_uri"))
    return { error: "bad_verification_code", error_description: "The code passed is incorrect or expired." };
  const token = `gho_${randomUUID()}`;
  tokens.add(token);
  return { access_token: token, scope: code.scope, token_type: "bearer" };
}

function api(path, token) {
  if (account.revoked || !tokens.has(token)) return [401, { message: "Bad credentials" }];
  const said = { "/user": account.user, "/user/emails": account.emails, "/user/orgs": account.orgs, "/user/teams": account.teams };
  return said[path] ? [200, said[path]] : [403, { message: "Resource not accessible by integration" }];
}

const server = createServer(async (request, response) => {
  const { pathname, searchParams: query } = new URL(request.url, "http://127.0.0.1");
  const json = (status, said) => {
    response.writeHead(status, { "content-type": "application/json" });
    response.end(JSON.stringify(said));
  };
  if (pathname === "/control") {
    Object.assign(account, JSON.parse(await body(request)));
    json(200, {});
  } else if (pathname === "/login/oauth/authorize") {
    const code = randomUUID();
    codes.set(code, { challenge: query.get("code_challenge"), redirect: query.get("redirect_uri"), scope: query.get("scope") });
    const back = new URL(query.get("redirect_uri"));
    back.search = new URLSearchParams({ code, state: query.get("state") });
    response.writeHead(302, { location: back.href });
    response.end();
  } else if (pathname === "/login/oauth/access_token") {
    json(200, redeem(new URLSearchParams(await body(request))));
  } else if (pathname.startsWith("/api/v3/")) {
    json(...api(pathname.slice("/api/v3".length), request.headers.authorization?.replace("Bearer ", "")));
  } else {
    json(404, { message: "Not Found" });
  }
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`http://127.0.0.1:${server.address().port}\n`));
process.stdin.resume().on("end", () => process.exit(0));

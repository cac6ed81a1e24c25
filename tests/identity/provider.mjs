// An OpenID provider for the tests: the certified `oidc-provider`, on a free port of loopback.
//
//   NODE_MODULES=DIR node provider.mjs '{"accounts": {"alice": {"name": "Ada"}}, "accessTtl": 3600}'
//
// It prints its address in one line, and is told what changes by POSTs of JSON to /control/:
//   client    a client's metadata, by which it is known from then on
//   account   {"id": …, "claims": {…}}; without claims the account is gone
//   settings  {"accessTtl": seconds}
//   asked     answers how often each path was asked for
//   sid       {"id": …} answers the name of the account's session
// It ends with its standard input.
import dns from "node:dns";
import { createRequire } from "node:module";
import { createServer } from "node:http";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(join(process.env.NODE_MODULES, "."));
const load = (name) => import(pathToFileURL(require.resolve(name)));
// Warnings about what is meant for development: this is.
process.emitWarning = () => {};
console.warn = console.info = () => {};
const { default: Provider } = await load("oidc-provider");

// Names under `localhost` are this machine (RFC 6761 §6.3); not every system's resolver knows that.
const lookup = dns.lookup;
dns.lookup = (name, ...rest) => lookup(name.endsWith(".localhost") ? "127.0.0.1" : name, ...rest);

const settings = { accounts: {}, accessTtl: 3600, ...JSON.parse(process.argv[2] ?? "{}") };
const accounts = new Map(Object.entries(settings.accounts));
const clients = new Map();
const asked = new Map();

/** Everything that lives, of all kinds; nothing is ever too old here but by its own word. */
class Store {
  static all = new Map();

  constructor(kind) {
    this.kind = kind;
  }
  get entries() {
    if (!Store.all.has(this.kind)) Store.all.set(this.kind, new Map());
    return Store.all.get(this.kind);
  }
  #by(test) {
    return [...this.entries.values()].find(test);
  }
  async find(id) {
    return this.kind === "Client" ? clients.get(id) : this.entries.get(id);
  }
  async findByUid(uid) {
    return this.#by((entry) => entry.uid === uid);
  }
  async findByUserCode(code) {
    return this.#by((entry) => entry.userCode === code);
  }
  async upsert(id, entry) {
    this.entries.set(id, entry);
  }
  async consume(id) {
    this.entries.get(id).consumed = Math.floor(Date.now() / 1000);
  }
  async destroy(id) {
    this.entries.delete(id);
  }
  async revokeByGrantId(grant) {
    for (const [id, entry] of this.entries) if (entry.grantId === grant) this.entries.delete(id);
  }
}

const known = (id) => accounts.has(id) && { accountId: id, claims: () => ({ sub: id, ...accounts.get(id) }) };

// Nobody is asked for consent: what is asked for is granted.
async function granted({ oidc }) {
  const grant = new oidc.provider.Grant({ clientId: oidc.client.clientId, accountId: oidc.session.accountId });
  grant.addOIDCScope([...oidc.requestParamScopes].join(" "));
  await grant.save();
  return grant;
}

const configuration = {
  adapter: Store,
  clients: [],
  // Its own would ask nothing that is on this machine.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (_, id) => known(id) || undefined,
  loadExistingGrant: granted,
  issueRefreshToken: (_, client) => client.grantTypeAllowed("refresh_token"),
  rotateRefreshToken: true,
  claims: {
    openid: ["sub"],
    email: ["email", "email_verified"],
    profile: ["name", "preferred_username", "groups"],
  },
  scopes: ["openid", "profile", "email", "offline_access"],
  clientAuthMethods: ["client_secret_basic", "client_secret_post", "private_key_jwt"],
  features: {
    devInteractions: { enabled: false },
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    // Tokens for others are JWTs, about whoever asked.
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({ scope: "", audience: resource, accessTokenFormat: "jwt", accessTokenTTL: settings.accessTtl }),
    },
    rpInitiatedLogout: {
      enabled: true,
      // As a person who presses the one button.
      logoutSource: (ctx, form) => { ctx.body = `<!doctype html><title>Log out</title>${form}<button form="op.logoutForm" name="logout" value="yes">Yes</button>`; },
    },
  },
  interactions: { url: (_, interaction) => `/interaction/${interaction.uid}` },
  ttl: {
    AccessToken: () => settings.accessTtl,
    AuthorizationCode: 60,
    Grant: 86400,
    IdToken: () => settings.accessTtl,
    Interaction: 600,
    RefreshToken: 86400,
    Session: 86400,
  },
};

async function body(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return Buffer.concat(parts).toString();
}

async function control(what, said) {
  if (what === "client") clients.set(said.client_id, said);
  else if (what === "account" && said.claims) accounts.set(said.id, said.claims);
  else if (what === "account") accounts.delete(said.id);
  else if (what === "settings") Object.assign(settings, said);
  else if (what === "sid") return sessionOf(said.id);
  return Object.fromEntries(asked);
}

/** The name of an account's session, as clients know it. */
function sessionOf(id) {
  const sessions = [...(Store.all.get("Session")?.values() ?? [])];
  const authorizations = sessions.find((session) => session.accountId === id)?.authorizations ?? {};
  return Object.values(authorizations)[0]?.sid ?? null;
}

const FORM = `<!doctype html><title>The provider's login</title><h1>The provider's login</h1>
  <form method="post"><label>Name <input name="login" autofocus></label><button>Log in</button></form>`;

const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://127.0.0.1");
  const [, first, second] = pathname.split("/");
  asked.set(pathname, (asked.get(pathname) ?? 0) + 1);
  try {
    if (first === "control") {
      response.end(JSON.stringify(await control(second, JSON.parse(await body(request)))));
    } else if (first === "interaction" && request.method === "POST") {
      const accountId = new URLSearchParams(await body(request)).get("login");
      const result = known(accountId) ? { login: { accountId } } : { error: "access_denied", error_description: `nobody is called ${accountId}` };
      await provider.interactionFinished(request, response, result);
    } else if (first === "interaction") {
      response.setHeader("content-type", "text/html; charset=utf-8");
      response.end(FORM);
    } else {
      provider.callback()(request, response);
    }
  } catch (error) {
    response.statusCode = 500;
    response.end(String(error?.stack));
  }
});

let provider;
server.listen(settings.port ?? 0, "127.0.0.1", () => {
  const address = `http://127.0.0.1:${server.address().port}`;
  provider = new Provider(address, configuration);
  provider.on("backchannel.error", (_, error) => console.error("the back-channel logout failed:", error));
  process.stdout.write(`${address}\n`);
});
process.stdin.resume().on("end", () => process.exit(0));

// node-oidc-provider on loopback. Commands come as JSON lines on standard input, the first of them
// says what to serve; events go as JSON lines to standard output. It ends with its standard input.
// Token exchange (RFC 8693) and the JWT bearer grant (RFC 7523) are not the provider's own: they are
// written here, and so prove what a client sends, not that a certified server takes it.
import { randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createInterface } from 'node:readline';
import * as jose from 'jose';
import { Provider } from 'oidc-provider';

const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const JWT_BEARER = 'urn:ietf:params:oauth:grant-type:jwt-bearer';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
const RESOURCE_SCOPES = ['tools:read', 'tools:write'];

let asked; // what Python said last: keys, clients, default_resource, lifetimes
let issuer;
let serve; // answers requests, by the provider that is current
const failing = new Map(); // status by path
const slow = new Map(); // milliseconds by path

// The provider's own store belongs to one Provider, and new keys need a new one. Expired entries may
// stay: the provider looks at their `exp`.
const kept = new Map();
class Kept {
  constructor(model) { this.model = model; }

  #key(id) { return `${this.model}:${id}`; }

  async upsert(id, payload) { kept.set(this.#key(id), payload); }

  async find(id) { return kept.get(this.#key(id)); }

  async destroy(id) { kept.delete(this.#key(id)); }

  async consume(id) { kept.get(this.#key(id)).consumed = Math.floor(Date.now() / 1000); }

  async findByUid(uid) { return this.#first((payload) => payload.uid === uid); }

  async findByUserCode(code) { return this.#first((payload) => payload.userCode === code); }

  async revokeByGrantId(grant) {
    for (const [key, payload] of kept) if (payload.grantId === grant) kept.delete(key);
  }

  #first(wanted) {
    for (const [key, payload] of kept) {
      if (key.startsWith(`${this.model}:`) && wanted(payload)) return payload;
    }
    return undefined;
  }
}

const say = (event) => process.stdout.write(`${JSON.stringify(event)}\n`);

// The algorithm that signs access tokens for a resource is the last part of its name, if that is one.
function algorithmFor(resource) {
  const wanted = String(resource).split('/').pop().toUpperCase();
  const known = asked.jwks.keys.map((key) => key.alg);
  return known.find((alg) => alg.toUpperCase() === wanted) ?? known[0];
}

async function claimsOf(account) {
  return {
    sub: account, name: account, email: `${account}@example.test`, email_verified: true,
    groups: ['staff'], role: account === 'root' ? 'admin' : 'user',
  };
}

function configuration() {
  const seconds = asked.lifetimes;
  return {
    adapter: Kept,
    jwks: asked.jwks,
    clients: asked.clients,
    cookies: { keys: ['for-tests-alone'] },
    scopes: ['openid', 'offline_access', 'profile', 'email', ...RESOURCE_SCOPES],
    claims: {
      openid: ['sub'], profile: ['name', 'groups', 'role'], email: ['email', 'email_verified'],
    },
    conformIdTokenClaims: false, // else profile and email are had from userinfo alone
    findAccount: async (ctx, account) => ({ accountId: account, claims: () => claimsOf(account) }),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed('refresh_token'),
    enabledJWA: {
      idTokenSigningAlgValues: ['RS256', 'ES256', 'EdDSA'],
      clientAuthSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'],
    },
    ttl: {
      AccessToken: seconds.access, ClientCredentials: seconds.access, IdToken: seconds.access,
      AuthorizationCode: 60, DeviceCode: 600, RefreshToken: seconds.refresh,
      Interaction: 600, Session: 3600, Grant: 3600,
    },
    extraTokenClaims: async (ctx, token) => ({
      ...(token.accountId && { role: token.accountId === 'root' ? 'admin' : 'user' }),
      groups: ['staff'],
    }),
    features: {
      devInteractions: { enabled: true },
      clientCredentials: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
      revocation: { enabled: true },
      registration: { enabled: true },
      pushedAuthorizationRequests: { enabled: true },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => asked.default_resource ?? undefined,
        useGrantedResource: async () => true,
        getResourceServerInfo: async (ctx, resource) => ({
          scope: RESOURCE_SCOPES.join(' '), audience: resource, accessTokenFormat: 'jwt',
          accessTokenTTL: seconds.access, jwt: { sign: { alg: algorithmFor(resource) } },
        }),
      },
    },
  };
}

async function verified(token) {
  const keys = asked.jwks.keys.map(({ d, p, q, dp, dq, qi, ...open }) => open);
  return (await jose.jwtVerify(token, jose.createLocalJWKSet({ keys }), { issuer })).payload;
}

async function issue(ctx, parameter, more) {
  const { params, client } = ctx.oidc;
  const refuse = (error, why) => { ctx.status = 400; ctx.body = { error, error_description: why }; };
  const audience = params.resource || params.audience;
  let subject;
  let actor;
  try {
    subject = await verified(params[parameter]);
    actor = params.actor_token && await verified(params.actor_token);
  } catch (error) {
    refuse('invalid_grant', `the token is not one of this issuer: ${error.code}`);
    return;
  }
  const now = Math.floor(Date.now() / 1000);
  const expires = Math.min(now + asked.lifetimes.access, subject.exp);
  const claims = {
    iss: issuer, sub: subject.sub, aud: audience || client.clientId, client_id: client.clientId,
    scope: params.scope || subject.scope, iat: now, exp: expires, jti: randomUUID(),
    act: { sub: actor ? actor.sub : client.clientId },
  };
  const alg = algorithmFor(audience ?? '');
  const key = asked.jwks.keys.find((found) => found.alg === alg);
  const access_token = await new jose.SignJWT(claims)
    .setProtectedHeader({ alg, kid: key.kid, typ: 'at+jwt' })
    .sign(await jose.importJWK(key, alg));
  ctx.body = {
    access_token, token_type: 'Bearer', expires_in: expires - now, scope: claims.scope, ...more,
  };
}

function build() {
  const provider = new Provider(issuer, configuration());
  provider.registerGrantType(
    EXCHANGE,
    (ctx) => issue(ctx, 'subject_token', { issued_token_type: ACCESS_TOKEN }),
    ['subject_token', 'subject_token_type', 'actor_token', 'actor_token_type',
      'requested_token_type', 'audience', 'resource', 'scope'],
    ['audience', 'resource'],
  );
  provider.registerGrantType(
    JWT_BEARER, (ctx) => issue(ctx, 'assertion', {}),
    ['assertion', 'scope', 'resource', 'audience', 'requested_token_use'], ['audience', 'resource'],
  );
  provider.on('server_error', (ctx, error) => say({ log: `server_error: ${error.stack}` }));
  const refused = (ctx, error) => say({ log: `${error.error}: ${error.error_detail ?? error.error_description}` });
  for (const event of ['grant.error', 'authorization.error', 'registration_create.error']) {
    provider.on(event, refused);
  }
  serve = provider.callback();
}

const server = createServer((request, response) => {
  const path = request.url.split('?')[0];
  say({ request: `${request.method} ${path}` });
  if (failing.has(path)) {
    response.writeHead(failing.get(path), { 'content-type': 'application/json' });
    response.end('{"error":"temporarily_unavailable"}');
    return;
  }
  setTimeout(() => serve(request, response), slow.get(path) ?? 0);
});

const act = {
  serve({ port, ...rest }) {
    asked = rest;
    if (server.listening) {
      build();
      say({ ready: issuer });
      return;
    }
    server.on('error', (error) => { say({ log: String(error) }); process.exit(1); });
    server.listen(port, '127.0.0.1', () => {
      issuer = `http://127.0.0.1:${server.address().port}`;
      build();
      say({ ready: issuer });
    });
  },
  settle() { say({ ready: '' }); },
  fail({ path, status }) {
    if (status) failing.set(path, status); else failing.delete(path);
    say({ ready: path });
  },
  delay({ path, seconds }) {
    slow.set(path, seconds * 1000);
    say({ ready: path });
  },
};

createInterface({ input: process.stdin })
  .on('line', (line) => { const { act: name, ...rest } = JSON.parse(line); act[name](rest); })
  .on('close', () => process.exit(0));

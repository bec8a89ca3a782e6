// An identity provider that lies. Its keys and its TLS are real; what it says is what the first word of the file TRICK asks for.
//
//   node hostile.mjs SETUP.json
//
// Prints one line of JSON, its issuer, once it listens. It signs in anybody at once, as the setup's person.
import { createHash, createHmac, generateKeyPairSync, sign } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';

const setup = JSON.parse(readFileSync(process.argv[2]));
const keys = () => generateKeyPairSync('ec', { namedCurve: 'P-256' });
const [own, others] = [keys(), keys()];
const encoded = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
const publicKey = { ...own.publicKey.export({ format: 'jwk' }), kid: 'own', use: 'sig', alg: 'ES256' };
const [ACCESS_TOKEN, NOW] = ['an-access-token', () => Math.floor(Date.now() / 1000)];
const half = createHash('sha256').update(ACCESS_TOKEN).digest().subarray(0, 16).toString('base64url');
const asked = new Map();

function token(trick, nonce) {
  const issuer = trick === 'issuer' ? 'https://other.example' : setup.issuer;
  const claims = {
    iss: issuer, aud: setup.client_id, sub: 'person', nonce, iat: NOW(), exp: NOW() + 300, auth_time: NOW(), acr: 'AAL3_ANY',
    at_hash: half, ...setup.person,
  };
  const changes = {
    nonce: { nonce: 'somebody-elses' },
    'no-nonce': { nonce: undefined },
    audience: { aud: 'another-client' },
    audiences: { aud: [setup.client_id, 'another-client'] },
    party: { azp: 'another-client' },
    expired: { iat: NOW() - 900, exp: NOW() - 600 },
    'long-ago': { auth_time: NOW() - 7200 },
    'no-time': { auth_time: undefined },
    class: { acr: 'AAL1' },
    hash: { at_hash: encoded('0123456789abcdef') },
    level: { id_assurance_level: '1' },
    subject: { given_name: undefined },
    long: { role: 'A'.repeat(80) },
  };
  Object.assign(claims, changes[trick]);
  const algorithm = { none: 'none', secret: 'HS256', shared: 'HS256' }[trick] ?? 'ES256';
  const text = `${encoded({ alg: algorithm, kid: 'own' })}.${encoded(claims)}`;
  switch (trick) {
    case 'none':
      return `${text}.`;
    // Signed with the public key, or with the secret that both know, as if it were of a symmetric algorithm.
    case 'secret':
      return `${text}.${createHmac('sha256', own.publicKey.export({ type: 'spki', format: 'pem' })).update(text).digest('base64url')}`;
    case 'shared':
      return `${text}.${createHmac('sha256', setup.client_secret).update(text).digest('base64url')}`;
    default: {
      const key = trick === 'key' ? others.privateKey : own.privateKey;
      const signature = sign('sha256', Buffer.from(text), { key, dsaEncoding: 'ieee-p1363' }).toString('base64url');
      // A signature of another text.
      return trick === 'changed' ? `${text.slice(0, -4)}AAAA.${signature}` : `${text}.${signature}`;
    }
  }
}

function answer(path, query, body, trick) {
  switch (path) {
    case '/.well-known/openid-configuration':
      return {
        issuer: trick === 'metadata' ? 'https://other.example' : setup.issuer,
        authorization_endpoint: `${setup.issuer}/authorize`,
        token_endpoint: `${setup.issuer}/token`,
        userinfo_endpoint: `${setup.issuer}/userinfo`,
        jwks_uri: trick === 'plain' ? setup.issuer.replace('https', 'http') : `${setup.issuer}/keys`,
        response_types_supported: ['code'],
        subject_types_supported: ['public'],
        id_token_signing_alg_values_supported: ['ES256', 'HS256', 'none'],
        ...(trick === 'large' ? { padding: 'x'.repeat(1 << 20) } : {}),
      };
    case '/keys':
      return { keys: [publicKey] };
    case '/token':
      return {
        access_token: ACCESS_TOKEN,
        token_type: 'Bearer',
        ...(trick === 'no-token' ? {} : { id_token: token(trick, asked.get(new URLSearchParams(body).get('code'))) }),
      };
    case '/userinfo':
      return { sub: 'somebody-else', ...setup.person };
    default:
      return undefined;
  }
}

const server = createServer({ key: readFileSync(setup.key), cert: readFileSync(setup.certificate) }, async (request, response) => {
  const url = new URL(request.url, setup.issuer);
  const trick = readFileSync(setup.trick, 'utf8').trim();
  let body = '';
  for await (const part of request) body += part;
  if (url.pathname === '/authorize') {
    const code = `code-${asked.size}`;
    asked.set(code, url.searchParams.get('nonce'));
    const back = new URL(url.searchParams.get('redirect_uri'));
    back.search = new URLSearchParams({ code, state: url.searchParams.get('state') });
    if (trick === 'mixed-up') back.searchParams.set('iss', 'https://other.example');
    response.writeHead(302, { location: back.href }).end();
    return;
  }
  if (trick === 'silent' && url.pathname === '/token') return;
  if (trick === 'redirect' && url.pathname === '/keys') {
    response.writeHead(302, { location: `${setup.issuer}/elsewhere` }).end();
    return;
  }
  const said = answer(url.pathname, url.searchParams, body, trick);
  response.writeHead(said ? 200 : 404, { 'content-type': 'application/json' }).end(JSON.stringify(said ?? {}));
});
server.listen(0, '127.0.0.1', () => {
  setup.issuer = `https://127.0.0.1:${server.address().port}`;
  console.log(JSON.stringify({ issuer: setup.issuer }));
});

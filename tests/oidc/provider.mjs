// An OpenID provider (oidc-provider) on loopback over TLS, with its own forms for signing in and consenting.
//
//   node provider.mjs DIR SETUP.json    DIR has node_modules
//
// Prints one line of JSON, its issuer, once it listens. Everybody in it is fictional.
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

const [dir, file] = process.argv.slice(2);
const { default: Provider } = await import(pathToFileURL(join(resolve(dir), 'node_modules/oidc-provider/lib/index.js')));
const setup = JSON.parse(readFileSync(file));
const jwk = (type, options, more) => ({
  ...generateKeyPairSync(type, options).privateKey.export({ format: 'jwk' }), use: 'sig', ...more,
});

const server = createServer({ key: readFileSync(setup.key), cert: readFileSync(setup.certificate) });
server.listen(0, '127.0.0.1', () => {
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [{
      client_id: setup.client_id,
      client_secret: setup.client_secret,
      // A program of its own (RFC 8252): its redirect may come to any port of 127.0.0.1.
      application_type: 'native',
      redirect_uris: ['http://127.0.0.1/signed-in'],
      grant_types: ['authorization_code'],
      id_token_signed_response_alg: setup.algorithm,
    }],
    pkce: { methods: ['S256'], required: () => true },
    // As NHS CIS2 groups its claims.
    claims: {
      openid: ['sub'],
      profile: ['name', 'given_name', 'family_name'],
      nhsperson: ['nhsid_useruid', 'id_assurance_level', 'authentication_assurance_level'],
      professionalmemberships: ['gmc_id', 'nmc_id'],
      nationalrbacaccess: ['nhsid_nrbac_roles', 'selected_roleid'],
    },
    findAccount: (_, id) => setup.people[id] && { accountId: id, claims: () => ({ sub: id, ...setup.people[id] }) },
    jwks: {
      keys: [
        jwk('rsa', { modulusLength: 2048 }, { alg: 'RS256', kid: 'rsa' }),
        jwk('ec', { namedCurve: 'P-256' }, { alg: 'ES256', kid: 'ec' }),
      ],
    },
    cookies: { keys: [String(process.pid)] },
  });
  server.on('request', provider.callback());
  console.log(JSON.stringify({ issuer }));
});

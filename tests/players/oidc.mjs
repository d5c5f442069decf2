// A provider of identities for the tests: oidc-provider with one client, which must use PKCE.
// Anybody signs in under the name that they give, with any password. The first line on stderr is
// its issuer. Arguments: the redirect address of the client; the port, 0 for any; the id of the key
// that signs. The address of ada is verified, that of everybody else is not.

import { createServer } from "node:http";
import { generateKeyPairSync } from "node:crypto";
import { Provider } from "oidc-provider";

const [redirect, port, kid] = process.argv.slice(2);
const pair = generateKeyPairSync("rsa", { modulusLength: 2048 });
const key = pair.privateKey.export({ format: "jwk" });

const server = createServer();
server.listen(Number(port), "127.0.0.1", () => {
  const issuer = `http://127.0.0.1:${server.address().port}`;
  const provider = new Provider(issuer, {
    clients: [
      {
        client_id: "streamforge",
        client_secret: "s3cret-of-the-client",
        redirect_uris: [redirect],
        grant_types: ["authorization_code"],
        response_types: ["code"],
      },
    ],
    claims: { email: ["email", "email_verified"], profile: ["name", "preferred_username"] },
    cookies: { keys: ["a key of a test"] },
    jwks: { keys: [{ ...key, kid, use: "sig", alg: "RS256" }] },
    pkce: { required: () => true },
    ttl: {
      AccessToken: 600,
      AuthorizationCode: 60,
      Grant: 600,
      IdToken: 600,
      Interaction: 600,
      Session: 600,
    },
    findAccount: (context, id) => ({
      accountId: id,
      claims: () => ({
        sub: id,
        email: `${id}@example.org`,
        email_verified: id === "ada",
        preferred_username: id,
        name: `${id} of the provider`,
      }),
    }),
  });
  server.on("request", provider.callback());
  console.error(JSON.stringify({ issuer }));
});

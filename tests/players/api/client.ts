// The main path of a streamer, by a client whose types are generated from the API's description: a
// member or status that the description does not have is an error of the compiler.
//
//     node client.js ORIGIN LOGIN PASSWORD NEW_PASSWORD
//
// Prints a line for each step; the status is 1 if a step fails.

import assert from 'node:assert/strict';
import createClient from 'openapi-fetch';
import type { paths } from './api.js';

const [origin, login, password, new_password] = process.argv.slice(2);
assert(origin && login && password && new_password);
const api = createClient<paths>({ baseUrl: origin });

// The first sign-in replaces the password that the operator has set.
const refused = await api.POST('/api/v1/sessions', { body: { login, password } });
assert.equal(refused.response.status, 403);
const signedIn = await api.POST('/api/v1/sessions', { body: { login, password, new_password } });
assert(signedIn.data?.access_token, JSON.stringify(signedIn.error));
const authorization = `Bearer ${signedIn.data.access_token}`;
api.use({
  onRequest({ request }) {
    request.headers.set('authorization', authorization);
    return request;
  },
});
console.log('signed in');

const me = await api.GET('/api/v1/accounts/{account}', { params: { path: { account: 'me' } } });
assert(me.data && 'email' in me.data, JSON.stringify(me.error));
assert.equal(me.data.role, 'creator');
console.log('saw the account');

const made = await api.POST('/api/v1/channels', { body: { name: 'studio', title: 'First' } });
assert(made.data, JSON.stringify(made.error));
const path = { channel: made.data.id };
const read = await api.GET('/api/v1/channels/{channel}', { params: { path } });
const tag = read.response.headers.get('etag');
assert(tag && read.data?.title === 'First');
const edit = (title: string) =>
  api.PATCH('/api/v1/channels/{channel}', {
    params: { path, header: { 'If-Match': tag } },
    body: { title },
  });
assert.equal((await edit('Second')).data?.title, 'Second');
// The tag is no longer that of the channel.
assert.equal((await edit('Third')).response.status, 412);
console.log('edited a channel');

const keys = { params: { path } };
const key = await api.POST('/api/v1/channels/{channel}/stream-keys', { ...keys, body: { name: 'obs' } });
assert(key.data, JSON.stringify(key.error));
assert.match(key.data.key, /^live_/);
const listed = await api.GET('/api/v1/channels/{channel}/stream-keys', keys);
assert.deepEqual(listed.data?.stream_keys.map(({ name }) => name), ['obs']);
assert(!JSON.stringify(listed.data).includes(key.data.key));
console.log('added a stream key');

const token = await api.POST('/api/v1/playback-tokens', { body: { channel: 'studio', expires_in: 600 } });
assert(token.data?.hls.startsWith('/t/'), JSON.stringify(token.error));
console.log('admitted a viewer');

const removed = await api.DELETE('/api/v1/channels/{channel}', { params: { path } });
assert.equal(removed.response.status, 204);
const gone = await api.GET('/api/v1/channels/{channel}', { params: { path } });
assert.equal(gone.error?.type, '/problems/not-found');
console.log('deleted the channel');

assert.equal((await api.DELETE('/api/v1/sessions/current')).response.status, 204);
assert.equal((await api.GET('/api/v1/channels')).response.status, 401);
console.log('signed out');

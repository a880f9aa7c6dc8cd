// Asks an app of Hono the same of a Worker and of itself in Node.js, and compares the answers. Prints "ok" and the
// number of answers at the end.
//   hono.mjs APP HOST PORT    APP: the app's source; HOST: the Worker's name; PORT: where the node answers
import http from 'node:http';
import assert from 'node:assert/strict';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { build } from 'esbuild';

const [file, host, port] = process.argv.slice(2);
const bundle = path.join(path.dirname(file), 'bundle.mjs');
await build({ entryPoints: [file], outfile: bundle, bundle: true, format: 'esm', platform: 'neutral', logLevel: 'error' });
const { default: app } = await import(pathToFileURL(bundle));

const form = new FormData();
form.append('a', '1');
form.append('b', 'x');
form.append('b', 'ÿ');
form.append('file', new File(['content\n'], 'name.txt', { type: 'text/plain' }));
const token = await (await app.request('/jwt/make')).text();
const json = { 'content-type': 'application/json' };

const requests = [
  ['GET', '/text'], ['HEAD', '/text'], ['GET', '/json'], ['GET', '/params/a%20b/12'], ['GET', '/params/a/x'], ['GET', '/optional'], ['GET', '/optional/ann'],
  ['GET', '/wildcard/a/b'], ['GET', '/query?q=%C3%A4+b&tag=1&tag=2'], ['GET', '/middleware/inner'], ['GET', '/text/'],
  ['GET', '/cors/data', { origin: 'https://a.test' }], ['PUT', '/cors/data', { origin: 'https://b.test' }],
  ['OPTIONS', '/cors/data', { origin: 'https://a.test', 'access-control-request-method': 'PUT', 'access-control-request-headers': 'X-A' }],
  ['GET', '/jsx'], ['GET', '/html'], ['GET', '/stream/text'], ['GET', '/stream/events'], ['GET', '/stream/bytes'],
  ['POST', '/validated', json, '{"name":"ann"}'], ['POST', '/validated', json, '{"name":1}'], ['POST', '/validated', json, '{'],
  ['POST', '/form', {}, form], ['POST', '/form', { 'content-type': 'application/x-www-form-urlencoded' }, 'a=1&b=%26'],
  ['GET', '/cookies'], ['GET', '/cookies', { cookie: 'plain=p%3B; signed=value.2fKgA8kGlCyvXzh%2FqlGnk4QXVNc%3D' }],
  ['GET', '/etag'], ['GET', '/etag', { 'if-none-match': '"d14a028c2a3a2bc9476102bb288234c415a2b01f828ea62ac5b3e42f"' }], ['GET', '/secure'],
  ['GET', '/basic'], ['GET', '/basic', { authorization: `Basic ${btoa('u:p')}` }], ['GET', '/bearer', { authorization: 'Bearer token' }], ['GET', '/bearer', { authorization: 'Bearer x' }],
  ['GET', '/jwt/make'], ['GET', '/jwt/read', { authorization: `Bearer ${token}` }], ['GET', '/jwt/read'],
  ['POST', '/limited', {}, 'short'], ['POST', '/limited', {}, 'longer than ten'],
  ['POST', '/csrf', { origin: 'https://a.test', 'content-type': 'text/plain' }, 'x'], ['POST', '/csrf', { origin: 'https://b.test', 'content-type': 'text/plain' }, 'x'],
  ['GET', '/accepts', { 'accept-language': 'de;q=0.9, fr' }], ['GET', '/redirect'], ['GET', '/exception'], ['GET', '/fail'],
  ['PUT', '/methods', {}, 'body'], ['DELETE', '/methods'], ['POST', '/methods'], ['GET', '/nested/deep/end'], ['GET', '/mounted/here'], ['GET', '/none'],
];

for (const [method, path, headers = {}, body] of requests) {
  const request = new Request(`http://${host}${path}`, { method, headers, body });
  const sent = body === undefined ? undefined : Buffer.from(await request.clone().arrayBuffer());
  const here = await app.request(request, undefined, { GREETING: 'Hello' });
  const there = await ask(method, path, Object.fromEntries(request.headers), sent);
  const what = `${method} ${path} ${JSON.stringify(headers)}`;
  assert.equal(there.status, here.status, what);
  assert.deepEqual(fields(there.headers), fields(Object.fromEntries([...here.headers, ['set-cookie', here.headers.getSetCookie()]])), what);
  assert.deepEqual(there.body, Buffer.from(await here.arrayBuffer()), what);
}
console.log('ok', requests.length);

function ask(method, path, headers, body) {
  return new Promise((resolve, reject) => {
    const req = http.request({ host: '127.0.0.1', port, path, method, headers: { ...headers, host, 'accept-encoding': 'identity' }, timeout: 10_000 }, (res) => {
      const parts = [];
      res.on('data', (part) => parts.push(part));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: Buffer.concat(parts) }));
      res.on('error', reject);
    });
    req.on('timeout', () => req.destroy(new Error(`${method} ${path}: no answer`)));
    req.on('error', reject);
    req.end(body);
  });
}

// What the way adds is left out: framing, compression, date, the node's own fields.
function fields(headers) {
  const own = new Set(['date', 'connection', 'keep-alive', 'transfer-encoding', 'content-length', 'cf-ray', 'cf-cache-status', 'server', 'alt-svc', 'content-encoding']);
  const { vary, ...rest } = headers;
  const varies = vary?.split(/,\s*/).filter((name) => name.toLowerCase() !== 'accept-encoding').join(', ');
  return Object.fromEntries(Object.entries({ ...rest, vary: varies ?? '' }).filter(([name, value]) => !own.has(name) && value.length).sort());
}

// Asks requests and conversations of a Worker and compares what two of them answered.
import http from 'node:http';
import { createHash } from 'node:crypto';
import { isDeepStrictEqual } from 'node:util';
import { brotliDecompressSync, gunzipSync, zstdDecompressSync } from 'node:zlib';
import { tool } from './tools.mjs';

const { WebSocket } = tool('ws');
const patience = 15_000;

// Fields that differ by nature: the time, the hop, and how the body was framed or compressed for it.
const hopFields = new Set([
  'date', 'connection', 'keep-alive', 'transfer-encoding', 'content-length', 'content-encoding', 'vary',
  'server', 'cf-ray', 'cf-cache-status', 'age', 'alt-svc', 'server-timing',
]);

// Tags of assets are hashes that wrangler makes in one way for deploy and in another for dev.
const assetTag = /^"[0-9a-f]{32}"$/;

/** ask sends one request and returns {status, headers, body}; target is {port, host}. */
export function ask(target, step) {
  return new Promise((resolve, reject) => {
    const body = step.body === undefined ? undefined : typeof step.body === 'string' ? step.body : JSON.stringify(step.body);
    const req = http.request({
      host: '127.0.0.1', port: target.port, path: step.path.replace(/[^\x21-\x7e]/g, encodeURIComponent), method: step.method ?? (body === undefined ? 'GET' : 'POST'),
      headers: { host: target.host, ...(typeof step.body === 'object' ? { 'content-type': 'application/json' } : {}), ...step.headers },
      timeout: patience,
    }, (res) => {
      const parts = [];
      res.on('data', (part) => parts.push(part));
      res.on('end', () => resolve({ status: res.statusCode, headers: res.headers, body: decoded(res.headers, Buffer.concat(parts)) }));
      res.on('error', reject);
    });
    req.on('timeout', () => req.destroy(new Error(`no answer within ${patience / 1000} seconds`)));
    req.on('error', reject);
    req.end(body);
  });
}

function decoded(headers, body) {
  switch (headers['content-encoding']) {
    case 'gzip': return gunzipSync(body);
    case 'br': return brotliDecompressSync(body);
    case 'zstd': return zstdDecompressSync(body);
  }
  return body;
}

/** converse plays a conversation of WebSockets, one step after the other, and returns what arrived. */
export async function converse(target, steps) {
  const sockets = {};
  const heard = [];
  try {
    for (const step of steps) {
      if (step.open) {
        sockets[step.open] = await open(target, step);
        heard.push(`${step.open}: open ${sockets[step.open].socket.protocol}`.trim());
      } else if (step.send) {
        sockets[step.send].socket.send(typeof step.text === 'string' ? step.text : JSON.stringify(step.text));
      } else if (step.receive) {
        for (let i = 0; i < (step.count ?? 1); i++) heard.push(`${step.receive}: ${await sockets[step.receive].next()}`);
      } else if (step.close) {
        sockets[step.close].socket.close(step.code ?? 1000, 'done');
        heard.push(`${step.close}: closed ${await sockets[step.close].closed}`);
      }
    }
  } finally {
    for (const { socket } of Object.values(sockets)) socket.terminate();
  }
  return { status: 101, headers: {}, body: Buffer.from(heard.join('\n')) };
}

function open(target, step) {
  const socket = new WebSocket(`ws://127.0.0.1:${target.port}${step.path}`, step.protocols ?? [], {
    headers: { host: target.host, ...step.headers }, handshakeTimeout: patience,
  });
  const queue = [];
  const waiting = [];
  socket.on('message', (data, binary) => {
    const text = binary ? `binary ${data.toString('hex')}` : data.toString();
    waiting.length ? waiting.shift()(text) : queue.push(text);
  });
  const next = () => queue.length ? queue.shift() : new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('no message arrived')), patience);
    waiting.push((text) => { clearTimeout(timer); resolve(text); });
  });
  const closed = new Promise((resolve) => socket.on('close', (code) => resolve(code)));
  return new Promise((resolve, reject) => {
    socket.on('open', () => resolve({ socket, next, closed }));
    socket.on('error', reject);
  });
}

/**
 * answer asks a step, whatever its kind, and never throws: a failure is an answer with an error. What step.take finds in the body, by name
 * and pattern, target.taken keeps for {{NAME}} in later steps: IDs differ from place to place.
 */
export async function answer(target, step) {
  target.taken ??= {};
  try {
    const filled = JSON.parse(JSON.stringify(step).replace(/\{\{(\w+)\}\}/g, (_, name) => JSON.stringify(target.taken[name]).slice(1, -1)));
    const got = step.conversation ? await converse(target, filled.conversation) : await ask(target, filled);
    for (const [name, pattern] of Object.entries(step.take ?? {})) target.taken[name] = got.body.toString().match(pattern)?.[1] ?? `no ${name}`;
    return got;
  } catch (err) {
    return { error: err.message || err.code };
  }
}

/** differences says in words how two answers to a step differ; none is an empty list. */
export function differences(step, program, ours, theirs) {
  if (ours.error || theirs.error) return [`Selvage: ${ours.error ?? ours.status}, wrangler dev: ${theirs.error ?? theirs.status}`];
  const found = [];
  if (step.status === undefined ? theirs.status >= 500 : theirs.status !== step.status) {
    found.push(`wrangler dev answers ${theirs.status}, which the list does not expect`);
  }
  if (ours.status !== theirs.status) found.push(`status ${ours.status}, wrangler dev: ${theirs.status}`);
  if (step.errorPage) return found;
  const ignored = new Set([...(program.ignoreHeaders ?? []), ...(step.ignoreHeaders ?? [])]);
  const fields = new Set([...Object.keys(ours.headers), ...Object.keys(theirs.headers)]);
  for (const field of [...fields].sort()) {
    if (hopFields.has(field) || ignored.has(field)) continue;
    const [a, b] = [ours.headers[field], theirs.headers[field]].map((v) => v && JSON.parse(replaced(JSON.stringify(v), step, program)))
      .map((v) => field === 'etag' ? v?.replace(assetTag, '"TAG"') : v);
    if (!isDeepStrictEqual(a, b)) found.push(`${field}: ${JSON.stringify(a)}, wrangler dev: ${JSON.stringify(b)}`);
  }
  if (step.ignoreBody) return found;
  const [a, b] = [ours, theirs].map((r) => replaced(r.body.toString('latin1'), step, program));
  if (a !== b) found.push(`body ${shown(a)}, wrangler dev: ${shown(b)}`);
  return found;
}

/** surprises is differences for programs that wrangler dev cannot run: it compares with what their own tests expect. */
export function surprises(step, ours) {
  if (ours.error || ours.status !== (step.status ?? 200)) return [`Selvage: ${ours.error ?? ours.status}, its own tests: ${step.status ?? 200}`];
  return step.contains.filter((text) => !ours.body.toString().includes(text)).map((text) => `the body lacks ${JSON.stringify(text)}`);
}

// replaced puts placeholders where the declared exceptions (ids, times) stand.
function replaced(text, step, program) {
  for (const [pattern, placeholder] of [...(program.replace ?? []), ...(step.replace ?? [])]) {
    text = text.replace(new RegExp(pattern, 'g'), placeholder);
  }
  return text;
}

function shown(text) {
  if (text.length <= 200) return JSON.stringify(text);
  return `${text.length} bytes ${createHash('sha256').update(text, 'latin1').digest('hex').slice(0, 12)} ${JSON.stringify(text.slice(0, 120))}...`;
}

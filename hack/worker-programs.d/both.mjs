// The two places a program runs in: a fresh Selvage node, deployed to with wrangler, and `wrangler dev`.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import path from 'node:path';
import { finished, running } from './child.mjs';
import { edited, setUp } from './setup.mjs';
import { environment, node, selvage, wrangler } from './tools.mjs';

/** startNode starts a node with an empty data folder and returns how to reach and to stop it. */
export async function startNode(work) {
  const data = await mkdtemp(path.join(work, 'node-'));
  // Databases of programs are on this machine, at addresses that Workers do not reach otherwise.
  const args = ['up', '--data', data, '--workers-allow', '127.0.0.0/8', ...['api', 'http', 'https', 'dns', 'admin', 's3', 'hyperdrive-postgres', 'hyperdrive-mysql'].flatMap((name) => [`--${name}`, '127.0.0.1:0'])];
  const { value, stop, output } = await running(selvage, args, {}, async () => {
    try {
      return JSON.parse(await readFile(path.join(data, 'node.json'), 'utf8'));
    } catch {
      return null;
    }
  });
  const token = (await readFile(value.token_file, 'utf8')).trim();
  return {
    ...value, token, output, port: Number(new URL(value.http.includes('://') ? value.http : `http://${value.http}`).port),
    stop: async () => { await stop(); await rm(data, { recursive: true, force: true }); },
  };
}

/** call asks the node's API and returns the result. */
export async function call(n, method, where, body) {
  const res = await fetch(n.api + where, {
    method, headers: { authorization: `Bearer ${n.token}`, 'content-type': 'application/json' }, body: body && JSON.stringify(body),
  });
  const envelope = await res.json();
  if (!envelope.success) throw new Error(`${method} ${where}: ${JSON.stringify(envelope.errors)}`);
  return envelope.result;
}

/** setUpNode makes what a program's README says to make, and gives the copy in folder its IDs. */
export async function setUpNode(n, program, source, folder, { work, postgres }) {
  if (!program.setup && !program.edits) return;
  await edited(program, source, folder);
  await setUp('node', program, folder, { env: reaching(n, work), postgres });
}

// reaching is an environment in which wrangler reaches the node.
function reaching(n, work, more = {}) {
  return environment(path.join(work, 'home'), { CLOUDFLARE_API_BASE_URL: n.api, CLOUDFLARE_API_TOKEN: n.token, CLOUDFLARE_ACCOUNT_ID: n.account_id, ...more });
}

/** deploy deploys all configurations of a program and returns {port, host} of the last one's Worker. */
export async function deploy(n, program, folder, work) {
  for (const zone of program.zones ?? []) {
    const { id } = await call(n, 'POST', '/zones', { name: zone, account: { id: n.account_id } });
    // A name that only a Worker answers at: the record brings it to the edge, the address is never asked.
    await call(n, 'POST', `/zones/${id}/dns_records`, { type: 'AAAA', name: zone, content: '100::', proxied: true, ttl: 1 });
  }
  const log = path.join(await mkdtemp(path.join(work, 'out-')), 'wrangler.ndjson');
  const env = reaching(n, work, { WRANGLER_OUTPUT_FILE_PATH: log });
  for (const config of program.configs ?? ['']) {
    await finished(node, [wrangler, 'deploy', ...(config ? ['-c', config] : []), ...(program.flags ?? [])], { cwd: folder, env });
  }
  const entries = (await readFile(log, 'utf8')).trim().split('\n').map((line) => JSON.parse(line)).filter((e) => e.type === 'deploy');
  const { subdomain, domain } = await call(n, 'GET', `/accounts/${n.account_id}/workers/subdomain`);
  return { port: n.port, host: program.host ?? `${entries.at(-1).worker_name}.${subdomain}.${domain}` };
}

/** startDev runs the program under `wrangler dev`, the last of its configurations as the one that is asked. */
export async function startDev(program, folder, { work, host, postgres }) {
  const state = await mkdtemp(path.join(work, 'state-'));
  const configs = [...(program.configs ?? [''])].reverse().flatMap((config) => config ? ['-c', config] : []);
  const args = [wrangler, 'dev', ...configs, ...(program.flags ?? []), '--ip', '127.0.0.1', '--port', '0', '--inspector-port', '0', '--persist-to', state, '--host', host,
    '--show-interactive-dev-session=false'];
  // With --host the program sees the same URL in both places.
  // What lies in a file .env is for development alone and never deployed.
  const env = environment(path.join(work, 'home'), { CLOUDFLARE_LOAD_DEV_VARS_FROM_DOT_ENV: 'false', WRANGLER_REGISTRY_PATH: path.join(state, 'registry') });
  if (postgres) env.CLOUDFLARE_HYPERDRIVE_LOCAL_CONNECTION_STRING_HYPERDRIVE = postgres.url('dev');
  await setUp('dev', program, folder, { env, postgres, more: ['--persist-to', state] });
  const dev = await running(node, args, { cwd: folder, env }, (out) => out.match(/Ready on http:\/\/127\.0\.0\.1:(\d+)/)?.[1]);
  return { host, port: Number(dev.value), output: dev.output, stop: async () => { await dev.stop(); await rm(state, { recursive: true, force: true }); } };
}

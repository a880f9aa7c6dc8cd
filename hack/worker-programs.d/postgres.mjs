// Runs a PostgreSQL of Debian's for programs that want one.
import { execFileSync } from 'node:child_process';
import { chown, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { running } from './child.mjs';

const password = 'of-the-origin';

/** startPostgres starts a server with a database for each place, and returns their URLs and what stops it. */
export async function startPostgres() {
  const versions = '/usr/lib/postgresql';
  const bin = path.join(versions, (await readdir(versions)).at(-1), 'bin');
  const dir = await mkdtemp(path.join(tmpdir(), 'postgres-'));
  const as = { cwd: dir };
  if (process.getuid() === 0) { // PostgreSQL does not run as root
    [as.uid, as.gid] = ['-u', '-g'].map((flag) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' })));
    await chown(dir, as.uid, as.gid);
  }
  await writeFile(path.join(dir, 'password'), password, { mode: 0o644 });
  const options = { ...as, stdio: 'pipe' };
  execFileSync(path.join(bin, 'initdb'), ['-D', 'data', '-U', 'owner', '--pwfile=password', '--auth=scram-sha-256', '-E', 'UTF8', '--locale=C.UTF-8', '-N'], options);
  const port = await freePort();
  const url = (database) => `postgres://owner:${password}@127.0.0.1:${port}/${database}`;
  const args = ['-D', 'data', '-p', String(port), '-h', '127.0.0.1', '-k', dir, '-F', '-c', 'shared_buffers=16MB'];
  const server = await running(path.join(bin, 'postgres'), args, as, (out) => out.includes('ready to accept connections'));
  for (const place of ['node', 'dev']) execFileSync(path.join(bin, 'psql'), [url('postgres'), '-c', `CREATE DATABASE ${place}`], options);
  return { url, stop: async () => { await server.stop(); await rm(dir, { recursive: true, force: true }); } };
}

async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

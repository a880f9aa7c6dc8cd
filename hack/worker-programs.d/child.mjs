// Runs programs of other people.
import { spawn } from 'node:child_process';

/** finished runs a program to its end and returns what it printed; it throws with that if it fails. */
export function finished(command, args, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const timer = setTimeout(() => child.kill('SIGKILL'), 300_000);
    let out = '';
    child.stdout.on('data', (data) => { out += data; });
    child.stderr.on('data', (data) => { out += data; });
    child.on('error', reject);
    child.on('close', (code) => {
      clearTimeout(timer);
      code === 0 ? resolve(out) : reject(new Error(`${command} ${args.slice(-3).join(' ')} ended with ${code}: ${out.slice(-1500).trim()}`));
    });
  });
}

const live = new Set(); // groups of processes that stay until they are stopped

/** endAll ends what is still running, when the driver itself is told to end. */
export function endAll() {
  for (const pid of live) {
    try { process.kill(-pid, 'SIGTERM'); } catch { /* gone meanwhile */ }
  }
}

/** running starts a program that stays; ready(output) says when it can be used. */
export async function running(command, args, options, ready) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], detached: true, ...options });
  live.add(child.pid);
  let out = '';
  let ended = false;
  const end = new Promise((resolve) => child.on('close', () => { ended = true; live.delete(child.pid); resolve(); }));
  child.stdout.on('data', (data) => { out += data; });
  child.stderr.on('data', (data) => { out += data; });
  child.on('error', (err) => { out += err; ended = true; });
  const stop = async () => {
    if (ended) return;
    process.kill(-child.pid, 'SIGTERM');
    const timer = setTimeout(() => { try { process.kill(-child.pid, 'SIGKILL'); } catch { /* gone meanwhile */ } }, 15_000);
    await end;
    clearTimeout(timer);
  };
  for (const deadline = Date.now() + 60_000; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const value = await ready(out);
    if (value) return { value, stop, output: () => out };
    if (ended || Date.now() > deadline) {
      await stop();
      throw new Error(`${command} ${args.slice(0, 3).join(' ')} did not become ready: ${out.slice(-1500).trim()}`);
    }
  }
}

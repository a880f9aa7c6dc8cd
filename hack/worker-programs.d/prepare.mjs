// Copies a program out of its checkout and installs what it depends on; its own files stay as they are.
import { cp, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { environment } from './tools.mjs';
import { finished } from './child.mjs';

/** sourceOf returns the folder of a program in its checkout. */
export function sourceOf(from, program) {
  return path.join(from.folder, from.repository === 'workers-sdk' ? 'fixtures' : '', program.folder ?? program.name);
}

/** prepare returns the folder of a copy of the program that is ready to be deployed. */
export async function prepare(from, program, work) {
  const source = sourceOf(from, program);
  const folder = path.join(work, from.repository, program.folder ?? program.name);
  const marker = path.join(folder, 'node_modules/.prepared');
  if (!await exists(marker)) {
    await copy(source, folder);
    if (from.repository === 'workers-sdk') {
      await copy(path.join(from.folder, 'packages/workers-tsconfig'), path.join(folder, 'node_modules/@cloudflare/workers-tsconfig'));
    }
    if (await exists(path.join(folder, 'package.json'))) await install(from, program, folder, work);
    if (program.build) await finished('bash', ['-c', program.build], { cwd: folder, env: environment(path.join(work, 'home')) });
    await mkdir(path.dirname(marker), { recursive: true });
    await writeFile(marker, '');
  }
  return folder;
}

// install puts a program's npm dependencies beside it. A fixture of workers-sdk belongs to a monorepo: what
// it takes from there for its tests (wrangler, vitest, types) is left out, other fixtures are copied.
async function install(from, program, folder, work) {
  // As the user: registries and their certificates are configured there.
  const npm = (args, cwd) => finished('npm', ['install', '--no-audit', '--no-fund', '--loglevel=error', ...args], { cwd, env: { ...process.env, PATH: environment('').PATH } });
  if (from.repository !== 'workers-sdk') return npm(['--legacy-peer-deps', ...(program.packages ?? [])], folder);
  const meta = JSON.parse(await readFile(path.join(folder, 'package.json'), 'utf8'));
  const wanted = [...(program.packages ?? [])];
  for (const [name, version] of Object.entries({ ...meta.devDependencies, ...meta.dependencies })) {
    const fixture = name.startsWith('@fixture/') && await fixtureNamed(from, name);
    if (fixture) await copy(fixture, path.join(folder, 'node_modules', name));
    if (/^(workspace|catalog):/.test(version) || /^@types\/|playwright|jest|vitest/.test(name)) continue;
    wanted.push(`${name}@${version}`);
  }
  // Installed in a folder of their own, for npm does not understand "workspace:" in the program's file.
  if (!wanted.length) return;
  const aside = path.join(work, 'dependencies', program.name);
  await mkdir(aside, { recursive: true });
  await writeFile(path.join(aside, 'package.json'), '{"private":true}');
  await npm(wanted, aside);
  await cp(path.join(aside, 'node_modules'), path.join(folder, 'node_modules'), { recursive: true, verbatimSymlinks: true });
}

async function fixtureNamed(from, name) {
  for (const folder of [name.slice('@fixture/'.length), `${name.slice('@fixture/'.length)}-example`]) {
    const candidate = path.join(from.folder, 'fixtures', folder);
    if (await exists(path.join(candidate, 'package.json')) &&
      JSON.parse(await readFile(path.join(candidate, 'package.json'), 'utf8')).name === name) return candidate;
  }
}

const copy = (source, target) => cp(source, target, { recursive: true, filter: (name) => !/\/(node_modules|\.git|dist)$/.test(name) || name === source });

async function exists(name) {
  return stat(name).then(() => true, () => false);
}

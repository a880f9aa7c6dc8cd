// Makes what a program's README says to make before it is deployed: namespaces, buckets, databases.
import { copyFile, readFile, readdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { finished } from './child.mjs';
import { node, wrangler } from './tools.mjs';

// made finds the ID of what wrangler made, in the configuration that it proposes.
const made = /"(?:database_)?id":\s*"([0-9a-f-]{32,36})"/;

/**
 * edited brings a program's configuration back to what its author wrote, and makes the changes that its README asks for: program.edits
 * maps files to pairs of texts.
 */
export async function edited(program, source, folder) {
  for (const name of [await configuration(source), ...Object.keys(program.edits ?? {})]) await copyFile(path.join(source, name), path.join(folder, name));
  for (const [name, changes] of Object.entries(program.edits ?? {})) {
    for (const [from, to] of changes) await replaced(path.join(folder, name), from, to);
  }
}

/**
 * setUp runs the commands of wrangler that program.setup lists for a place, "node" or "dev". POSTGRES in one is the URL of a database. With
 * `id` the ID of what was made on the node goes into the configuration in the place of that one, as READMEs say.
 */
export async function setUp(place, program, folder, { env, postgres, more = [] }) {
  for (const step of program.setup ?? []) {
    if (!step[place]) continue;
    const args = [...step[place].map((arg) => arg.replace('POSTGRES', postgres?.url(place))), ...more];
    const out = await finished(node, [wrangler, ...args], { cwd: folder, env });
    if (!step.id || place !== 'node') continue;
    const [, id] = out.match(made) ?? [];
    if (!id) throw new Error(`wrangler ${args.join(' ')} shows no ID: ${out.slice(-600)}`);
    await replaced(path.join(folder, await configuration(folder)), step.id, id);
  }
}

async function configuration(folder) {
  return (await readdir(folder)).find((name) => /^wrangler\.(jsonc?|toml)$/.test(name));
}

async function replaced(file, from, to) {
  const text = await readFile(file, 'utf8');
  if (!text.includes(from)) throw new Error(`${path.basename(file)} has no ${from}`);
  await writeFile(file, text.replace(from, to));
}

// The driver of hack/worker-programs, which says what it is for.
import { mkdtemp, mkdir, readdir, readFile, rm } from 'node:fs/promises';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { parseArgs } from 'node:util';
import path from 'node:path';
import { answer, differences, surprises } from './ask.mjs';
import { ownTests } from './own-tests.mjs';
import { endAll } from './child.mjs';
import { prepare, sourceOf } from './prepare.mjs';
import { deploy, setUpNode, startDev, startNode } from './both.mjs';
import { startPostgres } from './postgres.mjs';
import { report } from './report.mjs';
import { root } from './tools.mjs';

const { values: options, positionals } = parseArgs({
  allowPositionals: true, options: { only: { type: 'string' }, keep: { type: 'string' } },
});
if (!positionals.length) {
  console.error('usage: hack/worker-programs [--only NAME,...] [--keep DIR] PATH..., PATH being a checkout of cloudflare/templates or cloudflare/workers-sdk');
  process.exit(2);
}
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => { endAll(); process.exit(130); });
const say = (text) => process.stderr.write(`${text}\n`);

const checkouts = positionals.map(checkout);
const work = options.keep ? path.resolve(options.keep) : await mkdtemp(path.join(tmpdir(), 'worker-programs-'));
await mkdir(path.join(work, 'home'), { recursive: true });
const results = [];
try {
  for (const program of await programs()) {
    const from = checkouts.find((c) => c.repository === program.repository);
    if (!from) continue;
    say(`== ${program.name}`);
    const result = await judge(from, program);
    for (const line of result.problems) say(`   ${line}`);
    say(`   ${result.equal} of ${result.asked} answers equal`);
    results.push({ program, ...result });
  }
} finally {
  if (!options.keep) await rm(work, { recursive: true, force: true });
}
process.stdout.write(report(checkouts, results, JSON.parse(await readFile(path.join(root, 'hack/worker-programs.d/out-of-scope.json'), 'utf8'))));
process.exitCode = results.every((r) => r.equal === r.asked && !r.failed) ? 0 : 1;

function checkout(folder) {
  const git = (...args) => execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8' }).trim();
  const name = JSON.parse(execFileSync('cat', [path.join(folder, 'package.json')], { encoding: 'utf8' })).name;
  const repository = name === '@cloudflare/workers-sdk' ? 'workers-sdk' : 'templates';
  return { folder: path.resolve(folder), repository, revision: git('rev-parse', 'HEAD'), date: git('log', '-1', '--format=%cs') };
}

async function programs() {
  const folder = path.join(root, 'hack/worker-programs.d/programs');
  const names = (await readdir(folder)).filter((name) => name.endsWith('.json')).map((name) => name.slice(0, -5)).sort();
  const wanted = options.only?.split(',');
  return Promise.all(names.filter((name) => !wanted || wanted.includes(name)).map(async (name) => ({
    name, ...JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8')),
  })));
}

/** judge runs a program in both places and compares the answers. */
async function judge(from, program) {
  const result = { asked: (program.requests ?? program.ownTests.only).length, equal: 0, problems: [], failed: '' };
  const stops = [];
  try {
    const folder = await prepare(from, program, work);
    const postgres = program.postgres && await startPostgres();
    if (postgres) stops.push(postgres.stop);
    const ours = await startNode(work);
    stops.push(ours.stop);
    if (program.ownTests) return Object.assign(result, await ownTests(ours, program, folder, work));
    await setUpNode(ours, program, sourceOf(from, program), folder, { work, postgres });
    const started = Date.now();
    const target = await deploy(ours, program, folder, work);
    result.deploySeconds = (Date.now() - started) / 1000;
    const theirs = program.expects ? null : await startDev(program, folder, { work, host: target.host, postgres });
    if (theirs) stops.push(theirs.stop);
    for (const [i, step] of program.requests.entries()) {
      const here = await answer(target, step);
      const found = theirs ? differences(step, program, here, await answer(theirs, step)) : surprises(step, here);
      if (!found.length) result.equal++;
      for (const line of found) result.problems.push(`${step.name ?? `${step.method ?? (step.body === undefined ? 'GET' : 'POST')} ${step.path}`} (${i + 1}): ${line}`);
    }
  } catch (err) {
    result.failed = err.message;
    result.problems.push(err.message);
  } finally {
    for (const stop of stops.reverse()) await stop();
  }
  return result;
}

// Runs a program's own tests, unmodified, with deploying in the place of `wrangler dev`.
import { readFile, writeFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { finished } from './child.mjs';
import { environment, node } from './tools.mjs';

const shim = fileURLToPath(new URL('./deployed.mjs', import.meta.url));

/** ownTests returns {asked, equal, problems} of the tests of a prepared program that its list selects. */
export async function ownTests(n, program, folder, work) {
  const config = path.join(folder, 'selvage.vitest.mjs');
  const out = path.join(folder, 'selvage.results.json');
  await writeFile(config, `export default {
    test: { testTimeout: 60_000, hookTimeout: 60_000, fileParallelism: false, include: [${JSON.stringify(program.ownTests.file)}], outputFile: ${JSON.stringify(out)}, reporters: ['json'] },
    resolve: { alias: [{ find: /^.*run-wrangler-long-lived$/, replacement: ${JSON.stringify(shim)} }, { find: /^miniflare$/, replacement: ${JSON.stringify(shim)} }] },
  };`);
  const { api, token, account_id, port } = n;
  const env = environment(path.join(work, 'home'), { SELVAGE_NODE: JSON.stringify({ api, token, account_id, port, work }) });
  const pattern = `(${program.ownTests.only.map((name) => `${name}$`).join('|')})`;
  let said = '';
  try {
    said = await finished(node, [path.join(folder, 'node_modules/vitest/vitest.mjs'), 'run', '--config', config, '-t', pattern], { cwd: folder, env });
  } catch (err) {
    said = err.message; // failed tests are an answer, and stand in the file
  }
  const tests = JSON.parse(await readFile(out, 'utf8').catch(() => { throw new Error(said); }))
    .testResults.flatMap((file) => file.assertionResults).filter((test) => !['skipped', 'pending', 'todo'].includes(test.status));
  const failed = tests.filter((test) => test.status !== 'passed');
  return {
    asked: program.ownTests.only.length, equal: tests.length - failed.length,
    problems: failed.map((test) => `its test "${test.title}": ${test.failureMessages.join(' ').slice(0, 300)}`),
  };
}

// Writes what hack/worker-programs found as a page of Markdown.
import { execFileSync } from 'node:child_process';
import { selvage, wranglerVersion } from './tools.mjs';

/** report returns the page; results are those of run.mjs, outside maps programs to why they are not run. */
export function report(checkouts, results, outside) {
  const version = execFileSync(selvage, ['version'], { encoding: 'utf8' }).trim().split(' ').pop();
  const equal = results.filter((r) => !r.failed && r.equal === r.asked).length;
  const lines = [
    '# Public Worker programs', '',
    `${results.length} programs, unmodified, deployed with wrangler ${wranglerVersion} to a fresh node of Selvage ${version} by \`hack/worker-programs\` on ${new Date().toISOString().slice(0, 10)},`,
    'and asked the same requests there and under `wrangler dev` (miniflare) of the same wrangler. Compared are status, all header fields but those of the hop',
    '(date, length, encoding, ray), and body; what may differ (ids, times, error pages) is declared beside each program, in `hack/worker-programs.d/programs`. A few',
    'are judged by their own tests instead, which is said. Deploy is the wall time of wrangler on a machine that other work kept busy: no benchmark.', '',
    ...checkouts.map((c) => `- cloudflare/${c.repository}, commit ${c.revision} of ${c.date}`), '',
    `**${equal} of ${results.length} programs answer everything alike** (${sum(results, 'equal')} of ${sum(results, 'asked')} requests and conversations).`, '',
    '| program | from | what it uses | alike | deploy |', '|---|---|---|---|---|',
    ...results.map((r) => `| ${r.program.name} | ${r.program.repository} | ${r.program.uses}${r.program.note ? `. ${r.program.note}` : ''} | ${r.failed ? 'failed' : `${r.equal} of ${r.asked}`} | ${r.deploySeconds ? `${r.deploySeconds.toFixed(1)} s` : ''} |`), '',
  ];
  const problems = results.filter((r) => r.problems.length);
  if (problems.length) {
    lines.push('## Where they differ', '');
    for (const r of problems) for (const p of r.problems) lines.push(`- ${r.program.name}: ${tidy(p)}`);
    lines.push('');
  }
  lines.push('## Not run', '', '| program | from | why |', '|---|---|---|');
  for (const { program, from, why } of outside) lines.push(`| ${program} | ${from} | ${why} |`);
  return `${lines.join('\n')}\n`;
}

// tidy brings what a program said to one line, without colours, folders of this machine and advice.
function tidy(problem) {
  return problem.replace(/If you think this is a bug[^]*/, '').replace(/\x1b?\[[\d;]*m/g, '').replace(/(\/[\w.@+-]+){3,}/g, (name) => name.split('/').pop())
    .replace(/\s+/g, ' ').replaceAll('|', '\\|').trim().slice(0, 600);
}

const sum = (results, key) => results.reduce((total, r) => total + r[key], 0);

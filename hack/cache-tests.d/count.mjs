// count.mjs SUITE NAME=RESULTS.json...: a table of counts, then what Selvage did not pass.
import { readFileSync } from 'node:fs'
const [suite, ...servers] = process.argv.slice(2)
const { determineTestResult, resultTypes } = await import(`${suite}/test-engine/lib/results.mjs`)
const tests = (await import(`${suite}/tests/index.mjs`)).default.flatMap(s => s.tests).filter(t => !t.browser_only)
const suites = (await import(`${suite}/tests/index.mjs`)).default
const nameOf = new Map(Object.entries(resultTypes).map(([name, type]) => [type, name]))
const kindOf = t => t.kind ?? 'required'
const total = kind => tests.filter(t => kindOf(t) === kind).length

const rows = servers.map(s => {
  const [name, file] = s.split('=')
  const results = JSON.parse(readFileSync(file))
  const outcome = new Map(tests.map(t => [t.id, nameOf.get(determineTestResult(suites, t.id, results))]))
  const count = (kind, ...outcomes) => tests.filter(t => kindOf(t) === kind && outcomes.includes(outcome.get(t.id))).length
  return { name, results, outcome, count }
})
console.log(`| server | required, of ${total('required')} | failed | not tested | optimal, of ${total('optimal')} | check: yes, of ${total('check')} |`)
console.log('|---|---|---|---|---|---|')
for (const r of rows) {
  const passed = r.count('required', 'pass')
  const failed = r.count('required', 'fail')
  console.log(`| ${r.name} | ${passed} | ${failed} | ${total('required') - passed - failed} | ${r.count('optimal', 'pass')} | ${r.count('check', 'yes')} |`)
}
const ours = rows.find(r => r.name.startsWith('Selvage'))
if (ours) {
  console.log('\nNot passed by Selvage:\n')
  for (const t of tests) {
    const outcome = ours.outcome.get(t.id)
    if (kindOf(t) !== 'check' && outcome !== 'pass') console.log(`- \`${t.id}\` (${kindOf(t)}, ${outcome}): ${[ours.results[t.id]].flat().join(': ')}`)
  }
}

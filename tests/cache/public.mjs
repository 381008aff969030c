// Runs the tests of the package http-cache-tests that are named (all, where none is) against a base URL, and prints what
// came of each as JSON, with its kind and the tests that it depends on. The folder of the package is the first argument.

import { pathToFileURL } from 'node:url'

const [folder, base, ...ids] = process.argv.slice(2)
const load = path => import(pathToFileURL(`${folder}/${path}`))
const { runTests, getResults } = await load('client/runner.mjs')
const suites = (await load('tests/index.mjs')).default
const surrogate = (await load('tests/surrogate-control.mjs')).default
const fetch = (await load('../node-fetch/lib/index.mjs')).default

const isWanted = test => !test.browser_only && (ids.length === 0 || ids.includes(test.id))
const chosen = [...suites, surrogate].map(suite => ({ ...suite, tests: suite.tests.filter(isWanted) }))
await runTests(chosen, fetch, false, base)
const results = getResults()
const told = chosen.flatMap(suite => suite.tests).map(test => ({
  id: test.id,
  kind: test.kind ?? 'required',
  needs: test.depends_on ?? [],
  result: results[test.id] === true ? null : (results[test.id] ?? ['', 'no result']).join(': ')
}))
console.log(JSON.stringify(told))
process.exit(0)

/**
 * A reporter of vitest for test/run.mjs: writes what failed to $SLUICE_TEST_FAILURES, a JSON array of [what, line, line...].
 * Vitest's own JSON report has neither the difference between what was expected and what came, nor the errors that no test
 * caught (an unhandled rejection, a lost worker).
 */
import { writeFileSync } from 'node:fs';
import { stripVTControlCharacters } from 'node:util';

const root = new URL('../../', import.meta.url).pathname;
const MESSAGE_LINES = 6;
const DIFF_LINES = 12;

const linesOf = (text) =>
  stripVTControlCharacters(text ?? '')
    .split('\n')
    .filter((line) => line.trim() !== '');

/** The first lines of an error, what changed in its difference, and the first line of its stack that is in the tests. */
function linesOfError({ name = 'Error', message, stack, diff }) {
  const changed = linesOf(diff).filter((line) => /^[-+]/.test(line));
  const place = linesOf(stack).find((line) => /^\s+at /.test(line) && line.includes(`${root}test/`));
  return [
    ...linesOf(`${name}: ${message}`).slice(0, MESSAGE_LINES),
    ...changed.slice(0, DIFF_LINES),
    ...(changed.length > DIFF_LINES ? [`… ${changed.length} lines differ`] : []),
    ...(place === undefined ? [] : [place.trim().replace(root, '')]),
  ];
}

export default class FailuresReporter {
  onTestRunEnd(modules, unhandledErrors) {
    const failures = [];
    for (const each of modules) {
      const file = each.moduleId.replace(root, '');
      for (const error of each.errors()) failures.push([`${file}: outside its tests`, ...linesOfError(error)]);
      for (const suite of each.children.allSuites()) {
        for (const error of suite.errors()) failures.push([`${file} > ${suite.fullName}`, ...linesOfError(error)]);
      }
      for (const test of each.children.allTests('failed')) {
        failures.push([`${file} > ${test.fullName}`, ...(test.result().errors ?? []).flatMap(linesOfError)]);
      }
    }
    for (const error of unhandledErrors) failures.push(['an error that no test caught', ...linesOfError(error)]);
    writeFileSync(process.env.SLUICE_TEST_FAILURES, JSON.stringify(failures));
  }
}

#!/usr/bin/env node
/**
 * Runs the test tiers in order, from the one that needs nothing to the one that needs everything, and sums them up.
 *
 *   unit    no root, no addon      native  the addon      bpf  BPF_PROG_TEST_RUN      netns  veth pairs, end to end
 *
 *   node test/run.mjs [--tier unit]… [arguments for vitest…]
 *
 * The last line, alone, is `N passed, N failed` (with `, N skipped` when there are any). The exit code is not 0 when
 * anything failed. These count as failures too:
 * - a test of a privileged tier that was skipped, when running as root or with CI set, unless ALLOWED_SKIPS has it;
 * - a privileged tier that left something behind: a network namespace, an interface, an XDP program or link, a process;
 * - a tier that ended abnormally, hung, or (with no arguments for vitest) had no tests at all.
 */
import { spawn, spawnSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const TIERS = ['unit', 'native', 'bpf', 'netns'];
/** Projects of vitest that make up a tier, where they are not one of its name. */
const PROJECTS = { netns: ['netns', 'alone'] };
const PRIVILEGED = new Set(['native', 'bpf', 'netns']);

/**
 * A tier that takes longer hangs, and is killed: vitest's own limit cannot end a loop that never yields. Seconds, enough
 * for a tier on two busy cores; .ci/run allows somewhat less than their sum for all tests.
 */
const TIER_LIMIT_S = { unit: 400, native: 110, bpf: 110, netns: 750 };

/** Skips that are right. Matched against "file > full name of the test". */
const ALLOWED_SKIPS = [
  { name: /hugepages/i, reason: 'a machine need not have huge pages reserved' },
  { name: /zero-copy/i, reason: 'veth has no zero-copy; needs a NIC or QEMU' },
];

/** Of what failed, at the end, so that the tail of a log says it. */
const FAILURE_LINES = 60;

/** In the environment of everything that the tests start, so that a process left behind is known as ours. */
const RUN_MARK = `SLUICE_TEST_RUN=${randomUUID()}`;

const isRoot = process.getuid?.() === 0;
const strict = isRoot || Boolean(process.env.CI);
const { tiers, extra } = parseArguments(process.argv.slice(2));

function parseArguments(args) {
  const chosen = [];
  const rest = [];
  for (let i = 0; i < args.length; i++) {
    if (args[i] === '--tier' || args[i] === '--project') chosen.push(args[++i]);
    else if (/^--(tier|project)=/.test(args[i])) chosen.push(args[i].split('=')[1]);
    else rest.push(args[i]);
  }
  const unknown = chosen.find((name) => !TIERS.includes(name));
  if (unknown !== undefined) {
    console.error(`test/run.mjs: no tier "${unknown}"; there are ${TIERS.join(', ')}`);
    process.exit(2);
  }
  return { tiers: chosen.length > 0 ? TIERS.filter((tier) => chosen.includes(tier)) : TIERS, extra: rest };
}

// ---------------------------------------------------------------------------------------------------------------------
// What is left behind

function json(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8' });
  try {
    return JSON.parse(result.stdout || '[]');
  } catch {
    return [];
  }
}

/** Everything that a test could leave behind, each as one line of text. */
function kernelObjects(heldByOthers = new Set()) {
  const found = new Set();
  for (const { name } of json('ip', ['-j', 'netns', 'list'])) found.add(`network namespace ${name}`);
  for (const { ifname } of json('ip', ['-j', 'link', 'show'])) found.add(`interface ${ifname}`);
  for (const { id, type, name } of json('bpftool', ['-j', 'prog', 'show'])) {
    if (type === 'xdp' && !heldByOthers.has(`prog ${id}`)) found.add(`XDP program ${id} (${name ?? 'no name'})`);
  }
  for (const { id, type, ifindex } of json('bpftool', ['-j', 'link', 'show'])) {
    if (type === 'xdp' && !heldByOthers.has(`link ${id}`)) found.add(`XDP link ${id} on ifindex ${ifindex ?? '?'}`);
  }
  return found;
}

/** Ids of processes whose environment has the mark of this run. */
function markedProcesses() {
  return readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(RUN_MARK);
    } catch {
      return false;
    }
  });
}

/**
 * BPF programs and links that a process holds which this run did not start: another test run on this machine, say. What the
 * run's own processes held is gone with them, and what was attached or pinned without a holder is nobody's.
 */
function heldElsewhere() {
  const held = new Set();
  const marked = new Set(markedProcesses());
  for (const pid of readdirSync('/proc')) {
    if (!/^\d+$/.test(pid) || marked.has(pid)) continue;
    try {
      for (const fd of readdirSync(`/proc/${pid}/fd`)) {
        if (!readlinkSync(`/proc/${pid}/fd/${fd}`).startsWith('anon_inode:bpf')) continue;
        const info = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'latin1');
        for (const [, kind, id] of info.matchAll(/^(prog|link)_id:\s*(\d+)$/gm)) held.add(`${kind} ${id}`);
      }
    } catch {
      // The process or the descriptor is gone.
    }
  }
  return held;
}

function commandOf(pid) {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ').trim() || '(no command line)';
  } catch {
    return '(gone)';
  }
}

/**
 * What is there now and was not before; `before` is null for a tier that touches no kernel objects. The kernel frees BPF
 * objects and namespaces a moment after their last user, hence the attempts.
 */
async function leftBehind(before) {
  let left = [];
  for (let attempt = 0; attempt < 75; attempt++) {
    left = markedProcesses().map((pid) => `process ${pid}: ${commandOf(pid)}`);
    if (before) left.push(...[...kernelObjects(heldElsewhere())].filter((object) => !before.has(object)));
    if (left.length === 0) break;
    await new Promise((resolve) => setTimeout(resolve, 200));
  }
  // So that the next tier does not meet them. Only processes that carry this run's mark.
  for (const pid of markedProcesses()) process.kill(Number(pid), 'SIGKILL');
  return left;
}

// ---------------------------------------------------------------------------------------------------------------------
// One tier

/** Runs vitest for one tier; its output goes to the terminal, its results and what failed come back as JSON. */
async function vitest(tier, reportPath, failuresPath) {
  const projects = (PROJECTS[tier] ?? [tier]).flatMap((project) => ['--project', project]);
  const args = [join(root, 'node_modules/vitest/vitest.mjs'), 'run', ...projects, '--passWithNoTests'];
  args.push('--reporter=default', '--reporter=json', `--outputFile.json=${reportPath}`);
  args.push(`--reporter=${join(root, 'test/support/failures_reporter.mjs')}`, ...extra);
  const [name, value] = RUN_MARK.split('=');
  const env = { ...process.env, [name]: value, SLUICE_TEST_FAILURES: failuresPath };
  const child = spawn(process.execPath, args, { cwd: root, stdio: 'inherit', env });
  let hung = false;
  const limit = setTimeout(() => {
    hung = true;
    child.kill('SIGKILL');
  }, TIER_LIMIT_S[tier] * 1000);
  const status = await new Promise((resolve) => {
    child.on('error', () => resolve('spawn'));
    child.on('close', (code, signal) => resolve(signal ?? code));
  });
  clearTimeout(limit);
  return hung ? `a kill after ${TIER_LIMIT_S[tier]} s, a test hangs` : status;
}

function readReport(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined;
  }
}

/** Counts a tier's results; every reason for a failure that is not a failed test goes to `problems`. */
function tally(tier, status, report) {
  const result = { tier, files: 0, passed: 0, failed: 0, skipped: 0, problems: [] };
  for (const file of report?.testResults ?? []) {
    result.files++;
    const name = file.name.replace(`${root}/`, '');
    for (const test of file.assertionResults) {
      if (test.status === 'passed') result.passed++;
      else if (test.status === 'failed') result.failed++;
      else {
        result.skipped++;
        const full = `${name} > ${test.fullName}`;
        const allowed = ALLOWED_SKIPS.some((skip) => skip.name.test(full));
        const filtered = extra.some((arg) => /^(-t|--testNamePattern)/.test(arg));
        if (PRIVILEGED.has(tier) && strict && !allowed && !filtered) result.problems.push(`skipped: ${full}`);
      }
    }
    // A file that does not even load has no tests to fail.
    const failedAlone = file.status === 'failed' && !file.assertionResults.some((test) => test.status === 'failed');
    if (failedAlone) result.problems.push(`${name}: ${file.message.split('\n')[0] || 'failed outside its tests'}`);
  }
  if (report === undefined) result.problems.push(`vitest ended with ${status} and no report`);
  else if (result.files === 0 && extra.length === 0) result.problems.push('no tests at all');
  else if (status !== 0 && result.failed + result.problems.length === 0) {
    result.problems.push(`vitest ended with ${status} although no test failed (an error outside the tests)`);
  }
  return result;
}

async function runTier(tier, directory) {
  const started = performance.now();
  console.log(`\n── ${tier} ${'─'.repeat(60 - tier.length)}`);
  if (PRIVILEGED.has(tier) && !isRoot) {
    const problems = strict ? ['not run: needs root'] : [];
    console.log(`not run: needs root (sudo npm test)`);
    const none = { files: 0, passed: 0, failed: 0, skipped: 0, failures: [], seconds: 0 };
    return { tier, ...none, problems, note: 'not run: needs root' };
  }
  const before = PRIVILEGED.has(tier) ? kernelObjects() : null;
  const [reportPath, failuresPath] = [join(directory, `${tier}.json`), join(directory, `${tier}.failures.json`)];
  const status = await vitest(tier, reportPath, failuresPath);
  const result = tally(tier, status, readReport(reportPath));
  result.failures = readReport(failuresPath) ?? [];
  for (const object of await leftBehind(before)) result.problems.push(`left behind: ${object}`);
  result.seconds = (performance.now() - started) / 1000;
  return result;
}

// ---------------------------------------------------------------------------------------------------------------------

/** What failed and why, under a heading that .ci/run looks for. */
function showFailures(results) {
  const lines = results.flatMap(({ tier, problems, failures }) => [
    ...problems.map((problem) => `${tier}: ${problem}`),
    ...failures.flatMap(([what, ...why]) => [`${tier}: ${what}`, ...why.map((line) => `    ${line}`)]),
  ]);
  if (lines.length === 0) return;
  console.log(`\n── failed ${'─'.repeat(54)}`);
  for (const line of lines.slice(0, FAILURE_LINES)) console.log(line.slice(0, 240));
  if (lines.length > FAILURE_LINES) console.log(`… and ${lines.length - FAILURE_LINES} lines more`);
}

function summarise(results) {
  console.log(`\n── summary ${'─'.repeat(53)}`);
  console.log('tier      files  passed  failed  skipped  seconds');
  const total = { passed: 0, failed: 0, skipped: 0 };
  for (const result of results) {
    const failed = result.failed + result.problems.length;
    const cells = [String(result.files).padStart(5), String(result.passed).padStart(7), String(failed).padStart(7)];
    cells.push(
      String(result.skipped).padStart(8),
      result.seconds.toFixed(1).padStart(8),
      result.note ? ` ${result.note}` : '',
    );
    console.log(`${result.tier.padEnd(8)} ${cells.join(' ')}`.trimEnd());
    total.passed += result.passed;
    total.failed += failed;
    total.skipped += result.skipped;
  }
  showFailures(results);
  const skipped = total.skipped > 0 ? `, ${total.skipped} skipped` : '';
  console.log(`\n${total.passed} passed, ${total.failed} failed${skipped}`);
  return total.failed === 0 ? 0 : 1;
}

const directory = mkdtempSync(join(tmpdir(), 'sluice-test-'));
try {
  const results = [];
  for (const tier of tiers) results.push(await runTier(tier, directory));
  process.exitCode = summarise(results);
} finally {
  rmSync(directory, { recursive: true, force: true });
}

#!/usr/bin/env node
/**
 * Tests of zero-copy AF_XDP, on a kernel and NICs that have it: a Debian kernel in QEMU, with virtio-net and igb.
 *
 *   npm run test:zerocopy [-- TEXT]       only tests whose name contains TEXT
 *
 * Kernel and QEMU are fetched once (packages.mjs) and kept in $SLUICE_ZEROCOPY_CACHE, by default ~/.cache/sluice/zerocopy; remove
 * that folder to have newer ones. The guest sees this machine's files read-only and runs this checkout's addon and dist/ with this
 * machine's Node. Needs neither root nor KVM. It shows that zero-copy works, not how fast: see docs/nic.md.
 *
 * When kernel or QEMU cannot be had, it says why and exits 0 with `0 passed, 0 failed, 1 skipped`. Once it could start the machine,
 * everything that goes wrong is a failure. The last line is always of that form.
 */
import { homedir } from 'node:os';
import { mkdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { compileGuestCode } from './guest_code.mjs';
import { writeInitramfs } from './image.mjs';
import { consoleLines, runMachine } from './machine.mjs';
import { obtain, Unavailable } from './packages.mjs';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const build = join(root, 'build/zerocopy');
/** From the start of QEMU to its end; a tenth of it on two idle cores. */
const MACHINE_LIMIT_MS = 900_000;

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;

/** What the guest's program says, line by line. */
class Results {
  passed = 0;
  failures = [];
  /** The test that has begun and not ended. */
  running = '';
  done = false;
  started = performance.now();

  take(line) {
    let message;
    try {
      message = JSON.parse(line);
    } catch {
      if (line.trim() !== '') console.log(`  | ${line}`);
      return;
    }
    if (message.begin !== undefined) this.running = message.begin;
    if (message.note !== undefined) console.log(`    ${message.note}`);
    if (message.test !== undefined) this.result(message);
    if (message.done) this.done = true;
    if (message.booted !== undefined) console.log(`up after ${seconds(performance.now() - this.started)}`);
  }

  result({ test, ok, ms, error }) {
    this.running = '';
    console.log(`${ok ? '  ✓' : '  ✗'} ${test} (${seconds(ms)})`);
    if (ok) this.passed += 1;
    else this.fail(test, error);
  }

  fail(what, why) {
    this.failures.push(what);
    console.log(`    ${what}: ${String(why).split('\n').join('\n    ')}`);
  }
}

async function main() {
  const cache = process.env.SLUICE_ZEROCOPY_CACHE ?? join(homedir(), '.cache/sluice/zerocopy');
  mkdirSync(build, { recursive: true });
  const parts = obtain(cache, (line) => console.log(line));
  const code = compileGuestCode(root, 'test/zerocopy/guest/main.ts');
  const initramfs = join(build, 'initramfs.cpio');
  writeInitramfs(initramfs, parts.modules, [root, process.execPath, code, ...process.argv.slice(2)]);

  console.log(`Linux ${parts.release} on QEMU ${parts.qemu}, Node ${process.version}`);
  const results = new Results();
  const consoleFile = join(build, 'console.log');
  const { timedOut, problem } = await runMachine({
    parts,
    initramfs,
    console: consoleFile,
    onLine: (line) => results.take(line),
    limitMs: MACHINE_LIMIT_MS,
  });
  const said = consoleLines(consoleFile);
  const crashed = said.some((line) => /Kernel panic|\bOops\b|general protection|\bBUG:/.test(line));
  if (!results.done || problem !== '' || crashed) {
    const when = results.running === '' ? '' : ` in "${results.running}"`;
    const why = timedOut ? `no end within ${seconds(MACHINE_LIMIT_MS)}` : crashed ? 'the kernel crashed' : problem;
    results.fail(`the machine${when}`, [why || 'it ended early', ...said.slice(-40)].join('\n'));
  }
  console.log(`${seconds(performance.now() - results.started)} in all; the kernel's messages are in ${consoleFile}`);
  console.log(`\n${results.passed} passed, ${results.failures.length} failed`);
  return results.failures.length === 0 && results.passed > 0 ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (!(error instanceof Unavailable)) throw error;
  console.log(`skipped: ${error.message}`);
  console.log('\n0 passed, 0 failed, 1 skipped');
}

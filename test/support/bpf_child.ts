/** BPF objects compiled for one test, and child processes that use the addon: some tests need a process to kill. */
import { execFileSync, spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const ADDON = join(ROOT, 'build', 'Release', 'sluice.node');

/** Compiles BPF C in a directory of its own, which goes when the test ends, and returns the object's path. */
export function compileBpf(name: string, source: string): string {
  const directory = mkdtempSync(join(tmpdir(), 'sluice-bpf-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  const object = join(directory, `${name}.bpf.o`);
  const text = `#include <linux/bpf.h>\n#include <bpf/bpf_helpers.h>\n${source}\nchar LICENSE[] SEC("license") = "GPL";\n`;
  writeFileSync(join(directory, `${name}.bpf.c`), text);
  const machine = process.arch === 'arm64' ? 'aarch64' : 'x86_64';
  const flags = ['-O2', '-g', '-target', 'bpf', '-mcpu=v3', `-I/usr/include/${machine}-linux-gnu`];
  execFileSync('clang', [...flags, '-c', join(directory, `${name}.bpf.c`), '-o', object]);
  return object;
}

/** A program that sends every frame back out. */
export const XDP_TX_SOURCE = 'SEC("xdp") int send_back(struct xdp_md *ctx) { return XDP_TX; }';

/** CommonJS that a child runs: `addon` is there, `args` are strings, say(text) prints a line. */
function script(body: string): string {
  return `const addon = require(${JSON.stringify(ADDON)}); const args = process.argv.slice(1);
const say = (text) => require('node:fs').writeSync(1, text + '\\n');\n${body}`;
}

export interface ChildResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

/**
 * A child with the addon, in `namespace` (a name for `ip netns`) or where this thread is, started by way of the command `prefix`. It is
 * killed when the test ends.
 */
export class AddonChild {
  readonly process: ChildProcess;
  readonly ended: Promise<ChildResult>;
  private stdout = '';
  private stderr = '';

  constructor(body: string, args: readonly string[] = [], namespace?: string, prefix: readonly string[] = []) {
    const command = [...prefix, process.execPath, '-e', script(body), '--', ...args];
    // "ip netns exec" becomes the program, so that a signal reaches it.
    const whole = namespace === undefined ? command : ['ip', 'netns', 'exec', namespace, ...command];
    this.process = spawn(whole[0], whole.slice(1), { stdio: ['pipe', 'pipe', 'pipe'] });
    this.process.stdout?.on('data', (chunk: Buffer) => (this.stdout += chunk.toString()));
    this.process.stderr?.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.ended = new Promise((resolve) =>
      this.process.on('close', (code) => resolve({ code, stdout: this.stdout, stderr: this.stderr })),
    );
    onTestFinished(() => void this.process.kill('SIGKILL'));
  }

  /** Waits until the child has printed `text`; throws with what it said when it ends without. */
  async said(text: string): Promise<void> {
    const deadline = Date.now() + 15_000;
    while (!this.stdout.includes(text)) {
      if (this.process.exitCode !== null || Date.now() > deadline) {
        throw new Error(`the child did not say "${text}": ${this.stdout} ${this.stderr}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }
}

/** Polls `condition` every 5 ms until it holds; throws after `timeoutMs`. */
export async function until(condition: () => boolean, timeoutMs = 15_000): Promise<void> {
  const deadline = Date.now() + timeoutMs;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`nothing happened within ${timeoutMs} ms`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

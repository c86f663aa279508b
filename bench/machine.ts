import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { arch, availableParallelism, cpus, loadavg, release, totalmem } from 'node:os';
import { packageRoot } from '../src/native.js';
import { PIN } from './process.js';

/** Where and with what the numbers were made. */
export interface Machine {
  cpu: string;
  cpus: number;
  memoryBytes: number;
  /** "KVM" and the like; "none" on bare metal, "" when the machine does not say. */
  hypervisor: string;
  arch: string;
  kernel: string;
  /** /sys/kernel/mm/transparent_hugepage/enabled: what a table of 128 MiB costs in TLB misses depends on it. */
  hugepages: string;
  node: string;
  v8: string;
  compiler: string;
  /** Pinned to one CPU. */
  pinned: boolean;
  commit: string;
  /** Files that git knows and that differ from the commit, other than results. */
  modified: boolean;
  date: string;
}

export function describeMachine(): Machine {
  const tracked = ['status', '--porcelain', '--untracked-files=no', '--', '.', ':(exclude)bench/results'];
  const status = ask('git', '-C', packageRoot, ...tracked);
  return {
    cpu: cpus()[0]?.model.trim() ?? 'unknown',
    cpus: availableParallelism(),
    memoryBytes: totalmem(),
    hypervisor: /^hypervisor vendor:\s*(.+)$/im.exec(ask('lscpu'))?.[1] ?? 'none',
    arch: arch(),
    kernel: release(),
    hugepages: /\[(\w+)\]/.exec(readOr('/sys/kernel/mm/transparent_hugepage/enabled'))?.[1] ?? '',
    node: process.versions.node,
    v8: process.versions.v8,
    compiler: ask('g++', '--version').split('\n')[0],
    pinned: PIN.length > 0,
    commit: ask('git', '-C', packageRoot, 'rev-parse', '--short=12', 'HEAD').trim(),
    modified: status.trim() !== '',
    date: new Date().toISOString(),
  };
}

/** What a program prints, "" when it is not there or fails. */
function ask(file: string, ...args: string[]): string {
  const { status, stdout } = spawnSync(file, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  return status === 0 ? stdout : '';
}

function readOr(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

/** What the machine did between two moments, beside the bench. */
export interface Noise {
  /** One-minute load average before and after. The bench itself is 1 of the second. */
  loadBefore: number;
  loadAfter: number;
  /** CPUs' worth of other work meanwhile: 0.5 is half a CPU. The kernel's own is in it. */
  others: number;
  /** CPUs' worth that the hypervisor gave to other guests. */
  stolen: number;
}

/** Clock ticks since boot, of all CPUs, and those of this process and its finished children. Linux has 100 a second in both files. */
interface Ticks {
  busy: number;
  stolen: number;
  own: number;
  atMs: number;
}

function ticks(): Ticks {
  // proc(5): user nice system idle iowait irq softirq steal guest guest_nice; guests are in user already.
  const [user, nice, system, , , irq, softirq, stolen] = readFileSync('/proc/stat', 'utf8')
    .split('\n')[0]
    .split(/\s+/)
    .slice(1)
    .map(Number);
  // Fields 14-17, counted from behind the name, which may have spaces: utime stime cutime cstime.
  const self = readFileSync('/proc/self/stat', 'utf8');
  const fields = self.slice(self.lastIndexOf(')') + 2).split(' ');
  const own = fields.slice(11, 15).reduce((sum, field) => sum + Number(field), 0);
  return { busy: user + nice + system + irq + softirq, stolen, own, atMs: performance.now() };
}

/** Starts watching; the returned function tells what there was. */
export function watchNoise(): () => Noise {
  const loadBefore = loadavg()[0];
  const before = ticks();
  return () => {
    const after = ticks();
    const elapsed = Math.max((after.atMs - before.atMs) / 10, 1);
    const others = after.busy - before.busy - (after.own - before.own);
    return {
      loadBefore,
      loadAfter: loadavg()[0],
      others: Math.max(others, 0) / elapsed,
      stolen: (after.stolen - before.stolen) / elapsed,
    };
  };
}

/** What to think of the numbers, "" when nothing disturbed them. */
export function noiseWarning({ loadBefore, loadAfter, others, stolen }: Noise): string {
  const reasons: string[] = [];
  if (loadBefore > 1) reasons.push(`load was ${loadBefore.toFixed(2)} at the start`);
  // The bench keeps one CPU busy, which is 1 of the load, and start-ups of Node add to it for a moment.
  if (loadAfter > 2) reasons.push(`load was ${loadAfter.toFixed(2)} at the end, of which the bench is 1`);
  if (others > 0.2) reasons.push(`other programs took ${others.toFixed(2)} CPUs meanwhile`);
  if (stolen > 0.05) reasons.push(`the hypervisor took ${stolen.toFixed(2)} CPUs away`);
  return reasons.length === 0 ? '' : `warning: ${reasons.join('; ')}. Absolute numbers are noisy; ratios are less so.`;
}

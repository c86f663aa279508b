/** What the BPF tests have in common: programs loaded with their maps, and a place to run them. */
import { closeSync, openSync } from 'node:fs';
import { onTestFinished } from 'vitest';
import {
  BPF_PROGRAMS,
  DECAP_STATS,
  encodeIpAddr,
  encodeLpmKey,
  encodeU32,
  REDIRECT_STATS,
  sumPerCpu,
  type DecapStat,
  type RedirectStat,
} from '../../src/control/bpf_layout.js';
import { bpfObjectPath, native, type BpfObject, type TestRunResult } from '../../src/native.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import type { Namespace } from '../../src/playground/netns.js';

/** enum xdp_action */
export const XDP = { ABORTED: 0, DROP: 1, PASS: 2, TX: 3, REDIRECT: 4 } as const;

const NO_FLAGS = encodeU32(0);

/** A loaded object whose program counts what it does. */
class CountingProgram<Stat extends string> {
  readonly object: BpfObject;

  constructor(
    object: string,
    readonly program: string,
    private readonly names: readonly Stat[],
    rodata: Record<string, number> = {},
  ) {
    this.object = new (native().BpfObject)(bpfObjectPath(object));
    this.object.setRodata(rodata);
    this.object.load();
  }

  /** `ifindex`: the interface that it came in on; default lo of this thread's namespace. */
  run(frame: Uint8Array, ifindex?: number): TestRunResult {
    return this.object.testRun(this.program, { data: frame, ...(ifindex !== undefined && { ifindex }) });
  }

  /** Counters that are not zero. */
  stats(): Partial<Record<Stat, number>> {
    const sums = sumPerCpu(this.object.map('stats').lookup(encodeU32(0))!, this.names.length);
    const entries = this.names.map((name, i) => [name, sums[i]] as const).filter(([, count]) => count > 0);
    return Object.fromEntries(entries) as Partial<Record<Stat, number>>;
  }

  /** Counters that `action` moved, by how much. */
  counted(action: () => void): Partial<Record<Stat, number>> {
    const before = this.stats();
    action();
    const after = Object.entries(this.stats()) as [Stat, number][];
    const moved = after.map(([name, count]) => [name, count - (before[name] ?? 0)]).filter(([, by]) => by !== 0);
    return Object.fromEntries(moved) as Partial<Record<Stat, number>>;
  }

  [Symbol.dispose](): void {
    this.object.close();
  }
}

/** bpf/redirect.bpf.c */
export class Redirect extends CountingProgram<RedirectStat> {
  constructor(settings: { match_all?: number; fallback_action?: number } = {}, vips: readonly string[] = []) {
    super('redirect', BPF_PROGRAMS.redirect, REDIRECT_STATS, settings);
    for (const vip of vips) this.addVip(vip);
  }

  addVip(prefix: string): void {
    this.object.map('vip_map').update(encodeLpmKey(parsePrefix(prefix)), NO_FLAGS);
  }

  removeVip(prefix: string): boolean {
    return this.object.map('vip_map').delete(encodeLpmKey(parsePrefix(prefix)));
  }

  setSocket(queue: number, fd: number): void {
    this.object.map('xsks_map').update(encodeU32(queue), encodeU32(fd));
  }
}

/** bpf/decap.bpf.c */
export class Decap extends CountingProgram<DecapStat> {
  constructor(destinations: readonly string[], sources: readonly string[], settings: Record<string, number> = {}) {
    super('decap', BPF_PROGRAMS.decap, DECAP_STATS, settings);
    for (const address of destinations) {
      this.object.map('decap_dst').update(encodeIpAddr(parseAddress(address)), NO_FLAGS);
    }
    for (const prefix of sources) {
      this.object.map('decap_src').update(encodeLpmKey(parsePrefix(prefix)), NO_FLAGS);
    }
  }
}

/** Moves this thread into a namespace until the test that calls this is over. Only for files in the `forks` pool. */
export function enterForTest(namespace: Namespace): void {
  const home = openSync('/proc/thread-self/ns/net', 'r');
  onTestFinished(() => {
    native().enterNetns(`/proc/self/fd/${home}`);
    closeSync(home);
  });
  native().enterNetns(`/run/netns/${namespace.name}`);
}

/** Every prefix of a frame that the kernel takes for a test run (14 bytes and more), shortest first. */
export function* truncations(frame: Uint8Array): Generator<Uint8Array> {
  for (let length = 14; length < frame.length; length++) yield frame.slice(0, length);
}

/** Deterministic 32-bit generator (mulberry32), so that a failing random case can be repeated from its seed. */
export function randomSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

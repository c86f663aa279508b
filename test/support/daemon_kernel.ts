/** What the kernel says of a daemon under test: its descriptors, memory, CPU time, BPF objects. */
import { spawnSync } from 'node:child_process';
import { readFileSync, readdirSync } from 'node:fs';
import { TICK_NS, ticks } from '../../src/playground/cpu_time.js';
import type { Namespace } from '../../src/playground/netns.js';

/** What a process holds, from /proc. */
export function footprint(pid: number): { fds: number; threads: number; rssKb: number; bpf: number } {
  const status = readFileSync(`/proc/${pid}/status`, 'utf8');
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)![1]);
  const fds = readdirSync(`/proc/${pid}/fd`);
  return { fds: fds.length, threads: field('Threads'), rssKb: field('VmRSS'), bpf: bpfIdsOf(pid).length };
}

/** Ids of the BPF objects that a process holds, as "prog 12", "map 7", "link 3". */
export function bpfIdsOf(pid: number): string[] {
  const ids = new Set<string>();
  for (const fd of readdirSync(`/proc/${pid}/fdinfo`)) {
    try {
      const text = readFileSync(`/proc/${pid}/fdinfo/${fd}`, 'utf8');
      // A link's entry names its program too.
      for (const [, kind, id] of text.matchAll(/^(prog|map|link)_id:\s+(\d+)/gm)) ids.add(`${kind} ${id}`);
    } catch {
      // Closed since the directory was read.
    }
  }
  return [...ids].sort();
}

/** CPU time that a process has used, all threads, ms. */
export function cpuMs(pid: number): number {
  return (ticks(pid) * TICK_NS) / 1e6;
}

interface XdpOnLink {
  xdp?: { prog?: { id: number; name?: string } };
}

/** Id of the XDP program on an interface, from the kernel; null when there is none. */
export function xdpProgram(namespace: Namespace, name = 'in0'): number | null {
  const [link] = namespace.query<XdpOnLink[]>('link', 'show', name);
  return link?.xdp?.prog?.id ?? null;
}

/** Ids of all BPF objects on the machine, as `bpfIdsOf` writes them. */
export function bpfObjects(): string[] {
  return ['prog', 'map', 'link'].flatMap((kind) => {
    const { stdout } = spawnSync('bpftool', ['-j', kind, 'show'], { encoding: 'utf8' });
    return (JSON.parse(stdout || '[]') as { id: number }[]).map(({ id }) => `${kind} ${id}`);
  });
}

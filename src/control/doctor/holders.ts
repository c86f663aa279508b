/**
 * Which processes hold a BPF program by a bpf_link: what keeps it attached. Read from /proc/PID/fdinfo, because bpftool tells
 * it only where its own iterator program may be loaded. Sees other users' processes as root only.
 */
import type { DoctorSystem } from './system.js';

export interface LinkHolders {
  /** null when no process that we can see holds a link to the program (attached by netlink, or a pinned link). */
  linkId: number | null;
  /** "name (pid)". */
  holders: string[];
}

export function findHolders(system: DoctorSystem, programId: number): LinkHolders {
  const found: LinkHolders = { linkId: null, holders: [] };
  for (const pid of system.list('/proc')) {
    if (!/^\d+$/.test(pid)) continue;
    const linkId = linkHeldBy(system, pid, programId);
    if (linkId === null) continue;
    found.linkId = linkId;
    found.holders.push(`${system.readFile(`/proc/${pid}/comm`)?.trim() ?? 'process'} (${pid})`);
  }
  return found;
}

/** Id of the link to the program that a process has open; null when it has none. */
function linkHeldBy(system: DoctorSystem, pid: string, programId: number): number | null {
  for (const fd of system.list(`/proc/${pid}/fd`)) {
    // "anon_inode:bpf_link", spelled with "-" in older kernels.
    if (!/^anon_inode:\[?bpf[-_]link/.test(system.readLink(`/proc/${pid}/fd/${fd}`) ?? '')) continue;
    const info = system.readFile(`/proc/${pid}/fdinfo/${fd}`) ?? '';
    if (Number(/^prog_id:\s*(\d+)/m.exec(info)?.[1]) !== programId) continue;
    return Number(/^link_id:\s*(\d+)/m.exec(info)?.[1] ?? 0);
  }
  return null;
}

/** What this process may do: capabilities and locked memory. */
import type { Findings } from './finding.js';
import type { DoctorSystem } from './system.js';
import { atLeast, parseVersion } from './version.js';

/** Bit numbers of include/uapi/linux/capability.h, for the capabilities that sluice needs or that stand in for them. */
export const CAPABILITY = { NET_ADMIN: 12, NET_RAW: 13, IPC_LOCK: 14, SYS_ADMIN: 21, BPF: 39 } as const;
export type CapabilityName = keyof typeof CAPABILITY;

/** What each is for, as measured on 6.18 (AF_XDP socket: NET_RAW; load and attach: NET_ADMIN and BPF). */
const NEEDED: { name: CapabilityName; why: string }[] = [
  { name: 'NET_RAW', why: 'to open AF_XDP sockets' },
  { name: 'NET_ADMIN', why: 'to attach XDP programs and make the TAP device' },
  { name: 'BPF', why: 'to load BPF programs' },
];

/** Effective capabilities from the text of /proc/self/status; null when it has no CapEff line. */
export function effectiveCapabilities(status: string): Set<CapabilityName> | null {
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(status)?.[1];
  if (hex === undefined) return null;
  const bits = BigInt(`0x${hex}`);
  const names = Object.keys(CAPABILITY) as CapabilityName[];
  return new Set(names.filter((name) => (bits >> BigInt(CAPABILITY[name])) & 1n));
}

/** "unlimited" or bytes, soft limit of "Max locked memory" in the text of /proc/self/limits; null when it is not there. */
export function lockedMemoryLimit(limits: string): number | null {
  const soft = /^Max locked memory\s+(\S+)/m.exec(limits)?.[1];
  if (soft === undefined) return null;
  return soft === 'unlimited' ? Infinity : Number(soft);
}

const mib = (bytes: number) => `${(bytes / 2 ** 20).toFixed(bytes < 2 ** 20 ? 2 : 0)} MiB`;

export function checkProcess(system: DoctorSystem, findings: Findings, umemBytes: number): void {
  const held = effectiveCapabilities(system.readFile('/proc/self/status') ?? '');
  if (held) checkCapabilities(system, findings, held);
  else findings.add('info', 'capabilities', "cannot read this process's capabilities (/proc/self/status)");
  checkLockedMemory(system, findings, held, umemBytes);
}

function checkCapabilities(system: DoctorSystem, findings: Findings, held: Set<CapabilityName>): void {
  // Before 5.8 there was no CAP_BPF, and SYS_ADMIN still implies it.
  const version = parseVersion(system.kernel);
  const has = (name: CapabilityName) => held.has(name) || (name === 'BPF' && held.has('SYS_ADMIN'));
  const lacking = NEEDED.filter(({ name }) => !has(name));
  if (lacking.length === 0) {
    const names = [...held].map((name) => `CAP_${name}`).join(', ');
    findings.add('ok', 'capabilities', `this process has what it needs: ${names}`);
    return;
  }
  const text = lacking.map(({ name, why }) => `CAP_${name} (${why})`).join(', ');
  if (system.uid === 0) {
    const fix = 'docker run --cap-add NET_ADMIN --cap-add NET_RAW --cap-add BPF --cap-add IPC_LOCK …';
    findings.add('bad', 'capabilities', `root, but confined: this process lacks ${text}`, fix);
    return;
  }
  const old = version && !atLeast(version, '5.8') ? 'CAP_SYS_ADMIN' : 'CAP_BPF';
  const fix = `systemd-run --pty -p User=${system.uid} -p "AmbientCapabilities=CAP_NET_RAW CAP_NET_ADMIN ${old} CAP_IPC_LOCK" sluice run`;
  findings.add('warn', 'capabilities', `this process lacks ${text}; run it as root, or grant them`, fix);
}

function checkLockedMemory(
  system: DoctorSystem,
  findings: Findings,
  held: Set<CapabilityName> | null,
  umemBytes: number,
): void {
  const limit = lockedMemoryLimit(system.readFile('/proc/self/limits') ?? '');
  const need = `${mib(umemBytes)} of packet memory`;
  if (held?.has('IPC_LOCK')) findings.add('ok', 'memlock', `no limit on locked memory (CAP_IPC_LOCK); ${need} wanted`);
  else if (limit === null)
    findings.add('info', 'memlock', 'cannot read the limit on locked memory (/proc/self/limits)');
  else if (limit >= umemBytes) {
    const have = limit === Infinity ? 'no limit on locked memory' : `${mib(limit)} may be locked`;
    findings.add('ok', 'memlock', `${have}; ${need} wanted`);
  } else {
    const text = `only ${mib(limit)} may be locked, ${need} are wanted: registering it would fail with ENOBUFS`;
    const kib = Math.ceil(umemBytes / 1024);
    findings.add(
      'bad',
      'memlock',
      text,
      `ulimit -l ${kib}    # systemd: LimitMEMLOCK=${kib}K; as root: CAP_IPC_LOCK lifts the limit`,
    );
  }
}

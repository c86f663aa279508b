/** A machine made of canned data for the doctor: files, directories, links and answers of programs. */
import type { CommandResult, DoctorSystem } from '../../src/control/doctor/system.js';

export interface FakeMachine {
  kernel?: string;
  cpus?: number;
  uid?: number;
  /** Path to content; directories are made of the paths. */
  files?: Record<string, string>;
  /** Path to target of symbolic links. */
  links?: Record<string, string>;
  /** Command line ("ethtool -i eth0") to what it prints; a missing one fails with status 1. */
  commands?: Record<string, string>;
  /** Programs that are not installed. */
  absent?: string[];
  system?: Partial<DoctorSystem>;
}

/** Everything in order for sluice, so that a test states only what is wrong with its machine. */
const GOOD_FILES: Record<string, string> = {
  '/proc/net/protocols': 'protocol  size sockets\nXDP       1088      0      -1   NI\nTCP       2400      4\n',
  '/sys/kernel/btf/vmlinux': '',
  '/proc/sys/net/core/bpf_jit_enable': '1\n',
  '/proc/sys/kernel/unprivileged_bpf_disabled': '2\n',
  '/proc/self/status': 'Name:\tnode\nCapEff:\t000001ffffffffff\n',
  '/proc/self/limits':
    'Limit                     Soft Limit           Hard Limit           Units\nMax locked memory         8388608              8388608              bytes\n',
  '/proc/meminfo': 'HugePages_Total:      64\nHugePages_Free:       64\nHugepagesize:       2048 kB\n',
  '/proc/sys/net/ipv4/conf/all/rp_filter': '0\n',
  '/proc/sys/net/ipv4/conf/default/rp_filter': '0\n',
};

export function fakeMachine(machine: FakeMachine = {}): DoctorSystem {
  const files = { ...GOOD_FILES, ...machine.files };
  const links = machine.links ?? {};
  const run = (file: string, args: readonly string[]): CommandResult | null => {
    if (machine.absent?.includes(file)) return null;
    const stdout = machine.commands?.[[file, ...args].join(' ')];
    return stdout === undefined
      ? { status: 1, stdout: '', stderr: 'no such thing' }
      : { status: 0, stdout, stderr: '' };
  };
  const list = (path: string) => {
    const below = [...Object.keys(files), ...Object.keys(links)].filter((name) => name.startsWith(`${path}/`));
    return [...new Set(below.map((name) => name.slice(path.length + 1).split('/')[0]))];
  };
  return {
    kernel: machine.kernel ?? '6.18.1',
    machine: 'x86_64',
    cpus: machine.cpus ?? 4,
    uid: machine.uid ?? 0,
    nodeVersion: '20.20.2',
    readFile: (path) => files[path] ?? null,
    list,
    readLink: (path) => links[path] ?? null,
    run,
    linkInfo: () => null,
    queryXdp: () => null,
    libbpfVersion: () => '1.1',
    probeXdpSocket: () => ({ result: 'ok' }),
    ...machine.system,
  };
}

/** Files of one interface in /sys, up and with carrier, to merge into a machine's. */
export function nic(
  name: string,
  options: { ifindex?: number; mtu?: number; queues?: number; up?: boolean; carrier?: boolean } = {},
): Record<string, string> {
  const { ifindex = 2, mtu = 1600, queues = 2, up = true, carrier = true } = options;
  const base = `/sys/class/net/${name}`;
  const files: Record<string, string> = {
    [`${base}/ifindex`]: `${ifindex}\n`,
    [`${base}/mtu`]: `${mtu}\n`,
    [`${base}/flags`]: up ? '0x1003\n' : '0x1002\n',
  };
  if (up) files[`${base}/carrier`] = carrier ? '1\n' : '0\n';
  for (let queue = 0; queue < queues; queue++) {
    files[`${base}/queues/rx-${queue}/rps_cpus`] = '';
    files[`${base}/queues/tx-${queue}/xps_cpus`] = '';
  }
  return files;
}

/** Output of `ethtool -k`: features by name, "off" unless listed. */
export function ethtoolFeatures(name: string, on: string[] = [], fixed: string[] = []): string {
  const all = ['rx-checksumming', 'tx-checksumming', 'tcp-segmentation-offload', 'generic-segmentation-offload'];
  all.push('generic-receive-offload', 'large-receive-offload', 'rx-vlan-offload', 'tx-vlan-offload', 'rx-gro-hw');
  const lines = all.map(
    (feature) => `${feature}: ${on.includes(feature) ? 'on' : 'off'}${fixed.includes(feature) ? ' [fixed]' : ''}`,
  );
  return `Features for ${name}:\n${lines.join('\n')}\n\ttx-checksum-ip-generic: on\n`;
}

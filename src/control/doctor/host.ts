/** The machine as a whole: kernel, BPF settings, and what this process may do. */
import { Findings, type Finding } from './finding.js';
import { checkProcess } from './process.js';
import type { DoctorSystem } from './system.js';
import { atLeast, parseVersion } from './version.js';

/** Kernel features that sluice uses, by the first version that has them. */
const FEATURES = [
  { since: '5.4', name: 'need-wakeup' },
  { since: '5.11', name: 'preferred busy polling' },
  { since: '5.18', name: 'XDP fragments' },
  { since: '6.6', name: 'multi-buffer AF_XDP' },
] as const;

/** bpf_link for XDP (commit aa8d3a716b59): without it a killed process would leave its program behind. */
const MINIMUM = '5.9';

export interface HostOptions {
  /** Bytes of packet memory that all workers together lock. */
  umemBytes: number;
}

export function checkHost(system: DoctorSystem, options: HostOptions): Finding[] {
  const findings = new Findings('host');
  checkKernel(system, findings);
  checkXdpSockets(system, findings);
  checkBpf(system, findings);
  checkProcess(system, findings, options.umemBytes);
  checkHugepages(system, findings, options.umemBytes);
  checkHostPath(system, findings);
  return findings.list;
}

function checkKernel(system: DoctorSystem, findings: Findings): void {
  const version = parseVersion(system.kernel);
  const about = `Linux ${system.kernel} on ${system.machine}, Node ${system.nodeVersion}`;
  if (!version) {
    findings.add('warn', 'kernel', `${about}: cannot tell the kernel's version from that name`);
  } else if (!atLeast(version, MINIMUM)) {
    findings.add(
      'bad',
      'kernel',
      `${about}: sluice needs ${MINIMUM} (bpf_link for XDP, so that the kernel detaches when the process dies)`,
    );
  } else {
    const has = FEATURES.filter(({ since }) => atLeast(version, since)).map(({ name }) => name);
    const lacks = FEATURES.filter(({ since }) => !atLeast(version, since)).map(
      ({ name, since }) => `${name} (${since})`,
    );
    const rest = lacks.length > 0 ? `; not yet: ${lacks.join(', ')}` : '';
    findings.add('ok', 'kernel', `${about}: bpf_link, ${has.join(', ')}${rest}`);
  }
  const libbpf = system.libbpfVersion();
  if (libbpf === null)
    findings.add(
      'warn',
      'addon',
      'the native addon does not load: only what /sys and ethtool say can be seen',
      'npm run setup',
    );
  else findings.add('ok', 'addon', `the native addon loads, with libbpf ${libbpf}`);
}

function checkXdpSockets(system: DoctorSystem, findings: Findings): void {
  const protocols = system.readFile('/proc/net/protocols');
  if (protocols !== null && !/^XDP\s/m.test(protocols)) {
    const text = 'this kernel has no AF_XDP (CONFIG_XDP_SOCKETS is off, or the process is confined)';
    findings.add('bad', 'af-xdp', text, 'grep CONFIG_XDP_SOCKETS /boot/config-$(uname -r)');
    return;
  }
  const probe = system.probeXdpSocket();
  if (probe.result === 'ok') findings.add('ok', 'af-xdp', 'an AF_XDP socket can be opened');
  else if (probe.result === 'untested') {
    const text = `${protocols ? 'the kernel has AF_XDP' : 'whether the kernel has AF_XDP is not known'}; opening a socket was not tried: ${probe.why}`;
    findings.add('info', 'af-xdp', text);
  } else {
    // Without root this is expected and the capability finding says what to do.
    const permission = probe.code === 'EPERM' && system.uid !== 0;
    findings.add(
      permission ? 'warn' : 'bad',
      'af-xdp',
      `an AF_XDP socket cannot be opened (${probe.code}): ${probe.text}`,
    );
  }
}

function checkBpf(system: DoctorSystem, findings: Findings): void {
  if (system.list('/sys/kernel/btf').includes('vmlinux'))
    findings.add('ok', 'btf', 'the kernel has its BTF type information');
  else
    findings.add('warn', 'btf', 'no /sys/kernel/btf/vmlinux: BPF objects load without CO-RE, and bpftool shows less');

  const jit = system.readFile('/proc/sys/net/core/bpf_jit_enable')?.trim();
  if (jit === undefined)
    findings.add('info', 'jit', 'whether BPF is compiled (net.core.bpf_jit_enable) only root can see');
  else if (jit === '0')
    findings.add('warn', 'jit', 'BPF is interpreted: several times slower', 'sysctl -w net.core.bpf_jit_enable=1');
  else findings.add('ok', 'jit', 'BPF is compiled to machine code');

  const unprivileged = system.readFile('/proc/sys/kernel/unprivileged_bpf_disabled')?.trim();
  if (unprivileged === '0') {
    const text = 'any user of this machine may load BPF programs; sluice does not need that';
    findings.add('warn', 'unprivileged-bpf', text, 'sysctl -w kernel.unprivileged_bpf_disabled=2');
  } else if (unprivileged !== undefined) findings.add('ok', 'unprivileged-bpf', 'BPF is for privileged processes only');
}

function checkHugepages(system: DoctorSystem, findings: Findings, umemBytes: number): void {
  const memory = system.readFile('/proc/meminfo') ?? '';
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(memory)?.[1] ?? 0);
  const sizeKb = field('Hugepagesize');
  if (sizeKb === 0) {
    findings.add('info', 'hugepages', 'no huge pages in this kernel: packet memory uses 4 KiB pages');
    return;
  }
  const wanted = Math.ceil(umemBytes / (sizeKb * 1024));
  const free = field('HugePages_Free');
  if (free >= wanted)
    findings.add(
      'ok',
      'hugepages',
      `${free} huge pages of ${sizeKb / 1024} MiB are free, ${wanted} are wanted for frames.hugepages: true`,
    );
  else {
    const text = `${free} huge pages of ${sizeKb / 1024} MiB are free; frames.hugepages: true would take ${wanted} (without it 4 KiB pages are used)`;
    findings.add('info', 'hugepages', text, `sysctl -w vm.nr_hugepages=${field('HugePages_Total') - free + wanted}`);
  }
}

/** Passed packets come back into the stack by a TAP device, whose addresses they do not belong to. */
function checkHostPath(system: DoctorSystem, findings: Findings): void {
  const value = (name: string) => Number(system.readFile(`/proc/sys/net/ipv4/conf/${name}/rp_filter`) ?? 0);
  const effective = Math.max(value('all'), value('default'));
  if (effective === 1) {
    const text =
      'reverse path filtering is strict: the host would drop packets that sluice passes to it through its TAP device';
    findings.add(
      'warn',
      'rp-filter',
      text,
      'sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.default.rp_filter=2',
    );
  } else findings.add('ok', 'rp-filter', 'reverse path filtering does not stand in the way of passed packets');
}

/** Judges one interface by its facts and the driver table. Pure: no access to the machine. */
import { findDriver, type Driver } from './drivers.js';
import { Findings, type Finding } from './finding.js';
import type { LinkFacts } from './link_facts.js';
import { checkMtu } from './mtu_checks.js';
import { checkOffloads } from './offload_checks.js';
import { atLeast, type KernelVersion } from './version.js';

export interface LinkContext {
  kernel: KernelVersion | null;
  cpus: number;
  /** The user named this interface, so what keeps it from working is bad, not just worth knowing. */
  named: boolean;
}

/** How native XDP and zero-copy stand with a driver on a kernel. */
export interface XdpSupport {
  driver: Driver | undefined;
  native: 'yes' | 'no' | 'unknown';
  zeroCopy: 'yes' | 'no' | 'unknown';
}

export function supportOf(driverName: string, kernel: KernelVersion | null): XdpSupport {
  const driver = findDriver(driverName);
  if (!driver) return { driver, native: 'unknown', zeroCopy: 'unknown' };
  const has = (since: string | null) =>
    since === null ? 'no' : kernel === null ? 'unknown' : atLeast(kernel, since) ? 'yes' : 'no';
  return { driver, native: has(driver.native), zeroCopy: has(driver.zeroCopy) };
}

export function checkLink(facts: LinkFacts, context: LinkContext): Finding[] {
  const findings = new Findings(facts.name);
  const support = supportOf(facts.driver, context.kernel);
  checkState(facts, context, findings);
  checkDriver(facts, support, findings);
  checkQueues(facts, context, findings);
  checkMtu(facts, support, findings);
  checkProgram(facts, findings);
  checkOffloads(facts, support, findings);
  return findings.list;
}

function checkState(facts: LinkFacts, context: LinkContext, findings: Findings): void {
  const serious = context.named ? 'bad' : 'warn';
  if (!facts.up) findings.add(serious, 'link', 'the interface is down', `ip link set dev ${facts.name} up`);
  else if (facts.carrier === false) {
    const peer = facts.peer?.name;
    const why = facts.driver === 'veth' ? 'its other end is down' : 'no cable, or the other side is down';
    const fix = peer ? `${facts.peer?.prefix}ip link set dev ${peer} up` : undefined;
    findings.add(serious, 'link', `the interface is up but has no carrier: ${why}`, fix);
  } else findings.add('ok', 'link', 'the interface is up and has carrier');
  if (facts.master) {
    findings.add(
      'info',
      'master',
      `the interface belongs to ${facts.master}: XDP sees packets before it, and takes them away from it`,
    );
  }
}

function checkDriver(facts: LinkFacts, support: XdpSupport, findings: Findings): void {
  const { driver } = support;
  if (facts.driver === '') {
    findings.add(
      'info',
      'driver',
      'which driver this is could not be seen (no ethtool?); mode auto finds out by trying',
      'apt-get install ethtool',
    );
    return;
  }
  if (!driver) {
    findings.add(
      'info',
      'driver',
      `driver ${facts.driver} is not in our table; mode auto tries native XDP and zero-copy and says what it got`,
    );
    return;
  }
  const about = `${driver.name} (${driver.device})`;
  const doubt = driver.source === 'memory' ? ' (from memory, not checked)' : '';
  const note = driver.note ? `. Note: ${driver.note}` : '';
  if (driver.native === null) {
    findings.add(
      'warn',
      'driver',
      `${about} has no native XDP: generic mode only, several times slower${doubt}${note}`,
      'interfaces: [{ …, mode: generic }]    # in the configuration',
    );
    return;
  }
  if (support.native === 'no') {
    const text = `${about} has native XDP since Linux ${driver.native}, this kernel is older (unless its maker added it): generic mode${doubt}${note}`;
    findings.add('warn', 'driver', text, 'uname -r; apt-get install -t bookworm-backports linux-image-amd64');
    return;
  }
  const copy =
    driver.zeroCopy === null
      ? 'no zero-copy: each packet is copied once'
      : support.zeroCopy === 'yes'
        ? `zero-copy since ${driver.zeroCopy}`
        : `zero-copy only since ${driver.zeroCopy}: each packet is copied once`;
  findings.add('ok', 'driver', `${about}: native XDP since ${driver.native}, ${copy}${doubt}${note}`);
}

function checkQueues(facts: LinkFacts, context: LinkContext, findings: Findings): void {
  const { rxQueues, name } = facts;
  if (rxQueues === 0) {
    findings.add('info', 'queues', 'how many queues there are could not be seen');
    return;
  }
  const most = facts.maxRxQueues !== null && facts.maxRxQueues > rxQueues ? ` of at most ${facts.maxRxQueues}` : '';
  const about = `${rxQueues} RX${most} and ${facts.txQueues} TX queues: queues: all makes ${rxQueues} worker${rxQueues === 1 ? '' : 's'}`;
  if (rxQueues > context.cpus) {
    const text = `${about}, more than the ${context.cpus} CPUs: workers will wait for each other`;
    findings.add('warn', 'queues', text, `ethtool -L ${name} combined ${context.cpus}`);
  } else findings.add('ok', 'queues', about);
  if (rxQueues > 1 && facts.udpHash === 'sd') {
    const text = 'the device spreads UDP over its queues by addresses only: all of one client goes to one queue';
    findings.add(
      'info',
      'rss',
      text,
      `ethtool -N ${name} rx-flow-hash udp4 sdfn && ethtool -N ${name} rx-flow-hash udp6 sdfn`,
    );
  }
}

/** Programs of bpf/ are all named so; the kernel keeps 15 characters. */
const OUR_PROGRAMS = /^sluice_/;

function checkProgram(facts: LinkFacts, findings: Findings): void {
  const { program, name } = facts;
  if (program === null) {
    findings.add('ok', 'xdp-program', 'no XDP program is attached');
    return;
  }
  if (program === undefined) {
    findings.add('info', 'xdp-program', 'whether an XDP program is attached could not be seen');
    return;
  }
  const held = program.holders.length > 0 ? `, held by ${program.holders.join(', ')}` : '';
  const about = `XDP program ${program.id} (${program.name || 'name not visible without root'}, ${program.mode} mode${held})`;
  if (OUR_PROGRAMS.test(program.name)) {
    findings.add('info', 'xdp-program', `${about} is sluice's own: it runs here already`, 'sluice status');
    return;
  }
  const off = program.mode === 'generic' ? 'xdpgeneric' : 'xdp';
  const byLink = `bpftool link detach id ${program.linkId}`;
  const fix = program.linkId !== null ? byLink : `ip link set dev ${name} ${off} off`;
  const text = `${about} is attached and is not ours; sluice never replaces another's program and would refuse to start`;
  // Without its name we cannot tell; it may well be ours.
  findings.add(program.name === '' ? 'warn' : 'bad', 'xdp-program', text, fix);
}

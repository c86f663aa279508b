/** Arguments of `sluice gen` as a load. */
import { cpus } from 'node:os';
import { TEMPLATES, usage, type Load, type LoadLimits, type Template } from '../../generator/load.js';
import { parseSizes } from '../../generator/sizes.js';
import { parseAddress, parseMac, parsePrefix } from '../../shared/addr.js';

/** As commander gives them: all text, undefined where absent and without a default. */
export interface GenOptions {
  interface?: string;
  dst?: string;
  dport?: string;
  src?: string;
  sport: string;
  template: string;
  flows: string;
  random?: boolean;
  size: string;
  outerSrc?: string;
  outerDst?: string;
  dstMac?: string;
  rate?: string;
  duration?: string;
  count?: string;
  cpu?: string;
  engine?: string;
  queue?: string;
  pcap?: string;
  json?: boolean;
}

/** What is still to be found out on the machine. */
export type LoadPlan = Omit<Load, 'sourceMac' | 'destinationMac'> & { destinationMac: Uint8Array | null };

/** Ranges that are kept for measurements: RFC 2544 (through RFC 6890) and RFC 5180. */
const SOURCES = { 4: '198.18.0.0/15', 6: '2001:2::/48' } as const;
/** discard (RFC 863), and HTTP. */
const PORTS: Record<Template, number> = { udp: 9, 'tcp-syn': 80, 'tcp-ack': 80, icmp: 0 };
const MULTIPLES: Record<string, number> = { '': 1, k: 1e3, M: 1e6, G: 1e9 };
const UNITS_MS: Record<string, number> = { ms: 1, s: 1000, '': 1000, m: 60_000 };
/** A load that is bounded by its count has this much more time than its rate asks for, ms. */
const SPARE_MS = 10_000;
const HOUR_MS = 3_600_000;

/** `live`: from the kernel (LiveEngine); `xsk`: from an AF_XDP socket (XskEngine). */
export const ENGINES = ['live', 'xsk'] as const;

export interface EngineChoice {
  name: (typeof ENGINES)[number];
  /** Of the interface's queues, the one to send from; with `xsk` only. */
  queue: number;
}

/** @throws SluiceError SLUICE_USAGE */
export function readEngine({ engine, queue, pcap }: Pick<GenOptions, 'engine' | 'queue' | 'pcap'>): EngineChoice {
  const name = engine === undefined ? (pcap === undefined ? 'live' : 'xsk') : ENGINES.find((one) => one === engine);
  if (!name) throw usage(`there is no engine "${engine}"`, `There are ${ENGINES.join(' and ')}.`);
  if (pcap !== undefined && name !== 'xsk') {
    throw usage('live frames are made of templates, not of a capture', 'Leave out --engine, or ask for --engine xsk.');
  }
  if (queue !== undefined && name !== 'xsk') {
    throw usage('the kernel chooses the queue of live frames', 'Leave out --queue, or ask for --engine xsk.');
  }
  return { name, queue: queue === undefined ? 0 : amount(queue, '--queue', 0, 1023) };
}

/** What says which packets to make: not for a capture, which has them. */
const OF_TEMPLATES = ['dst', 'dport', 'src', 'outerSrc', 'outerDst', 'random'] as const;

export type ReplayPlan = Omit<LoadLimits, 'sizes'> & { path: string; destinationMac: Uint8Array | null };

/** A replay; without --count and --duration it is once through the file, which is 0 packets here. @throws SluiceError SLUICE_USAGE, AddressError */
export function readReplayPlan(options: GenOptions & { pcap: string }): ReplayPlan {
  if (!options.interface) throw usage('there is no interface to send by', 'Give --interface.');
  const foreign = OF_TEMPLATES.find((name) => options[name] !== undefined);
  if (foreign !== undefined) {
    const option = `--${foreign.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
    throw usage(
      `${option} is not for a capture, whose packets are sent as they are`,
      'Leave it out, or leave out --pcap.',
    );
  }
  const { rate, count, duration, cpu, dstMac } = options;
  return {
    path: options.pcap,
    interface: options.interface,
    destinationMac: dstMac === undefined ? null : parseMac(dstMac),
    packetsPerSecond: rate === undefined ? 0 : amount(rate, '--rate', 1, 1e9),
    packets: count === undefined ? 0 : amount(count, '--count', 1, 2 ** 52),
    durationMs: duration === undefined ? HOUR_MS : time(duration),
    cpu: cpu === undefined ? null : amount(cpu, '--cpu', 0, cpus().length - 1),
  };
}

/** @throws SluiceError SLUICE_USAGE, AddressError: what is wrong, and what to write instead */
export function readLoad(options: GenOptions): LoadPlan {
  if (!options.interface) throw usage('there is no interface to send by', 'Give --interface.');
  if (!options.dst) throw usage('there is no destination', 'Give --dst, an IPv4 or IPv6 address.');
  if (options.duration === undefined && options.count === undefined) {
    throw usage('it is not said when to stop', 'Give --duration (10s), --count (1M), or both: the first ends it.');
  }
  const template = TEMPLATES.find((name) => name === options.template);
  if (!template) throw usage(`there is no template "${options.template}"`, `There are ${TEMPLATES.join(', ')}.`);
  const destination = parseAddress(options.dst);
  const shape = { template, destination, tunnel: tunnelOf(options) };
  const packetsPerSecond = options.rate === undefined ? 0 : amount(options.rate, '--rate', 1, 1e9);
  const packets = options.count === undefined ? 0 : amount(options.count, '--count', 1, 2 ** 52);
  const longest = packetsPerSecond > 0 ? (packets / packetsPerSecond) * 1.2e3 + SPARE_MS : HOUR_MS;
  return {
    ...shape,
    interface: options.interface,
    destinationMac: options.dstMac === undefined ? null : parseMac(options.dstMac),
    source: parsePrefix(options.src ?? SOURCES[destination.family]),
    sourcePort: amount(options.sport, '--sport', 0, 65535),
    destinationPort: options.dport === undefined ? PORTS[template] : amount(options.dport, '--dport', 0, 65535),
    flows: amount(options.flows, '--flows', 1, 2 ** 31 - 1),
    pick: options.random ? 'random' : 'cycle',
    sizes: parseSizes(options.size, shape),
    packetsPerSecond,
    packets,
    durationMs: options.duration === undefined ? Math.min(longest, HOUR_MS) : time(options.duration),
    cpu: options.cpu === undefined ? null : amount(options.cpu, '--cpu', 0, cpus().length - 1),
  };
}

function tunnelOf({ outerSrc, outerDst }: GenOptions): Load['tunnel'] {
  if (outerSrc === undefined && outerDst === undefined) return null;
  if (outerSrc === undefined || outerDst === undefined) {
    throw usage('IP in IP needs both outer addresses', 'Give --outer-src and --outer-dst.');
  }
  return { source: parseAddress(outerSrc), destination: parseAddress(outerDst) };
}

/** A whole number, also as 10k, 1.5M or 2G. */
export function amount(text: string, option: string, least: number, most: number): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)([kMG]?)$/.exec(text) ?? [];
  const value = digits === undefined ? NaN : Math.round(Number(digits) * MULTIPLES[unit] * 1e6) / 1e6;
  if (Number.isInteger(value) && value >= least && value <= most) return value;
  throw usage(
    `${option} "${text}" is not understood`,
    `It takes a whole number from ${least} to ${most}, such as 100, 10k or 1.5M.`,
  );
}

/** Milliseconds of 500ms, 10s, 10 (seconds) or 2m. */
export function time(text: string): number {
  const [, digits, unit] = /^(\d+(?:\.\d+)?)(ms|s|m|)$/.exec(text) ?? [];
  const ms = digits === undefined ? NaN : Number(digits) * UNITS_MS[unit];
  if (ms >= 1 && ms <= HOUR_MS) return ms;
  throw usage(`--duration "${text}" is not understood`, 'It takes up to an hour, such as 500ms, 10s or 5m.');
}

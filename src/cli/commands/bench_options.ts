/** Arguments of `sluice bench`, by xdpsock's letters, as settings of a job. */
import { BATCH, INTERFACES, MODES, type BenchSettings, type Mode } from '../../bench/modes.js';
import { LONGEST_MS, usage, type Load } from '../../generator/load.js';
import { parseAddress, parseMac } from '../../shared/addr.js';
import type { XdpMode } from '../../shared/config.js';
import { amount, readLoad, time } from './gen_options.js';

/** As commander gives them: all text, undefined where absent and without a default. */
export interface BenchOptions {
  interface: string[];
  queue: string;
  poll?: boolean;
  copy?: boolean;
  zeroCopy?: boolean;
  xdpSkb?: boolean;
  batchSize?: string;
  duration?: string;
  interval: string;
  json?: boolean;
  txDmac?: string;
  dst: string;
  dport: string;
  txPktCount?: string;
  txPktSize: string;
  flows: string;
  backends: string;
  rules: string;
}

export interface BenchPlan {
  settings: Omit<BenchSettings, 'load'> & { load: Omit<Load, 'sourceMac'> | null };
  intervalMs: number;
  /** 0: until it is ended. */
  durationMs: number;
}

/** More would not fit 192.0.2.0/24 behind the first ten. */
const BACKENDS_MOST = 200;
/** They are numbered by port from 1000 on, and 4,096 is what a configuration may have. */
const RULES_MOST = 4096;

/** @throws SluiceError SLUICE_USAGE, AddressError: what is wrong, and what to write instead */
export function readBench(name: string, options: BenchOptions): BenchPlan {
  const mode = MODES.find((one) => one === name);
  if (!mode) throw usage(`there is no mode "${name}"`, `There are ${MODES.join(', ')}.`);
  const interfaces = interfacesOf(mode, options.interface);
  const durationMs = options.duration === undefined ? 0 : time(options.duration);
  return {
    settings: {
      mode,
      interfaces,
      queue: amount(options.queue, '--queue', 0, 1023),
      xdp: xdpMode(options),
      batch: options.batchSize === undefined ? BATCH[mode] : amount(options.batchSize, '--batch-size', 1, 1024),
      poll: options.poll === true,
      load: mode === 'txonly' ? loadOf(interfaces[0], options) : null,
      service: mode === 'lb' ? serviceOf(options) : null,
      rules: amount(options.rules, '--rules', 1, RULES_MOST),
    },
    intervalMs: time(options.interval),
    durationMs,
  };
}

function interfacesOf(mode: Mode, names: readonly string[]): string[] {
  const [least, most] = INTERFACES[mode];
  if (names.length < least || names.length > most) {
    const wanted = least === most ? `${least} interface${least > 1 ? 's' : ''}` : `${least} or ${most} interfaces`;
    throw usage(`${mode} takes ${wanted}, not ${names.length}`, 'Give each by -i.');
  }
  return [...names];
}

function xdpMode({ copy, zeroCopy, xdpSkb }: BenchOptions): XdpMode {
  if ([copy, zeroCopy, xdpSkb].filter(Boolean).length > 1) {
    throw usage(
      '--copy, --zero-copy and --xdp-skb exclude each other',
      'Give one, or none for the fastest that there is.',
    );
  }
  return xdpSkb ? 'generic' : copy ? 'copy' : zeroCopy ? 'zero-copy' : 'auto';
}

function destinationMac({ txDmac }: BenchOptions, what: string): Uint8Array {
  if (txDmac !== undefined) return parseMac(txDmac);
  throw usage(
    `${what} need a hardware address to go to`,
    'Give --tx-dmac: packets to unknown addresses are flooded by switches.',
  );
}

function serviceOf(options: BenchOptions): BenchSettings['service'] {
  return {
    vip: parseAddress(options.dst),
    port: amount(options.dport, '--dport', 1, 65535),
    backends: amount(options.backends, '--backends', 1, BACKENDS_MOST),
    destinationMac: destinationMac(options, 'balanced packets'),
  };
}

function loadOf(name: string, options: BenchOptions): Omit<Load, 'sourceMac'> {
  const { dst, dport, flows, txPktSize, txPktCount } = options;
  const mac = destinationMac(options, 'packets');
  const words = { interface: name, dst, dport, flows, sport: '1024', template: 'udp', size: txPktSize, engine: 'xsk' };
  return {
    ...readLoad({ ...words, duration: '60m', count: txPktCount }),
    destinationMac: mac,
    durationMs: LONGEST_MS,
  };
}

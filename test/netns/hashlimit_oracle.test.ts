/**
 * The kernel's own hashlimit and connlimit, through iptables in a namespace, against ours: the same packets, the same verdicts.
 *
 * The kernel's clock ticks every 4 ms, and a packet's tick is known only to the time that its send() took. Ours judges the recorded times for every
 * phase of such a tick, with the first and the last time that it may have been; where these do not agree the machine was too busy to tell, and the
 * sequence is played again.
 */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { ConnLimit } from '../../src/dataplane/mitigate/conn_limit.js';
import { HashLimit } from '../../src/dataplane/mitigate/hash_limit.js';
import { LimitVerdict } from '../../src/dataplane/mitigate/limit_verdict.js';
import type { Namespace } from '../../src/playground/netns.js';
import { run } from '../../src/playground/system.js';
import { allocateConnLimit, type ConnLimitSpec } from '../../src/shared/limits/conn_limit.js';
import { allocateHashLimit, HashLimitMode, type HashLimitSpec } from '../../src/shared/limits/hash_limit.js';
import { parseByteCount, parseRate } from '../../src/shared/limits/rate.js';
import { limitPacket } from '../support/limit_packets.js';
import { testPlayground } from '../support/netns.js';

const script = fileURLToPath(new URL('../support/limit_oracle.mjs', import.meta.url));
const KERNEL_TICK_MS = 4;
const ATTEMPTS = 5;

interface Sent {
  at: number;
  src: string;
  sport: number;
  dst: string;
  dport: number;
  length: number;
}

interface Outcome {
  before: number;
  after: number;
  through: boolean;
}

interface Sequence {
  name: string;
  /** Options of iptables' match, without the name; and the same for us. */
  options: string;
  spec: Partial<HashLimitSpec>;
  /** Packets at times in ms; the destination port comes from the sequence. */
  packets: Partial<Sent>[];
}

function namespaceFor(): Namespace {
  const namespace = testPlayground().namespace('limits');
  namespace.ip(
    'addr add 2001:db8::1/128 dev lo nodad',
    'addr add 2001:db8::2/128 dev lo nodad',
    'addr add 2001:db8:0:1::1/128 dev lo nodad',
  );
  return namespace;
}

function play<T>(namespace: Namespace, plan: unknown): T {
  return JSON.parse(run('ip', namespace.commandLine(process.execPath, [script]), JSON.stringify(plan))) as T;
}

/** `count` packets at once. */
function burst(at: number, count: number, packet: Partial<Sent> = {}): Partial<Sent>[] {
  return Array.from({ length: count }, () => ({ ...packet, at }));
}

/** What the options say, read for us. */
function specOf({ options, spec }: Sequence): HashLimitSpec {
  const value = (name: string) => new RegExp(`--hashlimit-${name} (\\S+)`).exec(options)?.[1];
  const number = (name: string) => (value(name) === undefined ? undefined : Number(value(name)));
  const upto = value('upto');
  const rate = parseRate(upto ?? value('above') ?? '');
  const modes = {
    srcip: HashLimitMode.srcip,
    srcport: HashLimitMode.srcport,
    dstip: HashLimitMode.dstip,
    dstport: HashLimitMode.dstport,
  };
  const mode = (value('mode') ?? '')
    .split(',')
    .reduce((bits, name) => bits | (modes[name as keyof typeof modes] ?? 0), 0);
  const burstText = value('burst');
  return {
    rate,
    direction: upto === undefined ? 'above' : 'upto',
    mode,
    burst: burstText === undefined ? undefined : parseByteCount(burstText),
    htableSize: number('htable-size'),
    htableMax: number('htable-max'),
    htableExpireMs: number('htable-expire'),
    htableGcIntervalMs: number('htable-gcinterval'),
    rateMatch: options.includes('--hashlimit-rate-match'),
    rateInterval: number('rate-interval'),
    ...spec,
  };
}

/** Which packets our limit lets through when time is cut to the kernel's ticks with that phase. */
function ours(spec: HashLimitSpec, packets: readonly Sent[], times: readonly number[], phase: number): string {
  const limit = new HashLimit(allocateHashLimit(spec), 0, 1);
  return packets
    .map((sent, i) => {
      const tick = Math.floor((times[i] + phase) / KERNEL_TICK_MS) * KERNEL_TICK_MS;
      // What is within matches upto, which accepts; what is above matches above, which drops.
      return limit.judge(limitPacket(sent), tick) === LimitVerdict.within ? '1' : '0';
    })
    .join('');
}

/** Our verdicts, if they do not hang on what cannot be known; else null. */
function certain(spec: HashLimitSpec, packets: readonly Sent[], outcomes: readonly Outcome[]): string | null {
  const results = new Set<string>();
  for (let phase = 0; phase < KERNEL_TICK_MS; phase += 0.5) {
    results.add(
      ours(
        spec,
        packets,
        outcomes.map(({ before }) => before),
        phase,
      ),
    );
    results.add(
      ours(
        spec,
        packets,
        outcomes.map(({ after }) => after),
        phase,
      ),
    );
  }
  return results.size === 1 ? [...results][0] : null;
}

const many = (ports: readonly number[], at: number): Partial<Sent>[] => ports.map((sport) => ({ at, sport }));

const SEQUENCES: Sequence[] = [
  {
    name: 'packets upto, by source',
    options: '--hashlimit-upto 10/second --hashlimit-burst 3 --hashlimit-mode srcip',
    spec: {},
    packets: [...burst(0, 6), ...burst(150, 4), ...burst(430, 4), ...burst(1600, 6)],
  },
  {
    name: 'packets above, default burst, by source port',
    options: '--hashlimit-above 20/second --hashlimit-mode srcport',
    spec: {},
    packets: [
      ...burst(0, 8, { sport: 5001 }),
      ...burst(10, 3, { sport: 5002 }),
      ...burst(125, 4, { sport: 5001 }),
      ...burst(330, 7, { sport: 5002 }),
    ],
  },
  {
    name: 'a minute',
    options: '--hashlimit-upto 60/minute --hashlimit-burst 2 --hashlimit-mode srcip',
    spec: {},
    packets: [...burst(0, 3), ...burst(500, 2), ...burst(1500, 2), ...burst(2520, 1)],
  },
  {
    name: 'bytes without a burst',
    options: '--hashlimit-upto 20kb/s --hashlimit-mode srcip',
    spec: {},
    packets: [
      ...burst(0, 30, { length: 1000 }),
      ...burst(330, 10, { length: 1000 }),
      ...burst(630, 30, { length: 333 }),
    ],
  },
  {
    name: 'bytes with a burst that comes once',
    options: '--hashlimit-above 10kb/s --hashlimit-burst 25kb --hashlimit-mode srcip',
    spec: {},
    packets: [...burst(0, 60, { length: 1000 }), ...burst(1230, 20, { length: 1000 })],
  },
  {
    name: 'prefixes of the source',
    options: '--hashlimit-upto 1/second --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-srcmask 24',
    spec: { srcMask4: 24 },
    packets: ['127.1.1.1', '127.1.1.2', '127.1.1.3', '127.1.2.1', '127.1.2.2', '127.2.1.1', '127.1.2.3'].map((src) => ({
      at: 0,
      src,
    })),
  },
  {
    name: 'destination and its port',
    options: '--hashlimit-upto 1/second --hashlimit-burst 1 --hashlimit-mode dstip,dstport --hashlimit-dstmask 31',
    spec: { dstMask4: 31 },
    packets: ['127.3.0.2', '127.3.0.3', '127.3.0.4', '127.3.0.4', '127.3.0.5', '127.3.0.6'].map((dst) => ({
      at: 0,
      dst,
    })),
  },
  {
    name: 'IPv6 prefixes',
    options: '--hashlimit-upto 1/second --hashlimit-burst 2 --hashlimit-mode srcip --hashlimit-srcmask 64',
    spec: { srcMask6: 64 },
    packets: ['2001:db8::1', '2001:db8::2', '2001:db8::1', '2001:db8:0:1::1', '2001:db8::2'].map((src) => ({
      at: 0,
      src,
      dst: '::1',
    })),
  },
  {
    name: 'a full table drops new keys, upto',
    options:
      '--hashlimit-upto 2/second --hashlimit-burst 2 --hashlimit-mode srcport --hashlimit-htable-size 4 --hashlimit-htable-max 4 --hashlimit-htable-expire 300 --hashlimit-htable-gcinterval 100',
    spec: {},
    packets: [
      ...many(
        [1, 2, 3, 4, 5, 6, 1, 2, 5].map((n) => 6000 + n),
        0,
      ),
      ...many(
        [5, 6, 7, 8, 1].map((n) => 6000 + n),
        1000,
      ),
    ],
  },
  {
    name: 'a full table drops new keys, above',
    options:
      '--hashlimit-above 2/second --hashlimit-burst 2 --hashlimit-mode srcport --hashlimit-htable-size 3 --hashlimit-htable-max 3',
    spec: {},
    packets: many(
      [1, 2, 3, 4, 1, 2, 3, 5, 1].map((n) => 7000 + n),
      0,
    ),
  },
  {
    name: 'a key that was forgotten has its burst again',
    options: '--hashlimit-upto 1/second --hashlimit-burst 4 --hashlimit-mode srcip',
    spec: {},
    packets: [...burst(0, 6), ...burst(2520, 6)],
  },
  {
    name: 'rate match',
    options:
      '--hashlimit-upto 5/second --hashlimit-burst 3 --hashlimit-mode srcip --hashlimit-rate-match --hashlimit-rate-interval 1',
    spec: {},
    packets: [...burst(0, 12), ...burst(500, 2), ...burst(1100, 3), ...burst(1700, 1), ...burst(2300, 3)],
  },
];

const FIRST_PORT = 20_000;

/** Rules for all sequences, each by its destination port. */
function install(namespace: Namespace, round: number): Sent[][] {
  return SEQUENCES.map(({ options, packets }, i) => {
    const dport = FIRST_PORT + 100 * round + i;
    const sent = packets.map((packet): Sent => ({
      at: 0,
      src: '127.0.0.1',
      sport: 4999,
      dst: '127.0.0.1',
      length: 100,
      ...packet,
      dport,
    }));
    const command = sent[0].src.includes(':') ? 'ip6tables' : 'iptables';
    const rule = (...words: string[]) =>
      namespace.exec(command, '-w', '-A', 'INPUT', '-p', 'udp', '--dport', String(dport), ...words);
    const match = ['-m', 'hashlimit', '--hashlimit-name', `s${round}x${i}`, ...options.split(' ')];
    if (options.includes('--hashlimit-upto')) {
      rule(...match, '-j', 'ACCEPT');
      rule('-j', 'DROP');
    } else {
      rule(...match, '-j', 'DROP');
    }
    return sent;
  });
}

describe("the kernel's hashlimit", () => {
  it('gives the verdicts that ours gives', () => {
    const namespace = namespaceFor();
    const open = new Map(SEQUENCES.map((sequence, i) => [i, sequence]));
    for (let round = 0; round < ATTEMPTS && open.size > 0; round++) {
      const sent = install(namespace, round);
      const chosen = [...open.keys()];
      const outcomes = play<Outcome[]>(namespace, { udp: chosen.flatMap((i) => sent[i]) });
      let from = 0;
      for (const i of chosen) {
        const of = outcomes.slice(from, (from += sent[i].length));
        const expected = certain(specOf(SEQUENCES[i]), sent[i], of);
        if (expected === null) continue;
        open.delete(i);
        const kernel = of.map(({ through }) => (through ? '1' : '0')).join('');
        expect(kernel, SEQUENCES[i].name).toBe(expected);
        // A sequence that knows one verdict only shows nothing.
        expect(new Set(kernel).size, SEQUENCES[i].name).toBe(2);
      }
    }
    expect([...open.values()].map(({ name }) => name)).toEqual([]);
  });
});

type Step =
  | { op: 'open'; id: number; src: string; dst: string; dport: number }
  | { op: 'close'; id: number; how: 'client' | 'server' | 'reset' };

/** A new connection from `src`. */
function opening(id: number, src: string, dst = src.includes(':') ? '::1' : '127.0.0.1'): Step {
  return { op: 'open', id, src, dst, dport: 0 };
}

const closing = (id: number, how: 'client' | 'server' | 'reset'): Step => ({ op: 'close', id, how });

const CONNECTIONS: { name: string; options: string; spec: ConnLimitSpec; steps: Step[] }[] = [
  {
    name: 'above, by address, with all ways to close',
    options: '--connlimit-above 2',
    spec: { limit: 2, direction: 'above' },
    steps: [
      ...[1, 2, 3].map((id) => opening(id, '127.4.0.1')),
      opening(4, '127.4.0.2'),
      closing(1, 'client'),
      ...[5, 6].map((id) => opening(id, '127.4.0.1')),
      closing(2, 'reset'),
      ...[7, 8].map((id) => opening(id, '127.4.0.1')),
      closing(5, 'server'),
      ...[9, 10].map((id) => opening(id, '127.4.0.1')),
    ],
  },
  {
    name: 'upto, by prefix',
    options: '--connlimit-upto 3 --connlimit-mask 24',
    spec: { limit: 3, direction: 'upto', mask4: 24 },
    steps: [
      ...['127.5.0.1', '127.5.0.2', '127.5.0.3', '127.5.0.4', '127.5.1.1', '127.5.0.9'].map((src, id) =>
        opening(id, src),
      ),
      closing(1, 'client'),
      opening(11, '127.5.0.200'),
      opening(12, '127.5.0.201'),
    ],
  },
  {
    name: 'by destination',
    options: '--connlimit-above 1 --connlimit-daddr',
    spec: { limit: 1, direction: 'above', side: 'destination' },
    steps: [
      opening(1, '127.6.0.1', '127.6.9.1'),
      opening(2, '127.6.0.2', '127.6.9.1'),
      opening(3, '127.6.0.2', '127.6.9.2'),
      closing(1, 'reset'),
      opening(4, '127.6.0.3', '127.6.9.1'),
      opening(5, '127.6.0.4', '127.6.9.1'),
    ],
  },
  {
    name: 'IPv6, by /64',
    options: '--connlimit-above 2 --connlimit-mask 64',
    spec: { limit: 2, direction: 'above', mask6: 64 },
    steps: ['2001:db8::1', '2001:db8::2', '2001:db8::1', '2001:db8:0:1::1', '2001:db8::2'].map((src, id) =>
      opening(id, src),
    ),
  },
];

/** What ours admits of the steps. */
function admitted(spec: ConnLimitSpec, steps: readonly Step[]): boolean[] {
  const limit = new ConnLimit(allocateConnLimit(spec, 1), 0, 1);
  const open = new Map<number, ReturnType<typeof limitPacket>>();
  const results: boolean[] = [];
  for (const step of steps) {
    if (step.op === 'open') {
      const packet = limitPacket(step);
      const within = limit.open(packet) === LimitVerdict.within;
      results.push(within);
      if (within) open.set(step.id, packet);
      continue;
    }
    const packet = open.get(step.id);
    if (packet === undefined) throw new Error(`connection ${step.id} is not open`);
    if (spec.side === 'destination') limit.closed(packet.family, packet.dst0, packet.dst1, packet.dst2, packet.dst3);
    else limit.closed(packet.family, packet.src0, packet.src1, packet.src2, packet.src3);
  }
  return results;
}

describe("the kernel's connlimit", () => {
  it.each(CONNECTIONS.map((c, i) => ({ ...c, dport: 30_000 + i })))(
    'admits what ours admits: $name',
    ({ options, spec, steps, dport }) => {
      const namespace = namespaceFor();
      const six = steps.some((step) => step.op === 'open' && step.src.includes(':'));
      const command = six ? 'ip6tables' : 'iptables';
      const rule = (...words: string[]) =>
        namespace.exec(command, '-w', '-A', 'INPUT', '-p', 'tcp', '--syn', '--dport', String(dport), ...words);
      const match = ['-m', 'connlimit', ...options.split(' ')];
      const reject = ['-j', 'REJECT', '--reject-with', 'tcp-reset'];
      if (spec.direction === 'above') rule(...match, ...reject);
      else {
        rule(...match, '-j', 'ACCEPT');
        rule(...reject);
      }
      const kernel = play<boolean[]>(namespace, { tcp: steps.map((step) => ({ ...step, dport })) });
      const expected = admitted(spec, steps);
      expect(kernel).toEqual(expected);
      expect(new Set(kernel).size).toBe(2);
    },
  );

  // Only first packets: what has been refused stays in the kernel's list until a new connection has it looked at, so that packets of
  // connections that were let in are above as well. That is its list, not a limit, and ours has nothing of it.
  it('counts what is not TCP by its first packet that got through', () => {
    const namespace = namespaceFor();
    const match = ['-m', 'connlimit', '--connlimit-above', '2', '-j', 'DROP'];
    namespace.exec('iptables', '-w', '-A', 'INPUT', '-p', 'udp', '--dport', '31000', ...match);
    const udp = [1, 2, 3, 4, 5].map((n, i): Sent => {
      return { at: 40 * i, src: '127.7.0.1', sport: 8000 + n, dst: '127.0.0.1', dport: 31_000, length: 100 };
    });
    const kernel = play<Outcome[]>(namespace, { udp }).map(({ through }) => through);
    const limit = new ConnLimit(allocateConnLimit({ limit: 2, direction: 'above' }, 1), 0, 1);
    expect(kernel).toEqual(udp.map((sent) => limit.open(limitPacket(sent)) === LimitVerdict.within));
    expect(kernel).toEqual([true, true, false, false, false]);
  });
});

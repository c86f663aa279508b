import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { necessary, type Facts, type FamilyFacts } from '../../src/shared/cbpf/facts.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { Bpf, Code, programOf, type Instruction, type Program } from '../../src/shared/cbpf/program.js';
import { contains, intersect, subtract, union, type RangeSet } from '../../src/shared/cbpf/range_sets.js';
import { randomPacket, randomProgram, randomSource, show, type Random } from '../support/cbpf_programs.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 1500);
const seed = Number(process.env.SEED ?? 20261122);

const hasTcpdump = spawnSync('tcpdump', ['--version']).status === 0;

function compiled(expression: string): Program {
  const { stdout, stderr } = spawnSync('tcpdump', ['-y', 'EN10MB', '-ddd', expression], { encoding: 'utf8' });
  if (stdout === '') throw new Error(stderr);
  return readBytecode(stdout, 'ethernet');
}

/** What a packet has in a field; null when it is too short. */
function read(view: DataView, at: number, size: number): number | null {
  if (at + size > view.byteLength) return null;
  return size === 4 ? view.getUint32(at) : size === 2 ? view.getUint16(at) : view.getUint8(at);
}

/** A field that is not there may have no condition. */
function allows(set: RangeSet, value: number | null, size: number): boolean {
  if (value !== null) return contains(set, value);
  return set.length === 1 && set[0].lo === 0 && set[0].hi === 256 ** size - 1;
}

function holds(facts: FamilyFacts, view: DataView, base: number, family: 4 | 6): boolean {
  const first = read(view, base, 1);
  const header = family === 6 ? 40 : first === null ? NaN : (first & 15) * 4;
  const [protocol, from, to] = family === 4 ? [9, 12, 16] : [6, 8, 24];
  const port = (at: number): number | null => (Number.isNaN(header) ? null : read(view, base + header + at, 2));
  return (
    allows(facts.protocols, read(view, base + protocol, 1), 1) &&
    allows(facts.sourcePorts, port(0), 2) &&
    allows(facts.destinationPorts, port(2), 2) &&
    facts.source.every((set, i) => allows(set, read(view, base + from + 4 * i, 4), 4)) &&
    facts.destination.every((set, i) => allows(set, read(view, base + to + 4 * i, 4), 4))
  );
}

/** Whether the facts let a packet match. */
function allowed(facts: Facts, bytes: Uint8Array, link: Program['link']): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const base = link === 'ip' ? 0 : 14;
  const type = base === 0 ? (read(view, 0, 1) ?? -1) >> 4 : (read(view, 12, 2) ?? -1);
  if (type === (base === 0 ? 4 : 0x800)) return facts.ipv4.some((way) => holds(way, view, base, 4));
  if (type === (base === 0 ? 6 : 0x86dd)) return facts.ipv6.some((way) => holds(way, view, base, 6));
  return facts.other;
}

function expectSound(program: Program, facts: Facts, bytes: Uint8Array): boolean {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const matched = interpret(program, view, 0, bytes.length, bytes.length) !== 0;
  if (matched && !allowed(facts, bytes, program.link)) {
    const packet = Buffer.from(bytes).toString('hex');
    throw new Error(`seed ${seed}: ${show(program)} matches ${packet}, outside ${JSON.stringify(facts)}`);
  }
  return matched;
}

/** Programs of the kind that rules are: fields compared one after another, in any order and with any connection. */
function ruleLike(random: Random, packet: Uint8Array): Program {
  const loads: [number, number, number][] = [
    ...([
      [Code.LD_H_ABS, 12],
      [Code.LD_B_ABS, 23],
      [Code.LD_B_ABS, 20],
      [Code.LD_W_ABS, 26],
    ] as const),
    ...([
      [Code.LD_W_ABS, 30],
      [Code.LD_W_ABS, 22],
      [Code.LD_W_ABS, 38],
      [Code.LD_H_ABS, 54],
    ] as const),
    ...([
      [Code.LD_H_ABS, 56],
      [Code.LD_H_IND, 14],
      [Code.LD_H_IND, 16],
    ] as const),
  ].map(([code, k]) => [code, k, (code & Bpf.SIZE) === Bpf.W ? 4 : (code & Bpf.SIZE) === Bpf.H ? 2 : 1]);
  const code: Instruction[] = [];
  const count = 2 + random(7);
  for (let i = 0; i < count; i++) {
    const [load, k, size] = loads[random(loads.length)];
    if (load === Code.LD_H_IND && random(4) > 0) code.push([Code.LDX_MSH, 0, 0, random(5) === 0 ? 15 : 14]);
    code.push([load, 0, 0, k]);
    let value = 0;
    const at = load === Code.LD_H_IND ? k + 20 : k;
    for (let j = 0; j < size; j++) value = (value << 8) | (packet[at + j] ?? 0);
    if (random(3) === 0) {
      const mask = random(4) === 0 ? random(0x7fffffff) : -1 << random(8 * size);
      code.push([Code.AND_K, 0, 0, mask]);
      value &= mask;
    }
    if (random(8) === 0) code.push([random(2) ? Code.TAX : Code.ADD_K, 0, 0, 1]);
    const operator = [Bpf.JEQ, Bpf.JEQ, Bpf.JGT, Bpf.JGE, Bpf.JSET][random(5)];
    code.push([
      Bpf.JMP | operator,
      random(4) === 0 ? 200 : 0,
      random(3) === 0 ? 0 : random(2) ? 201 : 200,
      value + (random(4) === 0 ? 1 : 0),
    ]);
    if (random(6) === 0) code.push([Code.LD_LEN, 0, 0, 0]);
  }
  const jumps = code.map(([c, jt, jf, k], i): Instruction => {
    const end = (jump: number): number =>
      jump < 200 ? Math.min(random(4), code.length - i - 1) : code.length - i - 1 + jump - 200;
    return (c & Bpf.CLASS) === Bpf.JMP ? [c, end(jt), end(jf), k] : [c, jt, jf, k];
  });
  return programOf(random(6) === 0 ? 'ip' : 'ethernet', [...jumps, [Code.RET_K, 0, 0, 1], [Code.RET_K, 0, 0, 0]]);
}

describe('facts', () => {
  it('hold for every packet that matches: random programs', () => {
    const random = randomSource(seed);
    const seen = { matched: 0, ruledOut: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const packets = Array.from({ length: 12 }, () => randomPacket(random));
      for (const program of [ruleLike(random, packets[0]), randomProgram(random, packets[0], { length: 30 })]) {
        const facts = necessary(program);
        for (const frame of packets) {
          // Where a program begins at the layer-3 header, so do some of its packets.
          const packet = program.link === 'ip' && random(3) > 0 ? frame.slice(14) : frame;
          if (expectSound(program, facts, packet)) seen.matched++;
          else if (!allowed(facts, packet, program.link)) seen.ruledOut++;
        }
      }
    }
    expect(seen.matched).toBeGreaterThan(ROUNDS);
    expect(seen.ruledOut).toBeGreaterThan(ROUNDS);
  }, 600_000);

  it('of nothing and of everything', () => {
    const never = necessary(programOf('ethernet', [[Code.RET_K, 0, 0, 0]]));
    expect(never).toEqual({ ipv4: [], ipv6: [], other: false });
    const always = necessary(programOf('ip', [[Code.RET_K, 0, 0, 1]]));
    expect(always.ipv4).toHaveLength(1);
    expect(always.ipv6[0].source).toHaveLength(4);
    expect(always.other).toBe(true);
  });
});

describe.skipIf(!hasTcpdump)('facts of expressions (needs tcpdump)', () => {
  const ANY16 = [{ lo: 0, hi: 0xffff }];
  const just = (value: number): RangeSet => [{ lo: value, hi: value }];

  it('have ports as ways apart', () => {
    const { ipv4, ipv6, other } = necessary(compiled('udp port 53'));
    expect(other).toBe(false);
    for (const ways of [ipv4, ipv6]) {
      expect(ways.map((way) => way.protocols)).toEqual([just(17), just(17)]);
      expect(ways[0].sourcePorts).toEqual(just(53));
      expect(ways[0].destinationPorts).toEqual(ANY16);
      expect(ways[1].destinationPorts).toEqual(just(53));
    }
  });

  it('keep what came by one path together with what comes behind', () => {
    const { ipv4, ipv6 } = necessary(compiled('udp and host 192.0.2.1 and port 53'));
    expect(ipv6).toEqual([]);
    const only = (set: RangeSet, value: number): boolean =>
      set.length === 1 && set[0].lo === value && set[0].hi === value;
    const ways = ipv4.map((way) => [
      only(way.source[0], 0xc0000201) ? 'src' : only(way.destination[0], 0xc0000201) ? 'dst' : 'any',
      only(way.sourcePorts, 53) ? 'src' : only(way.destinationPorts, 53) ? 'dst' : 'any',
    ]);
    expect(ways.sort()).toEqual([
      ['dst', 'dst'],
      ['dst', 'src'],
      ['src', 'dst'],
      ['src', 'src'],
    ]);
    // A protocol of several is no reason for more ways.
    expect(necessary(compiled('dst port 53')).ipv4.map((way) => way.protocols.length)).toEqual([3]);
  });

  it('of more ways than are told apart are wider, and right', () => {
    const hosts = Array.from({ length: 40 }, (_, i) => `(src 10.0.${i}.1 and dst port ${i + 1})`);
    const program = compiled(hosts.join(' or '));
    const facts = necessary(program);
    expect(facts.ipv4.length).toBeLessThanOrEqual(8);
    const random = randomSource(seed + 2);
    for (let i = 0; i < 2000; i++) expectSound(program, facts, randomPacket(random));
    expect(facts.ipv4.every(({ source }) => source[0].every(({ lo }) => lo >= 0x0a000001))).toBe(true);
  });

  it('have prefixes and ranges', () => {
    const { ipv4, ipv6, other } = necessary(
      compiled('tcp dst portrange 1000-2000 and dst net 10.0.0.0/8 and src 192.0.2.1'),
    );
    expect(ipv6).toEqual([]);
    expect(other).toBe(false);
    expect(ipv4).toHaveLength(1);
    expect(ipv4[0].protocols).toEqual(just(6));
    expect(ipv4[0].destinationPorts).toEqual([{ lo: 1000, hi: 2000 }]);
    expect(ipv4[0].sourcePorts).toEqual(ANY16);
    expect(ipv4[0].destination).toEqual([[{ lo: 0x0a000000, hi: 0x0affffff }]]);
    expect(ipv4[0].source).toEqual([just(0xc0000201)]);
  });

  it('have the words of an IPv6 prefix', () => {
    const { ipv4, ipv6, other } = necessary(compiled('src net 2001:db8:8000::/33'));
    expect([ipv4, other]).toEqual([[], false]);
    const any = [{ lo: 0, hi: 0xffffffff }];
    expect(ipv6[0].source).toEqual([just(0x20010db8), [{ lo: 0x80000000, hi: 0xffffffff }], any, any]);
  });

  it.each([
    ['arp', [0, 0, true]],
    ['vlan 5 and udp', [0, 0, true]],
    ['ip', [1, 0, false]],
    ['not ip', [0, 1, true]],
    ['len > 100', [1, 1, true]],
  ] as const)('%s: ways of IPv4, of IPv6, others', (expression, [four, six, other]) => {
    const facts = necessary(compiled(expression));
    expect([facts.ipv4.length, facts.ipv6.length, facts.other]).toEqual([four, six, other]);
  });

  it('hold for every packet that matches', () => {
    const random = randomSource(seed + 1);
    const packets = Array.from({ length: 3000 }, () => randomPacket(random));
    const expressions = [
      ...['udp port 53', 'not udp port 53', 'net 10.0.0.0/24', 'host 192.0.2.1 or tcp', 'ip6 and not port 80'],
      ...['tcp port 80 or udp port 53 or icmp', 'portrange 50-90', 'src net 10.0.0.0/30 or dst net 192.0.2.0/31'],
      ...[
        'ip6 net 2001:d00::/24',
        'ip[8] > 32 and not tcp',
        'udp dst port 123 or vlan',
        'net 10.0.0.0/24 and port 53',
        '(src net 10.0.0.0/8 or tcp) and (port 53 or dst net 10.0.0.0/9) and not port 80',
        '(tcp or udp) and net 10.0.0.0/8 and portrange 1-100',
        'ip proto 6 and ip[0] & 0xf != 5',
      ],
    ];
    for (const expression of expressions) {
      const program = compiled(expression);
      const facts = necessary(program);
      expect(packets.filter((packet) => expectSound(program, facts, packet)).length).toBeGreaterThan(0);
    }
  });
});

describe('sets of ranges', () => {
  it('are united, cut and reduced as sets of numbers are', () => {
    const random = randomSource(3);
    const some = (): RangeSet =>
      Array.from({ length: random(4) }, () => random(30)).reduce<RangeSet>(
        (set, lo) => union(set, [{ lo, hi: lo + random(5) }], 99),
        [],
      );
    for (let round = 0; round < 2000; round++) {
      const [one, two] = [some(), some()];
      const lo = random(30);
      const cut = { lo, hi: lo + random(8) };
      const few = union(one, two, 2);
      expect(few.length).toBeLessThanOrEqual(2);
      for (let n = 0; n < 40; n++) {
        const inside = n >= cut.lo && n <= cut.hi;
        expect(contains(union(one, two, 99), n)).toBe(contains(one, n) || contains(two, n));
        expect(contains(intersect(one, cut), n)).toBe(contains(one, n) && inside);
        expect(contains(subtract(one, cut), n)).toBe(contains(one, n) && !inside);
        if (contains(one, n) || contains(two, n)) expect(contains(few, n)).toBe(true);
      }
    }
  });
});

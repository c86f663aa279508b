/** What rules do beyond drop, pass and count: shadow, probability, limits, samples, challenges, sets, programs. */
import { describe, expect, it } from 'vitest';
import { RuleShelf, type RuleParts as ConfigParts } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS, type RuleParts } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleAction, RuleCounter } from '../../src/shared/layout.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const { drop, pass, limit, challenge } = {
  drop: RuleAction.drop,
  pass: RuleAction.pass,
  limit: RuleAction.limit,
  challenge: RuleAction.challenge,
};

type Rule = Omit<RuleConfig, 'name'>;

/** Where the config's half of the parts points: position 0 of each. */
const CONFIG_PARTS: ConfigParts = {
  set: ({ name, key }) => ({ index: Number(name), key: key.length }),
  limit: () => 0,
  sample: () => 0,
  challenge: true,
};

function rulesOf(rules: readonly Rule[], parts: Partial<RuleParts> = {}, seed = 1) {
  const named = rules.map((rule, i) => ({ ...rule, name: String(i) }));
  const counters = new Float64Array(CounterBlock.SIZE);
  const tables = new RuleShelf().build(named, Number, CONFIG_PARTS);
  const programs = new ProgramShelf().load(tables.programs);
  const set = new RuleSet(tables, programs, { ...NO_PARTS, ...parts }, counters, new Chance(seed));
  const counted = (rule: number) => {
    const at = CounterBlock.rules + rule * RuleCounter.SIZE;
    return [...counters.subarray(at, at + RuleCounter.SIZE)];
  };
  return { match: (packet: Packet, nowMs = 0) => set.match(packet, nowMs), counted };
}

const v4 = () => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.9', dst: '198.51.100.10' });
const udp = parsed(v4().udp({ sport: 1000, dport: 53 }).payload('x').build());
const tcp = (flags: number) => parsed(v4().tcp({ sport: 1000, dport: 80, flags }).build());
const arp = parsed(new PacketBuilder().ethernet({ type: 0x0806 }).payload(new Uint8Array(28)).build());
const bytes = udp.dataEnd - udp.data;
const all: Rule['match'] = {};

describe('counters', () => {
  it('tell what matched from what was done', () => {
    const { match, counted } = rulesOf([
      { match: all, action: 'count' },
      { match: all, action: 'drop', mode: 'shadow' },
      { match: all, action: 'pass', mode: 'shadow' },
      { match: all, action: 'drop' },
      { match: all, action: 'drop' },
    ]);
    expect(match(udp)).toBe(drop);
    expect(counted(0)).toEqual([1, bytes, 0, 0]);
    expect(counted(1)).toEqual([1, bytes, 1, bytes]);
    expect(counted(2)).toEqual([1, bytes, 0, 0]);
    expect(counted(3)).toEqual([1, bytes, 1, bytes]);
    expect(counted(4)).toEqual([0, 0, 0, 0]);
  });

  it('count a packet once for a rule with lists, whatever of them it is in', () => {
    const twice = [
      { first: 50, last: 60 },
      { first: 53, last: 53 },
    ];
    const { match, counted } = rulesOf([
      { match: { dport: twice, sport: [...twice, { first: 1000, last: 1000 }] }, action: 'count' },
      { match: { dport: twice }, action: 'drop', mode: 'shadow' },
    ]);
    expect(match(udp)).toBe(0);
    expect(counted(0)).toEqual([1, bytes, 0, 0]);
    expect(counted(1)).toEqual([1, bytes, 1, bytes]);
  });
});

describe('a probability', () => {
  it('is that of a rule, however many of its records match', () => {
    const dport = Array.from({ length: 5 }, () => ({ first: 53, last: 53 }));
    const { match, counted } = rulesOf([
      { match: { dport }, action: 'drop', probability: 0.25 },
      { match: all, action: 'count' },
    ]);
    let dropped = 0;
    for (let i = 0; i < 40_000; i++) if (match(udp) === drop) dropped++;
    // 6.2 standard deviations of 87 around the mean.
    expect(Math.abs(dropped - 10_000)).toBeLessThan(540);
    expect(counted(0)[RuleCounter.packets]).toBe(dropped);
    expect(counted(1)[RuleCounter.packets]).toBe(40_000 - dropped);
  });

  it.each([
    [1, 1000],
    [1e-12, 0],
  ])('of %d hits %i of 1000', (probability, hits) => {
    const { match, counted } = rulesOf([{ match: all, action: 'count', probability }]);
    for (let i = 0; i < 1000; i++) match(udp);
    expect(counted(0)[RuleCounter.packets]).toBe(hits);
  });

  it('above a half is one, too: the threshold is unsigned', () => {
    const { match, counted } = rulesOf([{ match: all, action: 'count', probability: 0.9 }]);
    for (let i = 0; i < 10_000; i++) match(udp);
    // 6.2 standard deviations of 30.
    expect(Math.abs(counted(0)[RuleCounter.packets] - 9000)).toBeLessThan(187);
  });
});

describe('actions', () => {
  it('limit drops what is above, and lets the rest go on', () => {
    const asked: number[] = [];
    const limiter = { judge: (_: Packet, nowMs: number) => (asked.push(nowMs), asked.length > 2 ? 1 : 0) };
    const { match, counted } = rulesOf(
      [
        { match: all, action: 'limit' },
        { match: all, action: 'pass' },
      ],
      { limits: [limiter] },
    );
    expect([match(udp, 5), match(udp, 6), match(udp, 7)]).toEqual([pass, pass, limit]);
    expect(asked).toEqual([5, 6, 7]);
    expect(counted(0)).toEqual([3, 3 * bytes, 1, bytes]);
  });

  it('limit in shadow mode only counts', () => {
    const { match, counted } = rulesOf([{ match: all, action: 'limit', mode: 'shadow' }], {
      limits: [{ judge: () => 2 }],
    });
    expect(match(udp)).toBe(0);
    expect(counted(0)).toEqual([1, bytes, 1, bytes]);
  });

  it('sample hands over what the sampler chose, and goes on', () => {
    const taken: [Packet, number][] = [];
    let n = 0;
    const sampler = {
      judge: () => ++n % 2 === 1,
      take: (packet: Packet, rule: number) => void taken.push([packet, rule]),
    };
    const rules: Rule[] = [
      { match: { protocol: 6 }, action: 'count' },
      { match: all, action: 'sample' },
      { match: all, action: 'drop' },
    ];
    const { match, counted } = rulesOf(rules, { samples: [sampler] });
    expect([match(udp), match(udp), match(udp)]).toEqual([drop, drop, drop]);
    expect(taken).toEqual([
      [udp, 1],
      [udp, 1],
    ]);
    expect(counted(1)).toEqual([3, 3 * bytes, 2, 2 * bytes]);
    const shadow = rulesOf([{ match: all, action: 'sample', mode: 'shadow' }], { samples: [sampler] });
    shadow.match(udp);
    shadow.match(udp);
    expect(taken).toHaveLength(2);
    expect(shadow.counted(0)).toEqual([2, 2 * bytes, 1, bytes]);
  });

  it('challenge is for SYNs; other packets go on', () => {
    const { match, counted } = rulesOf([
      { match: all, action: 'challenge' },
      { match: all, action: 'drop' },
    ]);
    expect(match(tcp(TCP.SYN))).toBe(challenge);
    expect(match(tcp(TCP.SYN | TCP.ECE))).toBe(challenge);
    for (const other of [tcp(TCP.SYN | TCP.ACK), tcp(TCP.ACK), tcp(TCP.RST), udp, arp]) expect(match(other)).toBe(drop);
    expect(counted(0)[RuleCounter.packets]).toBe(7);
    expect(counted(0)[RuleCounter.acted]).toBe(2);
    expect(rulesOf([{ match: all, action: 'challenge', mode: 'shadow' }]).match(tcp(TCP.SYN))).toBe(0);
  });
});

describe('matches', () => {
  const UDP_53 = '6,48 0 0 9,21 0 3 17,40 0 0 22,21 0 1 53,6 0 0 1,6 0 0 0';
  const program = (link: 'ethernet' | 'ip', text: string) =>
    ({ kind: 'bytecode', text, program: readBytecode(text, link) }) as const;

  it('ask all sets of a rule, with the fields that the config says', () => {
    const asked: [string, number][] = [];
    const inSet = (name: string, holds: boolean) => ({
      has: (_: Packet, key: number) => (asked.push([name, key]), holds),
    });
    const sets = [inSet('a', true), inSet('b', false), inSet('c', true)];
    const rule = (...names: number[]): Rule => ({
      match: { sets: names.map((name) => ({ name: String(name), key: 'src' })) },
      action: 'count',
    });
    const { match, counted } = rulesOf([rule(0, 2), rule(0, 1, 2), rule(2)], { sets });
    expect(match(udp)).toBe(0);
    expect([0, 1, 2].map((i) => counted(i)[RuleCounter.packets])).toEqual([1, 0, 1]);
    expect(asked.map(([name]) => name).join('')).toBe('acabc');
    expect(new Set(asked.map(([, key]) => key))).toEqual(new Set([3]));
  });

  it('run a program over layer 3 or the frame, and over nothing else', () => {
    const rules: Rule[] = [
      { match: { program: program('ip', UDP_53) }, action: 'count' },
      { match: { program: program('ethernet', '4,40 0 0 12,21 0 1 2048,6 0 0 1,6 0 0 0') }, action: 'count' },
      { match: { program: program('ip', '1,6 0 0 1') }, action: 'count' },
      { match: { program: program('ethernet', '4,40 0 0 12,21 0 1 2054,6 0 0 1,6 0 0 0') }, action: 'count' },
      { match: { protocol: 6, program: program('ip', UDP_53) }, action: 'count' },
    ];
    const { match, counted } = rulesOf(rules);
    for (const packet of [udp, udp, tcp(TCP.ACK), arp]) expect(match(packet)).toBe(0);
    expect([0, 1, 2, 3, 4].map((i) => counted(i)[RuleCounter.packets])).toEqual([2, 3, 3, 1, 0]);
  });

  it('see the packet’s own length, without what pads the frame', () => {
    const longer = '4,128 0 0 0,37 0 1 40,6 0 0 1,6 0 0 0';
    const padded = parsed(v4().udp().padTo(60).build());
    const { match, counted } = rulesOf([
      { match: { program: program('ip', longer) }, action: 'count' },
      { match: { program: program('ethernet', longer) }, action: 'count' },
    ]);
    match(padded);
    expect([counted(0)[0], counted(1)[0]]).toEqual([0, 1]);
  });
});

describe('tables', () => {
  const build = (rule: Rule, parts: ConfigParts = {}) =>
    new RuleShelf().build([{ ...rule, name: 'mine' }], () => 0, parts);

  it.each<[string, Rule]>([
    ['action limit', { match: all, action: 'limit' }],
    ['action sample', { match: all, action: 'sample' }],
    ['action challenge', { match: all, action: 'challenge' }],
    ['set', { match: { sets: [{ name: 'bad', key: 'src' }] }, action: 'drop' }],
  ])('are refused for what nothing can carry out: %s', (what, rule) => {
    expect(() => build(rule)).toThrow(`rule mine: ${what} is not available`);
  });

  it('have a program once, however many rules ask for it', () => {
    const make = () => ({ kind: 'expr', text: '', program: readBytecode('1,6 0 0 1', 'ip') }) as const;
    const rules = [0, 1].map((i): RuleConfig => ({ name: String(i), match: { program: make() }, action: 'drop' }));
    expect(new RuleShelf().build(rules, Number).programs).toHaveLength(1);
  });

  it('are refused for lists that make too many combinations', () => {
    const ports = Array.from({ length: 100 }, (_, i) => ({ first: i, last: i }));
    expect(() => build({ match: { sport: ports, dport: ports }, action: 'drop' })).toThrow(
      /combinations, the limit is 8192/,
    );
  });
});

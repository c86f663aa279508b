/** What the kernel says of a packet in front of it: rules that draw or meter do not ask again, and nobody else can say so. */
import { beforeEach, describe, expect, it } from 'vitest';
import { DecisionWord, DECIDED_MOST } from '../../src/shared/kernel_decisions.js';
import { BurstHeader } from '../../src/dataplane/port.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { RuleCounter, CounterBlock, RuleField } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder } from '../support/packet_builder.js';

const VIP = '198.51.100.10';
const LITTLE = new Uint8Array(Uint16Array.of(1).buffer)[0] === 1;
/** Bits of the rules below: the first to draw or meter has the lowest. */
const [TIMES, SOURCES] = [1, 2];

const yaml = (offload: string, rate = '1/s', more = ''): string => `
interfaces: [in0]
services: [{name: dns, vip: ${VIP}, port: 53, protocol: udp, backends: [{address: 10.1.0.1}]}]
offload: ${offload}
rules:
  - {name: see, match: {protocol: udp}, action: count}
  - {name: times, match: {sport: 7}, action: drop, probability: 0.9999999}
  - {name: sources, match: {protocol: udp}, action: limit, limit: {rate: ${rate}, burst: 2}}
${more}`;

const udp = (sport = 4000, src = '203.0.113.9'): Uint8Array =>
  new PacketBuilder().ethernet().ipv4({ src, dst: VIP }).udp({ sport, dport: 53 }).payload(20).build();

interface Words {
  nonce: number;
  rules: number;
}

let lab: Lab;
/** What stands in front of the packets of the next bursts, in order; then nothing is written. */
let written: (Words | null)[] = [];

/** Stands for the kernel: writes its words when a packet is received. */
function withKernel(made: Lab): Lab {
  const [port] = made.ports;
  const exchange = port.exchange.bind(port);
  const view = new DataView(port.memory);
  port.exchange = () => {
    const count = exchange();
    for (let i = port.burst.header[BurstHeader.resumed]; i < count; i++) {
      const words = written.shift();
      if (!words) continue;
      view.setInt32(port.burst.offset[i] + DecisionWord.nonce, words.nonce, LITTLE);
      view.setInt32(port.burst.offset[i] + DecisionWord.rules, words.rules, LITTLE);
    }
    return count;
  };
  return made;
}

/** How many of these packets get through, the kernel having said this of each. */
function through(frames: Uint8Array[], words: Words | null): number {
  written = frames.map(() => words);
  return lab.run(frames).sent[0].length;
}

const times = (count: number, frame = udp()): Uint8Array[] => Array.from({ length: count }, () => frame);
const signed = (rules: number): Words => ({ nonce: lab.kernelNonce, rules });
function counted(rule: string): [packets: number, acted: number] {
  const at = CounterBlock.rules + lab.publisher.numbers.rules.get(rule)!.number * RuleCounter.SIZE;
  return [lab.counters[at + RuleCounter.packets], lab.counters[at + RuleCounter.acted]];
}

beforeEach(() => {
  written = [];
  lab = withKernel(new Lab(yaml('auto')));
});

describe('a packet that the kernel has decided about', () => {
  it('is within its limit, and not charged again', () => {
    expect(lab.kernelNonce).not.toBe(0);
    expect(through(times(40), signed(SOURCES))).toBe(40);
    expect(counted('sources')).toEqual([40, 0]);
    // The whole burst is still there for those that the kernel has not seen.
    expect(through(times(10), null)).toBe(2);
    expect(counted('sources')).toEqual([50, 8]);
    expect(lab.drops()).toEqual({ limited: 8 });
    expect(lab.violations()).toEqual([]);
  });

  it('is not drawn for again, nor counted by the rule that it was drawn for', () => {
    expect(through(times(30, udp(7)), signed(TIMES | SOURCES))).toBe(30);
    expect(counted('times')).toEqual([0, 0]);
    expect(through(times(30, udp(7)), signed(SOURCES))).toBe(0);
    expect(counted('times')).toEqual([30, 30]);
    expect(counted('see')).toEqual([60, 0]);
  });

  it('meets each rule for itself', () => {
    expect(through(times(10), signed(TIMES))).toBe(2);
    expect(through(times(10, udp(7, '203.0.113.10')), signed(SOURCES))).toBe(0);
  });
});

describe('what is no word of the kernel', () => {
  it('are words with another nonce, or none', () => {
    for (const nonce of [0, lab.kernelNonce ^ 1, ~lab.kernelNonce]) {
      lab = withKernel(new Lab(yaml('auto')));
      expect(through(times(10), { nonce: nonce === lab.kernelNonce ? 0 : nonce, rules: -1 })).toBe(2);
    }
  });

  it('are those of a packet before in the same frame', () => {
    const offsets = new Set<number>();
    const [port] = lab.ports;
    const exchange = port.exchange.bind(port);
    port.exchange = () => {
      const count = exchange();
      for (let i = 0; i < count; i++) offsets.add(port.burst.offset[i]);
      return count;
    };
    // Dropped, so that nothing is written in front of them.
    expect(through(times(8, udp(7)), signed(SOURCES))).toBe(0);
    const before = offsets.size;
    expect(through(times(8), null)).toBe(2);
    // It was the same frames, or the test says nothing.
    expect(offsets.size).toBe(before);
  });

  it('are those of a frame whose packet no rule has seen', () => {
    // By a rule that drops before, and by the short way, which packets of no rule's take.
    lab.adopt(yaml('auto').replace('rules:', 'rules:\n  - {name: first, match: {sport: 9}, action: drop}'));
    expect(through(times(8, udp(9)), signed(-1))).toBe(0);
    expect(through(times(8), null)).toBe(2);
    const short = (rate: string): string =>
      yaml('auto', rate).replace(/match: {protocol: udp}/g, 'match: {sport: 4000}');
    lab.adopt(short('2/s'));
    // The first of a flow takes the steps.
    expect(through([udp(5000)], null)).toBe(1);
    expect(through(times(8, udp(5000)), signed(-1))).toBe(8);
    expect(through(times(8), null)).toBe(2);
  });

  it('are those of rules that are not in force any more', () => {
    const former = signed(-1);
    lab.adopt(yaml('auto', '2/s'));
    expect(lab.kernelNonce).not.toBe(former.nonce);
    expect(through(times(10), former)).toBe(2);
    expect(through(times(10), signed(-1))).toBe(10);
  });

  it('is anything where rules do not run in the kernel', () => {
    lab = withKernel(new Lab(yaml('off')));
    expect(lab.kernelNonce).toBe(0);
    expect(through(times(10), { nonce: 0, rules: -1 })).toBe(2);
    // Nor what was decided before that was turned off.
    lab.adopt(yaml('auto'));
    expect(through(times(10, udp(4000, '203.0.113.10')), signed(-1))).toBe(10);
    lab.adopt(yaml('off'));
    expect(through(times(10, udp(4000, '203.0.113.11')), { nonce: 0, rules: -1 })).toBe(2);
  });
});

describe('bits of rules', () => {
  const rule = (i: number, more: Partial<RuleConfig>): RuleConfig => ({
    ...{ name: String(i), match: { dport: [{ first: i, last: i }] }, mode: 'enforce', probability: 1, action: 'drop' },
    ...more,
  });
  const bits = (rules: RuleConfig[], decides: boolean): number[] => {
    const { rules: buffer } = new RuleShelf().build(rules, (name) => Number(name), { decides });
    const words = new Int32Array(buffer);
    return rules.map((_, i) => words[RuleField.HEADER + i * RuleField.STRIDE + RuleField.decided]);
  };

  it('are for those that draw or meter, as many as there are, and for none with offload off', () => {
    const rules = [rule(1, {}), rule(2, { probability: 0.5 }), rule(3, {}), rule(4, { probability: 0.1 })];
    expect(bits(rules, true)).toEqual([0, 1, 0, 2]);
    expect(bits(rules, false)).toEqual([0, 0, 0, 0]);
    const many = Array.from({ length: DECIDED_MOST + 2 }, (_, i) => rule(i + 1, { probability: 0.5 }));
    const all = bits(many, true);
    expect(new Set(all).size).toBe(DECIDED_MOST + 1);
    expect(all.slice(DECIDED_MOST)).toEqual([0, 0]);
  });
});

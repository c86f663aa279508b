/** The short way where there are rules: for packets that no rule names. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { CounterBlock } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { countSteps } from '../support/steps.js';

const config = (rules: string) => `
interfaces: [{ name: net0 }]
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.0.0.12] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, backends: [10.0.0.21] }
  - { name: web6, vip: '2001:db8::10', port: 80, protocol: tcp, backends: [10.0.0.11, 'fd00::12'] }
  - { name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, backends: [10.0.0.21] }
rules: [${rules}]
`;

const RULES = [
  '{ name: amplification, match: { protocol: udp, sport: 123 }, action: drop }',
  '{ name: bad, match: { src: 192.0.2.8/30 }, action: drop }',
  '{ name: bad6, match: { src: "2001:db8:1::8/126" }, action: drop }',
  '{ name: friend, match: { src: 192.0.2.16, dport: 80 }, action: pass }',
  '{ name: seen, match: { protocol: tcp, sport: 1000-1003, src: 192.0.2.0/28 }, action: count }',
  '{ name: long, match: { protocol: udp, length: 500-65535, dport: 53 }, action: drop }',
];

const ipv4 = (host: number) => new PacketBuilder().ethernet().ipv4({ src: `192.0.2.${host}`, dst: '198.51.100.10' });

const ipv6 = (host: number) =>
  new PacketBuilder().ethernet().ipv6({ src: `2001:db8:1::${host.toString(16)}`, dst: '2001:db8::10' });

function frame(next: () => number): Uint8Array {
  const pick = (...of: number[]) => of[Math.floor(next() * of.length)];
  const host = pick(1, 2, 8, 9, 11, 12, 16, 100, 101);
  const builder = next() < 0.6 ? ipv4(host) : ipv6(host);
  if (next() < 0.5)
    builder.tcp({
      sport: pick(1000, 1003, 1004, 2000),
      dport: pick(80, 81),
      flags: pick(TCP.SYN, TCP.ACK, TCP.ACK, TCP.ACK),
    });
  else builder.udp({ sport: pick(123, 124, 2000), dport: pick(53, 54) }).payload(pick(0, 40, 471, 472, 600));
  return builder.padTo(64).build();
}

/** Rules for the same packets, and rules that do not simply drop. */
const MIXED = [
  '{ name: tried, match: { src: 192.0.2.8/29 }, action: drop, mode: shadow }',
  '{ name: some, match: { src: 192.0.2.16, protocol: tcp }, action: drop, probability: 0.5 }',
  '{ name: port, match: { dport: 81 }, action: drop }',
  '{ name: range, match: { sport: 1000-1003, src: 192.0.2.0/24 }, action: drop }',
  '{ name: to6, match: { dst: "2001:db8::/64", dport: 54, protocol: udp }, action: drop }',
  '{ name: from6, match: { src: "2001:db8:1::/64", sport: 1004 }, action: drop }',
];
const FEW = [
  '{ name: port, match: { dport: 81 }, action: drop }',
  '{ name: bad6, match: { src: "2001:db8:1::8/125" }, action: drop }',
  '{ name: bad, match: { src: 192.0.2.8/29, protocol: tcp }, action: drop }',
];
const ALLOW = 'allow: [192.0.2.9, "2001:db8:1::9"]';

describe('the short way beside rules', () => {
  it.each([
    ['of all kinds', RULES, ''],
    ['that overlap, and do not simply drop', MIXED, ''],
    ['that are few', FEW, ''],
    ['that are not for everybody', FEW, ALLOW],
  ])('does what the steps do, and counts what they count: rules %s', (_, rules, more) => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const names = rules.map((rule) => /name: (\w+)/.exec(rule)![1]);
    const short = new Lab(config(rules.join(', ')) + more);
    const steps = new Lab(config(rules.join(', ')) + more);
    steps.path.takesShortWay = false;
    const stepped = countSteps(short);
    let packets = 0;
    for (let round = 0; round < 60; round++) {
      const frames = Array.from({ length: 1 + Math.floor(next() * 90) }, () => frame(next));
      packets += frames.length;
      const [one, two] = [short, steps].map((lab) => lab.run(frames));
      // toEqual() takes a hundred times as long, and is for the message.
      if (!isDeepStrictEqual(one, two)) expect(one, `seed ${seed} round ${round}`).toEqual(two);
      const counted = [short, steps].map((lab) =>
        Buffer.from(lab.counters.slice(CounterBlock.rules, CounterBlock.rules + 64).buffer),
      );
      expect(counted[0].equals(counted[1]), `seed ${seed} round ${round}`).toBe(true);
      expect(short.drops(), `seed ${seed} round ${round}`).toEqual(steps.drops());
    }
    for (const name of names) expect(short.rule(name).packets, name).toBeGreaterThan(0);
    // How many take it varies by some with the seed.
    expect(stepped()).toBeLessThan(packets - 25);
  });

  it.each([
    ['none', [], 0],
    ['rules about others', RULES, 0],
    ['one that names it', ['{ name: all, match: { dport: 80 }, action: count }'], 5],
    ['one that names everything', ['{ name: all, match: {}, action: count }'], 5],
  ])('takes packets of a known flow beside rules: %s', (_, rules, expected) => {
    for (const from of [ipv4, ipv6]) {
      const tcp = (flags: number) => from(100).tcp({ sport: 2000, dport: 80, flags }).build();
      const lab = new Lab(config(rules.join(', ')));
      // The second packet of a flow still takes the steps.
      lab.run([tcp(TCP.SYN)]);
      lab.run([tcp(TCP.ACK)]);
      lab.run([tcp(TCP.ACK)]);
      const stepped = countSteps(lab);
      expect(lab.run(Array.from({ length: 5 }, () => tcp(TCP.ACK))).sent[0]).toHaveLength(5);
      expect(stepped()).toBe(expected);
      // A reload that brings a rule is minded at once.
      lab.adopt(config('{ name: no, match: { protocol: tcp, sport: 2000 }, action: drop }'));
      expect(lab.run([tcp(TCP.ACK)]).dropped).toHaveLength(1);
    }
  });

  it.each([
    ['one', ['{ name: no, match: { dport: 80 }, action: drop }'], 0],
    ['the last of many', [...RULES, '{ name: no, match: { dport: 80, src: 192.0.2.100 }, action: drop }'], 0],
    ['one that is tried', ['{ name: no, match: { dport: 80 }, action: drop, mode: shadow }'], 192],
    ['one by a length', ['{ name: no, match: { length: 20-1500 }, action: drop }'], 192],
  ])('drops a flood there, and takes the steps for what it cannot judge: %s', (_, rules, expected) => {
    const lab = new Lab(config(rules.join(', ')));
    const stepped = countSteps(lab);
    const flood = Array.from({ length: 64 }, (_, n) =>
      ipv4(100)
        .tcp({ sport: n + 1, dport: 80, flags: TCP.ACK })
        .build(),
    );
    for (let burst = 0; burst < 3; burst++) lab.run(flood);
    expect(stepped()).toBe(expected);
    expect(lab.rule('no')).toMatchObject({ packets: 192 });
  });
});

/** Rules in the kernel against the data plane's: random rules over random frames, verdicts and counters. */
import { describe, expect, it } from 'vitest';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import type { SanityBefore } from '../../src/control/ebpf/offload/sanity.js';
import { splitOf } from '../../src/control/ebpf/offload/split.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { parsePrefix } from '../../src/shared/addr.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { randomProgram, randomSource, type Random } from '../support/cbpf_programs.js';
import { ALL, CHECKS, compare, DROPPED, inKernel, LEFT } from '../support/kernel_rules.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { randomFrame, randomMatch, ruleProgram } from '../support/rule_packets.js';
import { port, rule } from '../support/rule_configs.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 150);
const FRAMES = 150;
const seed = Number(process.env.SEED ?? 20261121);
/** Those of randomFrame, most of them. */
const PORTS = [0, 1, 22, 53, 80, 123, 443, 1023, 1024, 9999, 32768, 65535];

function randomRule(random: Random, i: number): RuleConfig {
  const match = randomMatch(random);
  const program = random(4) === 0 ? randomProgram(random, randomFrame(random), { length: 12 }) : ruleProgram(random);
  return {
    name: String(i),
    match: random(3) === 0 ? { ...(random(2) ? match : {}), program: { kind: 'expr', text: '', program } } : match,
    action: (['drop', 'drop', 'drop', 'pass', 'count', 'count'] as const)[random(6)],
    mode: random(5) === 0 ? 'shadow' : 'enforce',
    probability: random(20) === 0 ? 0.5 : 1,
  };
}

/** Longer than an Ethernet header; some cut, some with bytes changed, some padded. */
function frameOf(random: Random): Uint8Array {
  const whole = randomFrame(random);
  const kind = random(8);
  const frame = kind === 0 ? whole.slice(0, random(whole.length + 1)) : whole;
  const padded = new Uint8Array(Math.max(14, frame.length + (kind === 1 ? random(20) : 0)));
  padded.set(frame);
  if (kind === 2) padded[random(Math.min(60, padded.length))] = random(256);
  return padded;
}

const udp = (dport: number, src = '192.0.2.1'): Uint8Array =>
  new PacketBuilder().ethernet().ipv4({ src, dst: '198.51.100.10' }).udp({ sport: 1000, dport }).payload(20).build();

describe('rules in the kernel', () => {
  it('decide and count as in the data plane, with what is left to it: random rules and frames', () => {
    const random = randomSource(seed);
    const seen = { drops: 0, offloaded: 0, split: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const count = 1 + random(round % 25 === 0 ? 400 : 12);
      // Now and then nearly all ask for a port, so that they are parted by it.
      const ports = round % 3 === 0;
      const rules = Array.from({ length: ports ? count + 10 : count }, (_, i) => {
        const one = randomRule(random, i);
        if (!ports || random(5) === 0) return one;
        const [low, high] = [PORTS[random(PORTS.length)], PORTS[random(PORTS.length)]].sort((a, b) => a - b);
        const range = { first: low, last: random(3) === 0 ? high : low };
        return { ...one, match: { ...one.match, [random(3) === 0 ? 'sport' : 'dport']: range } };
      });
      const plan = planOffload(new RuleShelf().build(rules, (name) => Number(name)));
      if (splitOf(plan.rules, plan.records) !== null) seen.split++;
      const frames = Array.from({ length: FRAMES }, () => frameOf(random));
      const some: SanityBefore = {
        checks: CHECKS.filter(() => random(2) === 0),
        protocols: random(3) === 0 ? [6, 17, 1].slice(random(3)) : null,
      };
      const sanity = [null, some, ALL][random(3)];
      const { drops, offloaded } = compare(rules, frames, sanity, round % 2 === 0 ? 'direct' : 'helpers', seed);
      seen.drops += drops;
      seen.offloaded += offloaded;
    }
    expect(seen.drops).toBeGreaterThan(ROUNDS * 10);
    // For the others, a rule before has to be asked in user space.
    expect(seen.offloaded).toBeGreaterThan(seen.drops / 3);
    expect(seen.split).toBeGreaterThan(ROUNDS / 20);
  }, 3_600_000);

  it('drop what they name, and count the ones before that only count', () => {
    const rules = [
      rule(0, { protocol: 17 }, { action: 'count' }),
      rule(1, { src: parsePrefix('192.0.2.0/24') }, { mode: 'shadow' }),
      rule(2, { dport: [port(53), port(123)] }),
      rule(3, {}, { action: 'count' }),
    ];
    const frames = [udp(53), udp(123, '203.0.113.1'), udp(80)];
    const { kernel } = compare(rules, frames, ALL, 'direct');
    expect([...kernel.verdicts]).toEqual([DROPPED, DROPPED, LEFT]);
    const bytes = udp(53).length;
    expect([...kernel.counters]).toEqual([
      ...[2, 2 * bytes, 0, 0],
      ...[1, bytes, 1, bytes],
      ...[2, 2 * bytes, 2, 2 * bytes],
      ...[0, 0, 0, 0],
    ]);
  });

  it.each<[string, Partial<RuleConfig>]>([
    ['passes', { action: 'pass' }],
    ['is hit by chance', { probability: 0.5 }],
  ])('leave a packet to user space that a rule before matches that %s', (_, more) => {
    const rules = [rule(0, { dport: port(53) }, more), rule(1, { protocol: 17 })];
    const { kernel } = compare(rules, [udp(53), udp(80)], null, 'direct');
    expect([...kernel.verdicts]).toEqual([LEFT, DROPPED]);
  });

  it('leave what a sanity check objects to, which counts it', () => {
    const frames = [udp(53, '198.51.100.10'), udp(53, '127.0.0.1'), udp(0), udp(53)];
    const { kernel } = compare([rule(0, {})], frames, ALL, 'direct');
    expect([...kernel.verdicts]).toEqual([LEFT, LEFT, LEFT, DROPPED]);
    const unknown = { checks: ['something-new'], protocols: null };
    expect([...inKernel([rule(0, {})], frames, unknown, 'direct').verdicts]).toEqual([LEFT, LEFT, LEFT, LEFT]);
    const none = { checks: [], protocols: [6] };
    expect([...inKernel([rule(0, {})], frames, none, 'direct').verdicts]).toEqual([LEFT, LEFT, LEFT, LEFT]);
  });

  it('are as many as there is room for; the others are left', () => {
    const rules = Array.from({ length: 4000 }, (_, i) => rule(i, { protocol: 17, dport: port(i + 1) }));
    const frames = [udp(1), udp(500), udp(1000), udp(4000), udp(5000)];
    const { kernel } = compare(rules, frames, ALL, 'helpers');
    expect(kernel.written[0]).toBeGreaterThan(1000);
    expect(kernel.written[0]).toBeLessThan(4000);
    expect([...kernel.verdicts]).toEqual([DROPPED, DROPPED, DROPPED, LEFT, LEFT]);
    expect(kernel.verified).toBeLessThan(100_000);
  });
});

describe('the plan', () => {
  it('says of each rule where it runs, and why not in the kernel', () => {
    const program = ruleProgram(randomSource(1));
    const from = (link: 'ip' | 'ethernet') => ({
      program: { kind: 'expr', text: '', program: { ...program, link } } as const,
    });
    const rules = [
      rule(0, from('ethernet')),
      rule(1, from('ip')),
      rule(2, {}, { probability: 0.1 }),
      rule(3, {}, { action: 'pass' }),
      rule(4, {}, { action: 'pass', mode: 'shadow' }),
      ...Array.from({ length: 16 }, (_, i) => rule(5 + i, {}, { action: 'count' })),
    ];
    const plan = planOffload(new RuleShelf().build(rules, (name) => Number(name)));
    const [first, ...others] = plan.records.map(({ step, why }) => (why === '' ? step : why));
    expect([first, ...others.slice(0, 4)]).toEqual([
      'drop',
      'matches from the IP header on (bytecode, p0f, dns)',
      'is hit by chance',
      'passes to the stages behind the rules',
      'mark',
    ]);
    expect(others.slice(4)).toEqual([...Array<string>(15).fill('mark'), '16 rules before it only count']);
  });
});

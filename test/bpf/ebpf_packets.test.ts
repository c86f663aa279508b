/** Packets that are not plain in the kernel's program and in the data plane: every kind of them, whole and spoilt, against random rules. */
import { describe, expect, it } from 'vitest';
import type { SanityBefore } from '../../src/control/ebpf/offload/sanity.js';
import { compileExpression } from '../../src/control/expression/compile.js';
import type { RuleConfig, RuleMatchConfig } from '../../src/shared/config.js';
import { randomSource, type Random } from '../support/cbpf_programs.js';
import { CHECKS, compare, DROPPED, inKernel, LEFT } from '../support/kernel_rules.js';
import { LEFT_ALONE, OBJECTED, spoilt, TAKEN } from '../support/packet_kinds.js';
import { randomMatch } from '../support/rule_packets.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 60);
const seed = Number(process.env.SEED ?? 20261122);

/** The last has a loop, and is left. */
const EXPRESSIONS = [
  ...['icmp', 'icmp6', 'vlan and udp', 'vlan 5', 'vlan 5 and vlan 6 and ip6', 'ip[6:2] & 0x1fff != 0', 'ip proto 47'],
  ...['ip6 proto 44', 'ip6[6] = 60', 'udp port 53', 'tcp[tcpflags] & tcp-syn != 0', 'less 70', 'not ip', 'sctp'],
  ...['icmp[icmptype] = icmp-echo', 'ether[12:2] = 0x88b5', 'ip6 protochain 17'],
];

const programs = EXPRESSIONS.map((text) => {
  const result = compileExpression(text);
  if (!result.ok) throw new Error(`${text}: ${JSON.stringify(result)}`);
  return { kind: 'expr', text, program: result.program } as const;
});

function randomRule(random: Random, i: number): RuleConfig {
  const pick = <T>(from: readonly T[]): T => from[random(from.length)];
  const fields = pick<RuleMatchConfig>([
    randomMatch(random),
    { protocol: pick([1, 58, 47, 50, 132, 17, 6]) },
    { fragment: random(2) === 0, ...(random(2) === 0 && { protocol: pick([6, 17, 1, 47]) }) },
    { length: { first: pick([0, 40, 60]), last: pick([60, 80, 200]) }, ttl: { first: 1, last: pick([1, 64, 255]) } },
    { dport: { first: 0, last: pick([80, 1023, 65535]) }, ...(random(2) === 0 && { fragment: true }) },
    {},
  ]);
  const narrow = Object.values(fields).some((value) => value !== undefined);
  const asks = random(3) === 0 || (!narrow && random(4) > 0);
  return {
    name: String(i),
    match: asks ? { ...fields, program: pick(programs) } : fields,
    action: pick(['drop', 'drop', 'drop', 'drop', 'count', 'pass']),
    mode: random(6) === 0 ? 'shadow' : 'enforce',
    probability: 1,
  };
}

const everything: RuleConfig = { name: '0', match: {}, action: 'drop', mode: 'enforce', probability: 1 };
const built = (random: Random, kinds: typeof TAKEN, each = 1): [string, Uint8Array][] =>
  Object.entries(kinds).flatMap(([name, make]) =>
    Array.from({ length: each }, (): [string, Uint8Array] => [name, make(random).build()]),
  );

describe('packets that are not plain', () => {
  it('meet the rules in the kernel as in the data plane: every kind, whole and spoilt', () => {
    const random = randomSource(seed);
    const dropped = new Map(Object.keys(TAKEN).map((name) => [name, 0]));
    let ofSpoilt = 0;
    for (let round = 0; round < ROUNDS; round++) {
      const rules = Array.from({ length: 1 + random(8) }, (_, i) => randomRule(random, i));
      const whole = [...built(random, TAKEN, 3), ...built(random, LEFT_ALONE), ...built(random, OBJECTED)];
      const frames = whole.map(([, frame]) => frame);
      const others = frames.map((frame) => spoilt(random, frame));
      const some: SanityBefore = {
        checks: [...CHECKS, 'ipv4-options'].filter(() => random(2) === 0),
        protocols: random(3) === 0 ? [1, 6, 17, 47, 58, 132].slice(random(4)) : null,
      };
      const access = round % 2 === 0 ? 'direct' : 'helpers';
      const { kernel } = compare(rules, [...frames, ...others], random(3) === 0 ? null : some, access, seed);
      whole.forEach(([name], i) => {
        if (kernel.verdicts[i] === DROPPED && dropped.has(name)) dropped.set(name, dropped.get(name)! + 1);
      });
      ofSpoilt += kernel.verdicts.slice(frames.length).filter((verdict) => verdict === DROPPED).length;
    }
    // Each kind has been dropped in the kernel again and again.
    expect([...dropped].filter(([, count]) => count < ROUNDS / 10)).toEqual([]);
    expect(ofSpoilt).toBeGreaterThan(ROUNDS);
  }, 3_600_000);

  it('are all dropped by a rule that names nothing; those that are left are left', () => {
    const random = randomSource(seed);
    const [taken, left] = [built(random, TAKEN, 20), built(random, LEFT_ALONE, 10)];
    const all = [...taken, ...left];
    const frames = all.map(([, frame]) => frame);
    const { kernel } = compare([everything], frames, { checks: [], protocols: null }, 'helpers');
    const wrong = all.filter(([name], i) => (kernel.verdicts[i] === DROPPED) !== Object.hasOwn(TAKEN, name));
    expect(wrong.map(([name]) => name)).toEqual([]);
  });

  it.each(Object.keys(OBJECTED))('are left when the sanity check %s objects, and only then', (check) => {
    const random = randomSource(seed);
    const frames = Array.from({ length: 40 }, () => OBJECTED[check](random).build());
    const verdicts = (checks: string[]): number[] => [
      ...new Set(inKernel([everything], frames, { checks, protocols: null }, 'helpers').verdicts),
    ];
    expect(verdicts([check])).toEqual([LEFT]);
    expect(verdicts([])).toEqual([DROPPED]);
  });

  it('are left when their protocol is not allowed', () => {
    const random = randomSource(seed);
    const names = ['ICMP', 'GRE', 'ICMPv6', 'GRE over IPv6', 'not IP'];
    const frames = names.map((name) => TAKEN[name](random).build());
    const { kernel } = compare([everything], frames, { checks: [], protocols: [1, 58] }, 'helpers');
    expect([...kernel.verdicts]).toEqual([DROPPED, LEFT, DROPPED, LEFT, DROPPED]);
  });
});

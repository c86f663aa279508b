/** The index and a look at every rule must agree on every packet: same decision, same counters. */
import { describe, expect, it } from 'vitest';
import { IPV6_EXTENSIONS } from '../../src/control/rule_entries.js';
import { buildRuleIndex } from '../../src/control/rule_index.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { RuleIndex } from '../../src/dataplane/filter/rule_index.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { isExtension } from '../../src/dataplane/packet/parse.js';
import { parsePrefix } from '../../src/shared/addr.js';
import { Code, programOf, type Program } from '../../src/shared/cbpf/program.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, ProtocolKey, RuleCounter } from '../../src/shared/layout.js';
import { randomProgram, randomSource, type Random } from '../support/cbpf_programs.js';
import { BELOW_QUADRATIC, growth } from '../support/growth.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';
import { prefixOf, randomFrame, randomMatch, ruleProgram } from '../support/rule_packets.js';

const ROUNDS = Number(process.env.SLUICE_FUZZ_ROUNDS ?? 60);
const SEED = Number(process.env.SEED ?? 20261121);

/** Rule sets over one table: with the index, and without. Equal seeds, so chance falls equally. */
function pairOf(rules: readonly RuleConfig[]) {
  const tables = new RuleShelf().build(rules, (name) => Number(name));
  const programs = new ProgramShelf().load(tables.programs);
  return [1, Infinity].map((least) => {
    const counters = new Float64Array(CounterBlock.SIZE);
    return { set: new RuleSet(tables, programs, NO_PARTS, counters, new Chance(7), least), counters };
  });
}

function countersOf(counters: Float64Array, rules: number): Buffer {
  return Buffer.from(counters.slice(CounterBlock.rules, CounterBlock.rules + rules * RuleCounter.SIZE).buffer);
}

function randomRule(random: Random, i: number): RuleConfig {
  const match = randomMatch(random);
  const withProgram = random(3) === 0;
  const program = random(4) === 0 ? randomProgram(random, randomFrame(random), { length: 12 }) : ruleProgram(random);
  return {
    name: String(i),
    match: withProgram ? { ...(random(2) ? match : {}), program: { kind: 'expr', text: '', program } } : match,
    action: (['drop', 'pass', 'count', 'count', 'count', 'count'] as const)[random(6)],
    mode: random(4) === 0 ? 'shadow' : 'enforce',
    probability: random(8) === 0 ? 0.5 : 1,
  };
}

/** Whether the short way may take the packet: what plain_headers.ts calls plain. */
function isPlain(packet: Packet): boolean {
  if (packet.vlanTags !== 0 || (packet.protocol !== 6 && packet.protocol !== 17)) return false;
  if (packet.family === 6) return packet.l4 === packet.l3 + 40;
  const { view, l3 } = packet;
  return packet.family === 4 && view.getUint8(l3) === 0x45 && (view.getUint16(l3 + 6) & 0x3fff) === 0;
}

describe('the index', () => {
  it('finds the rules that a look at each finds: random rules and packets', () => {
    const random = randomSource(SEED);
    const seen = { decided: 0, matched: 0, untouched4: 0, untouched6: 0, plain: 0 };
    for (let round = 0; round < ROUNDS; round++) {
      const count = 1 + random(round % 20 === 0 ? 1500 : round % 2 === 0 ? 100 : 6);
      const rules = Array.from({ length: count }, (_, i) => randomRule(random, i));
      const [indexed, linear] = pairOf(rules);
      for (let i = 0; i < 150; i++) {
        const frame = randomFrame(random);
        const packet = parsed(frame);
        if (packet.malformed !== 0) continue;
        const before = countersOf(linear.counters, count);
        const where = `seed ${SEED}, round ${round}, packet ${Buffer.from(frame).toString('hex')}`;
        const decision = linear.set.match(packet, 0);
        if (indexed.set.match(packet, 0) !== decision) expect.fail(`not ${decision}: ${where}`);
        const counted = countersOf(linear.counters, count);
        if (!counted.equals(countersOf(indexed.counters, count))) expect.fail(`other counters: ${where}`);
        const matched = !counted.equals(before);
        if (decision !== 0) seen.decided++;
        if (matched) seen.matched++;
        if (!isPlain(packet)) continue;
        seen.plain++;
        const index = indexed.set.index!;
        const touched =
          packet.family === 4
            ? index.touches4(packet.protocol, packet.src0, packet.dst0, packet.ports)
            : index.touches6(packet.view, packet.l3);
        if (!touched) seen[packet.family === 4 ? 'untouched4' : 'untouched6']++;
        if (matched && !touched) expect.fail(`the short way would not see it: ${where}`);
      }
    }
    expect(seen.decided).toBeGreaterThan(ROUNDS * 10);
    expect(seen.matched).toBeGreaterThan(seen.decided);
    expect(seen.plain).toBeGreaterThan(ROUNDS * 10);
    expect(seen.untouched4).toBeGreaterThan(ROUNDS);
    expect(seen.untouched6).toBeGreaterThan(ROUNDS);
  }, 600_000);

  /** How many records the index leaves to compare. */
  function candidates(rules: readonly RuleConfig[], frame: Uint8Array): number {
    const tables = new RuleShelf().build(rules, (name) => Number(name));
    const index = new RuleIndex(tables.ruleIndex!);
    index.locate(parsed(frame));
    let bits = 0;
    for (let w = index.summaryWords; w < index.summaryWords + ((index.summaryWords * 32) | 0); w++) {
      const { words, protocol, sport, dport, src, dst } = index;
      if (dst + w >= words.length) break;
      let word = words[protocol + w] & words[sport + w] & words[dport + w] & words[src + w] & words[dst + w];
      for (; word !== 0; word &= word - 1) bits++;
    }
    return bits;
  }

  const frame = new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.9', dst: '198.51.100.10' })
    .udp({ sport: 53, dport: 4000 })
    .build();

  it.each<[string, (i: number) => RuleConfig['match']]>([
    ['ports', (i) => ({ protocol: 17, dport: { first: i, last: i } })],
    ['sources', (i) => ({ src: prefixOf(4, 0xc0000000 + i * 256, 24) })],
    ['programs', (i) => ({ program: { kind: 'expr', text: '', program: toPort(i) } })],
  ])('leaves few of a thousand rules by %s', (_, matchOf) => {
    const rules = Array.from({ length: 1000 }, (_, i): RuleConfig => ({
      name: String(i),
      match: matchOf(i),
      action: 'drop',
    }));
    expect(candidates(rules, frame)).toBeLessThanOrEqual(1);
  });

  it('finds a program over layer 3 behind a tag and before an extension header', () => {
    const program = programOf('ip', [
      [Code.LD_B_ABS, 0, 0, 6],
      [Code.JEQ_K, 0, 3, 60],
      [Code.LD_H_ABS, 0, 0, 42],
      [Code.JEQ_K, 0, 1, 0x0104],
      [Code.RET_K, 0, 0, 1],
      [Code.RET_K, 0, 0, 0],
    ]);
    const match = { protocol: 17, program: { kind: 'expr', text: '', program } } as const;
    const [indexed] = pairOf([{ name: '0', match, action: 'count' }]);
    const inner = (builder: PacketBuilder) => parsed(builder.ipv6().extension(60).udp().build());
    indexed.set.match(inner(new PacketBuilder().ethernet()), 0);
    indexed.set.match(inner(new PacketBuilder().ethernet().vlan(5)), 0);
    expect(indexed.counters[CounterBlock.rules]).toBe(2);
  });

  it('has the extension headers that the parser follows', () => {
    const followed = [...Array(256).keys()].filter(isExtension);
    expect(IPV6_EXTENSIONS.map(({ lo, hi }) => [lo, hi])).toEqual(
      followed.map((next) => [next, next].map((n) => n + ProtocolKey.ipv6)),
    );
  });

  it('is made of none where there are no rules, and stays as it is where they do', () => {
    expect(buildRuleIndex(new Int32Array(4), [])).toBeNull();
    const shelf = new RuleShelf();
    const rules: RuleConfig[] = [{ name: '0', match: { src: parsePrefix('192.0.2.0/24') }, action: 'drop' }];
    const first = shelf.build(rules, () => 0);
    const again = shelf.build(structuredClone(rules), () => 0);
    expect(again).toBe(first);
    const other = shelf.build([{ ...rules[0], action: 'pass' }], () => 0);
    expect(other.ruleStamp).not.toBe(first.ruleStamp);
  });

  it('takes 4,096 rules with an address, a port and a program each, in nearly linear time', () => {
    const rulesOf = (count: number): RuleConfig[] =>
      Array.from({ length: count }, (_, i) => ({
        name: String(i),
        match: { src: prefixOf(4, 0x0a000000 + i, 32), program: { kind: 'expr', text: '', program: toPort(i) } },
        action: 'drop',
      }));
    const rules = new Map([512, 4096].map((count) => [count, rulesOf(count)]));
    const exponent = growth(
      (count) => {
        const tables = new RuleShelf().build(rules.get(count)!, (name) => Number(name));
        expect(tables.ruleIndex!.words.byteLength).toBeLessThan(16 << 20);
      },
      512,
      4096,
    );
    expect(exponent).toBeLessThan(BELOW_QUADRATIC);
  });
});

/** `ip and udp dst port PORT`, as libpcap compiles it. */
function toPort(port: number): Program {
  return programOf('ethernet', [
    [Code.LD_H_ABS, 0, 0, 12],
    [Code.JEQ_K, 0, 8, 0x800],
    [Code.LD_B_ABS, 0, 0, 23],
    [Code.JEQ_K, 0, 6, 17],
    [Code.LD_H_ABS, 0, 0, 20],
    [Code.JSET_K, 4, 0, 0x1fff],
    [Code.LDX_MSH, 0, 0, 14],
    [Code.LD_H_IND, 0, 0, 16],
    [Code.JEQ_K, 0, 1, port],
    [Code.RET_K, 0, 0, 1],
    [Code.RET_K, 0, 0, 0],
  ]);
}

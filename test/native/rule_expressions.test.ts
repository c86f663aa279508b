/** The whole corpus of expressions as rules, over frames of all kinds: each rule counts exactly the frames that its program matches. */
import { describe, expect, it } from 'vitest';
import { compileExpressions } from '../../src/control/expression/compile.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { ProgramShelf } from '../../src/dataplane/filter/programs.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { Packet, PacketFlag } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import type { PacketMatch } from '../../src/shared/cbpf/program.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock, RuleCounter } from '../../src/shared/layout.js';
import { expressionFrames } from '../support/expression_frames.js';
import { EXPRESSIONS } from '../support/expressions.js';

const CHUNK = 4096;

const rules = compileExpressions(EXPRESSIONS).map((result, i): RuleConfig => {
  if (!result.ok) throw new Error(`${EXPRESSIONS[i]}: ${result.error}`);
  const { program } = result;
  return { name: String(i), match: { program: { kind: 'expr', text: EXPRESSIONS[i], program } }, action: 'count' };
});

/** Frames as a worker has them, those that the parser takes: no rule sees the others. */
const packets = expressionFrames()
  .filter(({ data }) => data.length >= 14 && data.length <= CHUNK - 256)
  .map(({ data }) => {
    const packet = new Packet(new DataView(new ArrayBuffer(CHUNK)), CHUNK);
    new Uint8Array(packet.view.buffer).set(data, 256);
    packet.place(256, data.length);
    return packet;
  })
  .filter((packet) => parse(packet) === 0);

function expected(packet: Packet): boolean[] {
  const { view, data, length } = packet;
  return rules.map(({ match }) => interpret(match.program!.program, view, data, length, length) !== 0);
}

describe('expressions as rules', () => {
  it('are many, over many frames', () => {
    expect(rules.length).toBeGreaterThan(500);
    expect(packets.length).toBeGreaterThan(150);
  });

  it('count each the frames that they match', () => {
    const counters = new Float64Array(CounterBlock.SIZE);
    const tables = new RuleShelf().build(rules, Number);
    const set = new RuleSet(tables, new ProgramShelf().load(tables.programs), NO_PARTS, counters, new Chance(1));
    const counted = (rule: number) => counters[CounterBlock.rules + rule * RuleCounter.SIZE];
    let matches = 0;
    packets.forEach((packet, n) => {
      const before = rules.map((_, rule) => counted(rule));
      set.match(packet, 0);
      const want = expected(packet);
      const wrong = EXPRESSIONS.filter((_, rule) => counted(rule) - before[rule] !== (want[rule] ? 1 : 0));
      expect(wrong, `frame ${n}`).toEqual([]);
      matches += want.filter(Boolean).length;
    });
    expect(matches).toBeGreaterThan(packets.length * 10);
  }, 60_000);

  const V4 = 0xc0000201 | 0;
  const bare = (packet: Packet) =>
    packet.family === 0 || packet.vlanTags > 0 || (packet.flags & PacketFlag.hasPorts) === 0;

  it.each<[string, (packet: Packet) => boolean]>([
    ['udp src port 53', (packet) => bare(packet) || (packet.protocol === 17 && packet.sourcePort === 53)],
    [
      'udp port 53',
      (packet) => bare(packet) || (packet.protocol === 17 && [packet.sourcePort, packet.destinationPort].includes(53)),
    ],
    [
      'tcp dst portrange 1000-2000',
      (packet) => bare(packet) || (packet.destinationPort >= 1000 && packet.destinationPort <= 2000),
    ],
    ['ip proto 47', (packet) => packet.family === 4 && packet.vlanTags === 0 && packet.protocol === 47],
    ['ip dst host 192.0.2.1', (packet) => packet.family === 4 && packet.dst0 === V4],
    ['ip src net 10.0.0.0/8', (packet) => packet.family === 4 && packet.src0 >>> 24 === 10],
    ['ip6 src net 2001:db8::/32', (packet) => packet.family === 6 && packet.src0 === 0x20010db8],
  ])('stand aside where it takes no program to tell: %s', (expression, allows) => {
    const [result] = compileExpressions([expression]);
    if (!result.ok) throw new Error(result.error);
    const match = { program: { kind: 'expr', text: expression, program: result.program } } as const;
    const tables = new RuleShelf().build([{ name: '0', match, action: 'count' }], Number);
    let tried = 0;
    const spy: PacketMatch = () => {
      tried++;
      return 0;
    };
    const counters = new Float64Array(CounterBlock.SIZE);
    const set = new RuleSet(tables, [{ match: spy, wantsFrame: true }], NO_PARTS, counters, new Chance(1), 1);
    const wrong = packets.filter((packet) => {
      const before = tried;
      set.match(packet, 0);
      return tried > before && !allows(packet);
    });
    expect(wrong).toHaveLength(0);
    expect(tried).toBeGreaterThan(0);
    expect(tried).toBeLessThan(packets.length);
  });
});

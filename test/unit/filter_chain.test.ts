import { beforeEach, describe, expect, it } from 'vitest';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { FilterChain, type Stage } from '../../src/dataplane/filter/chain.js';
import { FilterVerdict, type PacketFilter } from '../../src/dataplane/filter/contract.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import { DROP_REASONS } from '../../src/dataplane/verdict.js';
import { CounterBlock, RuleAction, RuleCounter, RuleField, RuleMatch } from '../../src/shared/layout.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

let counters: Float64Array;
let calls: string[];
beforeEach(() => {
  counters = new Float64Array(CounterBlock.SIZE);
  calls = [];
});

const sanity = (): Stage => ({ sanity: new SanityFilter(['tcp-flags'], null), rules: null, module: null });
const asked = (name: string, verdict: FilterVerdict): Stage => module(() => (calls.push(name), verdict));
const module = (filter: PacketFilter): Stage => ({ sanity: null, rules: null, module: filter });

/** One rule for packets to a port. */
function rules(port: number, action: RuleAction): Stage {
  const shared = new SharedArrayBuffer((RuleField.HEADER + RuleField.STRIDE) * 4);
  const words = new Int32Array(shared);
  words[0] = 1;
  words.set([RuleMatch.dport, action, 5], RuleField.HEADER);
  words.set([port, port], RuleField.HEADER + RuleField.dportFirst);
  const tables = { rules: shared, ruleIndex: null, ruleSets: new SharedArrayBuffer(0) };
  return { sanity: null, rules: new RuleSet(tables, [], NO_PARTS, counters, new Chance(1)), module: null };
}

const tcp = (dport: number, flags: number = TCP.SYN) =>
  parsed(new PacketBuilder().ethernet().ipv4().tcp({ sport: 9, dport, flags }).build());

const chain = (...stages: Stage[]) => new FilterChain(stages, counters);
const dropped = (position: number) => counters[CounterBlock.filters + position];

/** What it says, and of a drop why. */
function run(filters: FilterChain, packet = tcp(80)): [verdict: FilterVerdict, reason: string | null] {
  const verdict = filters.run(packet, 0);
  return [verdict, verdict === FilterVerdict.Drop ? DROP_REASONS[filters.reason] : null];
}

const { Continue, Drop, Pass, Tx, Aborted } = {
  Continue: FilterVerdict.Continue,
  Drop: FilterVerdict.Drop,
  Pass: FilterVerdict.Pass,
  Tx: FilterVerdict.Tx,
  Aborted: FilterVerdict.Aborted,
};

describe('a chain', () => {
  it('lets pass what no filter decides on, in order', () => {
    expect(run(chain())).toEqual([Continue, null]);
    expect(run(chain(sanity(), asked('a', Continue), rules(81, RuleAction.drop), asked('b', Continue)))).toEqual([
      Continue,
      null,
    ]);
    expect(calls).toEqual(['a', 'b']);
  });

  it.each([Drop, Pass, Tx] as const)('ends with the first word, %i', (verdict) => {
    const filters = chain(asked('a', Continue), asked('b', verdict), asked('c', Drop));
    expect(run(filters)[0]).toBe(verdict);
    expect(calls).toEqual(['a', 'b']);
  });

  it('names why: the check, the rule, or the filter by its position', () => {
    const filters = chain(sanity(), rules(80, RuleAction.drop), asked('a', Drop));
    expect(run(filters, tcp(80, 0))).toEqual([Drop, 'sanity_tcp_flags']);
    expect(run(filters, tcp(80))).toEqual([Drop, 'rule']);
    expect(run(filters, tcp(81))).toEqual([Drop, 'filter']);
    expect([dropped(0), dropped(1), dropped(2)]).toEqual([0, 0, 1]);
    expect(counters[CounterBlock.rules + 5 * RuleCounter.SIZE]).toBe(1);
  });

  it('takes its built-in filters in any order and number', () => {
    const filters = chain(asked('a', Continue), sanity(), rules(80, RuleAction.drop), sanity());
    expect(run(filters, tcp(80, 0))).toEqual([Drop, 'sanity_tcp_flags']);
    expect(run(filters, tcp(80))).toEqual([Drop, 'rule']);
    expect(calls).toEqual(['a', 'a']);
    expect(run(chain(asked('b', Drop), sanity()), tcp(80, 0))).toEqual([Drop, 'filter']);
    expect(dropped(0)).toBe(1);
  });

  it('counts drops of each of many filters, the last of them together', () => {
    for (let position = 0; position < 70; position++) {
      const stages = Array.from({ length: 70 }, (_, i) => asked(`${i}`, i === position ? Drop : Continue));
      expect(run(chain(...stages))).toEqual([Drop, 'filter']);
    }
    expect(dropped(0)).toBe(1);
    expect(dropped(62)).toBe(1);
    expect(dropped(63)).toBe(7);
  });

  it('aborts on a filter’s own word, and throws on what is none', () => {
    expect(chain(asked('a', Aborted)).run(tcp(80), 0)).toBe(Aborted);
    for (const nonsense of [undefined, null, 'Drop', 4, 99, NaN, {}]) {
      expect(() => chain(module(() => nonsense as FilterVerdict)).run(tcp(80), 0)).toThrow(/which is no FilterVerdict/);
    }
    expect(() => chain(module(() => { throw new RangeError('mine'); })).run(tcp(80), 0)).toThrow(RangeError); // prettier-ignore
  });

  it('a pass rule shields from later rules of its table, not from later filters', () => {
    expect(run(chain(rules(80, RuleAction.pass), asked('a', Drop)))).toEqual([Drop, 'filter']);
    expect(run(chain(rules(80, RuleAction.count), rules(80, RuleAction.drop)))).toEqual([Drop, 'rule']);
  });
});

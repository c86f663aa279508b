/** The stages of mitigation in a chain: who is asked after whom, and what each word means. */
import { beforeEach, describe, expect, it } from 'vitest';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { Chance } from '../../src/dataplane/filter/chance.js';
import { FilterChain, type Stage } from '../../src/dataplane/filter/chain.js';
import { FilterVerdict } from '../../src/dataplane/filter/contract.js';
import { NO_MITIGATION, type Mitigation } from '../../src/dataplane/filter/mitigation.js';
import { NO_PARTS } from '../../src/dataplane/filter/rule_parts.js';
import { RuleSet } from '../../src/dataplane/filter/rules.js';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { DROP_REASONS, DropReason } from '../../src/dataplane/verdict.js';
import type { RuleConfig } from '../../src/shared/config.js';
import { CounterBlock } from '../../src/shared/layout.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

let calls: string[];
let counters: Float64Array;
beforeEach(() => {
  calls = [];
  counters = new Float64Array(CounterBlock.SIZE);
});

function rules(...configs: Omit<RuleConfig, 'name'>[]): Stage {
  const named = configs.map((rule, i) => ({ ...rule, name: String(i) }));
  const tables = new RuleShelf().build(named, Number, { limit: () => 0, challenge: true });
  const limits = [{ judge: () => (calls.push('limit'), 1) }];
  const set = new RuleSet(tables, [], { ...NO_PARTS, limits }, counters, new Chance(1));
  return { sanity: null, rules: set, module: null };
}

const sanity = (): Stage => ({ sanity: new SanityFilter(['tcp-flags'], null), rules: null, module: null });
const module = (name: string, verdict = FilterVerdict.Continue): Stage => ({
  sanity: null,
  rules: null,
  module: () => (calls.push(name), verdict),
});
const stage = (name: string, says = 0) => ({
  judge: (_: Packet, nowMs: number) => (calls.push(`${name}@${nowMs}`), says),
});
const tcpStage = (says = 0, tracks = true) => ({
  judge: (_: Packet, __: number, challenged: boolean) => (calls.push(challenged ? 'tcp!' : 'tcp'), says),
  tracks,
  takeBack: () => void calls.push('back'),
  prefetch: () => void calls.push('prefetch'),
});
const allow = (holds: boolean) => ({ has: () => (calls.push('allow'), holds), counts: false, prefixes: null });

const all = (changes: Partial<Mitigation> = {}): Mitigation => ({
  allow: allow(false),
  sets: stage('sets'),
  tcp: tcpStage(),
  fairShare: stage('fair'),
  limits: stage('limits'),
  plain: null,
  ...changes,
});

const syn = parsed(new PacketBuilder().ethernet().ipv4().tcp({ dport: 80, flags: TCP.SYN }).build());
const bogus = parsed(new PacketBuilder().ethernet().ipv4().tcp({ dport: 80, flags: 0 }).build());

function run(mitigation: Mitigation, stages: Stage[] = [sanity(), rules()], packet = syn): string {
  const chain = new FilterChain(stages, counters, mitigation);
  const verdict = chain.run(packet, 7);
  if (verdict === FilterVerdict.Drop) return DROP_REASONS[chain.reason];
  return verdict === FilterVerdict.Continue ? 'on' : verdict === FilterVerdict.Tx ? 'tx' : String(verdict);
}

describe('the stages', () => {
  it('are asked in order, with the clock of the burst', () => {
    expect(run(all(), [sanity(), module('before'), rules(), module('after')])).toBe('on');
    expect(calls).toEqual(['allow', 'before', 'sets@7', 'tcp', 'fair@7', 'limits@7', 'after']);
  });

  it.each<[Partial<Mitigation>, string, string[]]>([
    [{ sets: stage('sets', DropReason.set) }, 'set', ['allow', 'sets@7']],
    [{ tcp: tcpStage(DropReason.tcpNotFound) }, 'tcp_not_found', ['allow', 'sets@7', 'tcp']],
    [{ tcp: tcpStage(-1) }, 'tx', ['allow', 'sets@7', 'tcp']],
    [{ fairShare: stage('fair', 1) }, 'fair_share', ['allow', 'sets@7', 'tcp', 'fair@7', 'back']],
    [
      { limits: stage('limits', DropReason.connectionLimit) },
      'connection_limit',
      ['allow', 'sets@7', 'tcp', 'fair@7', 'limits@7', 'back'],
    ],
  ])('end it with their word', (changes, verdict, asked) => {
    expect(run(all(changes))).toBe(verdict);
    expect(calls).toEqual(asked);
  });

  it('come behind the sanity checks and around the rules', () => {
    expect(run(all(), undefined, bogus)).toBe('sanity_tcp_flags');
    expect(calls).toEqual(['allow']);
    calls = [];
    expect(run(all(), [sanity(), rules({ match: {}, action: 'drop' })])).toBe('rule');
    expect(calls).toEqual(['allow', 'sets@7']);
    calls = [];
    expect(run(all(), [sanity(), rules({ match: {}, action: 'limit' })])).toBe('limited');
    expect(calls).toEqual(['allow', 'sets@7', 'limit']);
  });

  it('still judge what a rule passes, and are told what a rule wants challenged', () => {
    expect(run(all(), [rules({ match: {}, action: 'pass' }, { match: {}, action: 'drop' })])).toBe('on');
    expect(calls).toEqual(['allow', 'sets@7', 'tcp', 'fair@7', 'limits@7']);
    calls = [];
    expect(run(all(), [rules({ match: {}, action: 'challenge' }, { match: {}, action: 'drop' })])).toBe('on');
    expect(calls).toContain('tcp!');
  });

  it('and the checks and rules are all skipped by what the allow list has; modules are not', () => {
    const stages = () => [
      sanity(),
      module('mine'),
      rules({ match: {}, action: 'drop' }),
      module('last', FilterVerdict.Pass),
    ];
    expect(run(all({ allow: allow(true) }), stages(), bogus)).toBe(String(FilterVerdict.Pass));
    expect(calls).toEqual(['allow', 'mine', 'last']);
    expect(run(all({ allow: allow(true) }), [sanity(), rules()], bogus)).toBe('on');
  });

  it('take the short way from every packet, as a module does; rules leave it to those they do not name', () => {
    const chain = (stages: Stage[], mitigation = NO_MITIGATION) => new FilterChain(stages, counters, mitigation);
    const ruled = rules({ match: { dport: { first: 80, last: 80 } }, action: 'drop' });
    expect(chain([sanity(), rules()]).onlyRules).toBe(true);
    expect(chain([sanity(), rules()]).ruleIndex).toBeNull();
    expect(chain([sanity(), ruled]).onlyRules).toBe(true);
    expect(chain([sanity(), ruled]).ruleIndex).toBe(ruled.rules!.index);
    expect(chain([sanity(), ruled, module('mine')]).onlyRules).toBe(false);
    expect(chain([ruled, sanity()]).onlyRules).toBe(false);
    for (const key of ['sets', 'tcp', 'fairShare', 'limits'] as const) {
      expect(chain([sanity(), rules()], { ...NO_MITIGATION, [key]: all()[key] }).onlyRules, key).toBe(false);
    }
    // Packets in the middle of a flow are not its business; and what is allowed is allowed there as well.
    expect(chain([sanity(), rules()], { ...NO_MITIGATION, tcp: tcpStage(0, false) }).onlyRules).toBe(true);
    expect(chain([sanity(), rules()], { ...NO_MITIGATION, allow: allow(true) }).onlyRules).toBe(true);
  });
});

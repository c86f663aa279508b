import { describe, expect, it } from 'vitest';
import { placements } from '../../src/control/ebpf/offload/placement.js';
import { planOffload } from '../../src/control/ebpf/offload/plan.js';
import { capturedRules, dropRules, sanityBefore, standsBefore } from '../../src/control/manager/offload_limits.js';
import { MitigationShelf } from '../../src/control/mitigation/shelf.js';
import { RuleShelf } from '../../src/control/rule_tables.js';
import { DropReason, Verdict } from '../../src/dataplane/verdict.js';
import { parsePrefix } from '../../src/shared/addr.js';
import { CapturePoint, type CaptureSpec } from '../../src/shared/capture_spec.js';
import type { RuleConfig } from '../../src/shared/config.js';
import type { FilterSpec } from '../../src/shared/layout.js';
import { parseRate } from '../../src/shared/limits/rate.js';
import { NO_MITIGATION_TABLES } from '../../src/shared/mitigation_layout.js';
import { port, rule } from '../support/rule_configs.js';

const tablesOf = (...rules: RuleConfig[]) => new RuleShelf().build(rules, (name) => Number(name));

describe('where a rule runs', () => {
  it('is the kernel for what it drops there, both for what only counts before it, and user space for the rest', () => {
    const tables = tablesOf(
      rule(0, { protocol: 17 }, { action: 'count' }),
      rule(1, { dport: [port(53), port(123)] }),
      rule(2, { protocol: 1, fragment: true }),
      rule(3, { protocol: 17, tcpFlags: { mask: 2, value: 2 } }),
      rule(4, { src: parsePrefix('192.0.2.0/24') }, { probability: 0.5 }),
      rule(5, { dport: port(80) }),
      rule(6, {}, { action: 'count' }),
    );
    const placed = (cut?: Set<number>, captured?: Set<number>) =>
      [...placements(planOffload(tables, captured), cut)].map(([id, { runs, why }]) => `${id} ${runs}: ${why}`);
    const counted = 'is counted in the kernel when a later rule drops the packet there';
    const all = [
      `0 both: ${counted}`,
      '1 kernel: ',
      '2 kernel: ',
      '3 user space: matches no packet',
      '4 user space: is hit by chance',
      '5 kernel: ',
      '6 user space: has no rule behind it that drops in the kernel',
    ];
    expect(placed()).toEqual(all);
    expect(placed(new Set([5]))).toEqual(all.with(5, '5 both: has no room in the program'));
    expect(placed(new Set(), new Set([1]))).toEqual(all.with(1, '1 user space: is captured'));
    const none = placed(new Set(), new Set([1, 2, 5]));
    expect(none[0]).toBe('0 user space: has no rule behind it that drops in the kernel');
    expect(dropRules(tables)).toEqual([1, 2, 3, 4, 5]);
  });
});

describe('a rule that draws or meters', () => {
  const limited = (per: ('src' | 'dst')[]) => ({ action: 'limit', limit: { rate: parseRate('10/s'), per } }) as const;
  const rules = [
    rule(0, { protocol: 17 }, { probability: 0.5 }),
    rule(1, { dport: port(53) }, limited(['src'])),
    rule(2, { dport: port(80) }, { ...limited([]), mode: 'shadow' }),
    rule(3, {}, limited([])),
    rule(4, { family: 6 }, { action: 'count' }),
    rule(5, { protocol: 6, dport: port(443) }),
  ];
  const placed = (decides: boolean): string[] => {
    const shelf = new MitigationShelf();
    shelf.begin([0]);
    const tables = new RuleShelf().build(rules, (name) => Number(name), { ...shelf.ruleParts(rules), decides });
    expect(dropRules(tables)).toEqual([0, 1, 3, 5]);
    return [...placements(planOffload(tables)).values()].map(({ runs, why }) => (why === '' ? runs : why));
  };

  it('is in the kernel, unless its packets are in both, when the workers know of it', () => {
    expect(placed(true)).toEqual([
      'kernel',
      'kernel',
      'limits in shadow mode',
      'stands behind a rule that only user space carries out',
      'is counted in the kernel when a later rule drops the packet there',
      'kernel',
    ]);
    expect(placed(false).slice(0, 4)).toEqual(['is hit by chance', 'limits', 'limits', 'limits']);
  });
});

describe('what keeps rules out of the kernel', () => {
  const sanity: FilterSpec = { kind: 'sanity', checks: ['land'], protocols: [6, 17] };
  const module: FilterSpec = { kind: 'module', name: 'mine', url: '', options: null };
  const rules: FilterSpec = { kind: 'rules' };
  const tables = (filters: FilterSpec[], more: object = {}) =>
    ({
      ...tablesOf(),
      filters,
      mitigation: NO_MITIGATION_TABLES,
      setDrops: [],
      setAllows: [],
      settings: { decapsulate: { addresses: [] } },
      ...more,
    }) as unknown as Parameters<typeof standsBefore>[0];

  it.each<[string, FilterSpec[], object, string]>([
    ['nothing', [sanity, rules, module], {}, ''],
    ['no filter for them', [sanity, module], {}, 'no filter applies the rules'],
    ['a module', [sanity, module, rules], {}, 'the filter mine stands before the rules'],
    ['sanity checks twice', [sanity, sanity, rules], {}, 'several sanity filters stand before the rules'],
    [
      'decapsulation',
      [rules],
      { settings: { decapsulate: { addresses: [{}] } } },
      'packets are decapsulated before the rules',
    ],
  ])('%s', (_, filters, more, why) => {
    expect(standsBefore(tables(filters, more))).toBe(why);
  });

  it('not sanity checks, which are known there when they come first', () => {
    expect(sanityBefore([sanity, rules])).toEqual({ checks: ['land'], protocols: [6, 17] });
    expect(sanityBefore([rules, sanity])).toBeNull();
  });

  it('captures that may ask for what they drop', () => {
    const spec = (more: Partial<CaptureSpec>): CaptureSpec => ({
      ...{ capture: 0, serial: 1, points: CapturePoint.in, ports: 1, verdicts: 0, reasons: [], rules: null },
      ...{ services: null, program: null, oneIn: 0, first: 0, rate: 0, snaplen: 100 },
      ...more,
    });
    const none = { all: false, sets: false, rules: new Set() };
    expect(capturedRules([])).toEqual(none);
    expect(capturedRules([spec({})])).toEqual({ ...none, all: true, sets: true });
    expect(capturedRules([spec({ reasons: [DropReason.set] })])).toEqual({ ...none, sets: true });
    expect(capturedRules([spec({ verdicts: 1 << Verdict.Drop, reasons: [DropReason.rule] })]).all).toBe(true);
    expect(capturedRules([spec({ reasons: [DropReason.limited] })]).all).toBe(true);
    expect(capturedRules([spec({ verdicts: 1 << Verdict.Tx }), spec({ reasons: [DropReason.fairShare] })])).toEqual(
      none,
    );
    expect(capturedRules([spec({ rules: [3, 5] }), spec({ rules: [5, 7] })])).toEqual({
      ...none,
      rules: new Set([3, 5, 7]),
    });
  });
});

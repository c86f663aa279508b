/** The drop bench's account of packets: a trial with one too few is no number. */
import { describe, expect, it } from 'vitest';
import { dropCases, FLOWS, RULE, SOURCES } from '../../bench/drop/cases.js';
import { account, type DropResult } from '../../bench/drop/run.js';
import { dropRows } from '../../bench/drop/show.js';
import { formatTable } from '../../bench/statistics.js';
import { parseConfig } from '../../src/control/config/index.js';
import { sourceAddresses } from '../../src/generator/load.js';
import { parsePrefix } from '../../src/shared/addr.js';

const LOAD = { packets: 1000, sent: 990, dropped: 10 };
const KERNEL = { seen: 990, dropped: 990, inKernel: 990, lost: 0 };
const WORKERS = { seen: 990, dropped: 400, inKernel: 0, lost: 590 };
const AUTO = { by: 'daemon', offload: 'auto', spare: 0 } as const;
const OFF = { by: 'daemon', offload: 'off', spare: 0 } as const;

describe('the account of a trial', () => {
  it('is right when each packet was dropped, or lost where losses are counted', () => {
    expect(account(AUTO, LOAD, KERNEL)).toBe('');
    expect(account(OFF, LOAD, WORKERS)).toBe('');
    expect(account({ ...AUTO, spare: 5 }, LOAD, { ...KERNEL, dropped: 985 })).toBe('');
  });

  it.each([
    ['nothing was dropped', OFF, LOAD, { ...WORKERS, dropped: 0, lost: 990 }],
    ['the interface did not get all packets that were made', AUTO, { ...LOAD, packets: 1001 }, KERNEL],
    ['the receiver did not meet all packets that were sent', AUTO, { ...LOAD, sent: 991, dropped: 9 }, KERNEL],
    ['packets were neither dropped by the rule nor lost', AUTO, LOAD, { ...KERNEL, dropped: 989 }],
    ['packets were neither dropped by the rule nor lost', OFF, LOAD, { ...WORKERS, lost: 591 }],
    ['packets were neither dropped by the rule nor lost', { ...AUTO, spare: 5 }, LOAD, { ...KERNEL, dropped: 984 }],
    ['rules ran in the kernel, which were meant not to', OFF, LOAD, KERNEL],
  ] as const)('says that %s', (said, by, load, counted) => {
    expect(account(by, load, counted)).toContain(said);
  });
});

describe('the cases', () => {
  const cases = dropCases(true);

  it('are configurations that sluice takes, and drop by the rules that are counted', () => {
    // Those without offload have the same rules.
    for (const { name, rules, sets, offload } of cases.filter(({ offload: where }) => where === 'auto')) {
      const text = { interfaces: ['d0'], services: [], filters: ['sanity', 'rules'], rules, offload, sets };
      expect(parseConfig(JSON.stringify(text)).rules.at(-1)!.name, name).toBe(RULE);
    }
  });

  it('are the same with and without offload, and have names of their own', () => {
    const of = (offload: string) => cases.filter(({ by, offload: where }) => by === 'daemon' && where === offload);
    expect(of('auto').map(({ rules }) => rules)).toEqual(of('off').map(({ rules }) => rules));
    expect(new Set(cases.map(({ name }) => name)).size).toBe(cases.length);
  });

  it('have the address of each flow in each set', () => {
    expect(sourceAddresses({ source: parsePrefix(SOURCES), flows: FLOWS })).toBe(FLOWS);
    for (const { sets } of cases.filter(({ sets: some }) => some.length > 0)) {
      const entries = new Set((sets[0] as { entries: string[] }).entries);
      const last = `198.18.${(FLOWS - 1) >> 8}.${(FLOWS - 1) & 255}`;
      expect([entries.has('198.18.0.0'), entries.has(last)]).toEqual([true, true]);
      expect(entries.size).toBeGreaterThanOrEqual(FLOWS);
    }
  });
});

it('prints no ratio for what had a rate of its own', () => {
  const same = { median: 2e6, min: 1e6, max: 3e6 };
  const one = { median: 1, min: 1, max: 1 };
  const spreads = { offered: same, dropped: same, senderNs: one, daemonNs: one, ratio: one, aboveNs: one };
  const result = (rate: number): DropResult => ({ name: `at ${rate}`, rate, runs: 'kernel', rounds: [], ...spreads });
  const [fast, slow] = formatTable(dropRows([result(0), result(100)]))
    .split('\n')
    .slice(2);
  expect(fast).toMatch(/^at 0 .* kernel {2}2\.00 \[1\.00\.\.3\.00\] .* 1\.00 \[1\.00\.\.1\.00\] /);
  expect(slow).not.toContain('1.00 [1.00..1.00]');
});

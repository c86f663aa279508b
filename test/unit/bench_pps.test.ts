/** The pps bench's account of packets, its cases and its ratios: a trial with one packet too few is no number. */
import { describe, expect, it } from 'vitest';
import { MODES, type Mode } from '../../src/bench/modes.js';
import { account, accountKernel, since } from '../../bench/pps/account.js';
import { bytesCounted, leavesBy, ppsCases, type PpsCase } from '../../bench/pps/cases.js';
import { summaries, type PpsTrial } from '../../bench/pps/run.js';
import { ppsRows } from '../../bench/pps/show.js';
import { formatTable } from '../../bench/statistics.js';

const LOAD = { packets: 1000, sent: 990, dropped: 10 };
const RECEIVED = { rx: 600, rxBytes: 38_400, tx: 0, txBytes: 0, dropped: 0, txLost: 0, missed: 390 };
const DROPPED = { ...RECEIVED, dropped: 600 };
const SENT = { ...RECEIVED, tx: 590, txLost: 10 };
const DROP = { mode: 'rxdrop', by: 'c' } as const;
const FORWARD = { mode: 'forward', by: 'typescript' } as const;
const NOWHERE = { packets: 0, bytes: 0, drops: 0, txDropped: 0 };
/** Of 64 bytes, veth counts 50: without the Ethernet header. */
const ARRIVED = { packets: 580, bytes: 580 * 50, drops: 580, txDropped: 10 };

describe('the account of a program', () => {
  it('is right when each packet was dropped, arrived, or lost where losses are counted', () => {
    expect(account(DROP, LOAD, DROPPED, NOWHERE)).toBe('');
    expect(account(FORWARD, LOAD, SENT, ARRIVED)).toBe('');
    expect(account({ mode: 'lb', by: 'c' }, LOAD, SENT, { ...ARRIVED, bytes: 580 * 70 })).toBe('');
    expect(account({ mode: 'txonly', by: 'c' }, null, { ...SENT, rx: 0, missed: 0, txLost: 0 }, ARRIVED)).toBe('');
  });

  it.each([
    ['the interface did not get all packets that were made', DROP, { ...LOAD, packets: 1001 }, DROPPED, NOWHERE],
    ['packets were neither received nor missed', DROP, LOAD, { ...DROPPED, missed: 389 }, NOWHERE],
    ['nothing was received', DROP, LOAD, { ...DROPPED, rx: 0, missed: 990, dropped: 0 }, NOWHERE],
    ['packets were received that were not dropped', DROP, LOAD, { ...DROPPED, dropped: 599 }, NOWHERE],
    ['packets were received that did not leave', FORWARD, LOAD, { ...SENT, tx: 589 }, ARRIVED],
    ['packets were dropped that were to leave', FORWARD, LOAD, { ...SENT, tx: 589, dropped: 1 }, ARRIVED],
    ['nothing arrived', FORWARD, LOAD, SENT, NOWHERE],
    ['neither arrived nor were dropped by the interface', FORWARD, LOAD, SENT, { ...ARRIVED, txDropped: 9 }],
    ['do not have the right length', FORWARD, LOAD, SENT, { ...ARRIVED, bytes: 580 * 64 }],
    ['the peer did not drop all', FORWARD, LOAD, SENT, { ...ARRIVED, drops: 579 }],
    ['do not have the right length', { mode: 'lb', by: 'c' }, LOAD, SENT, ARRIVED],
  ] as const)('says that %s', (said, wanted, load, did, peer) => {
    expect(account(wanted, load, did, peer)).toContain(said);
  });
});

describe('the account of an XDP program', () => {
  const BACK = { mode: 'l2fwd', by: 'kernel' } as const;
  const arrived = (packets: number) => ({ packets, bytes: packets * 64, drops: packets, txDropped: 0 });

  it('is right when all were dropped, or no more arrived than was sent', () => {
    expect(accountKernel({ mode: 'rxdrop', by: 'kernel' }, LOAD, arrived(990))).toBe('');
    expect(accountKernel(BACK, LOAD, arrived(900))).toBe('');
  });

  it.each([
    ['did not get all packets that were made', BACK, { ...LOAD, sent: 989 }, arrived(900)],
    ['nothing arrived', BACK, LOAD, arrived(0)],
    ['right length', BACK, LOAD, { ...arrived(900), bytes: 900 * 50 }],
    ['were not dropped', BACK, LOAD, { ...arrived(900), drops: 899 }],
    ['did not arrive', { mode: 'rxdrop', by: 'kernel' }, LOAD, arrived(989)],
    ['more arrived than was sent', BACK, LOAD, arrived(991)],
  ] as const)('says that %s', (said, wanted, load, peer) => {
    expect(accountKernel(wanted, load, peer)).toContain(said);
  });
});

describe('the cases', () => {
  const all = ppsCases(new Set(MODES), false);

  it('have each mode in C and in TypeScript, sleeping too where something comes in', () => {
    for (const mode of MODES) {
      const doers = all.filter((one) => one.mode === mode).map(({ by, poll }) => `${by}${poll ? ' poll' : ''}`);
      expect(doers).toEqual(expect.arrayContaining(['c', 'typescript']) as string[]);
      expect(doers.includes('c poll')).toBe(mode !== 'txonly');
      expect(doers.includes('kernel')).toBe(['rxdrop', 'l2fwd', 'forward'].includes(mode));
    }
    expect(new Set(all.map(({ name }) => name)).size).toBe(all.length);
  });

  it('are those of the modes that are asked for, without sleeping ones in a brief run', () => {
    expect(ppsCases(new Set<Mode>(['lb']), true).map(({ name }) => name)).toEqual(['lb: C', 'lb: sluice']);
  });

  it('know what arrives', () => {
    expect(MODES.map(leavesBy)).toEqual([null, 'd0', 'd0', 'd1', 'd1', null]);
    expect(bytesCounted({ mode: 'forward', by: 'kernel' })).toBe(64);
    expect(bytesCounted({ mode: 'lb', by: 'typescript' })).toBe(70);
  });
});

describe('results', () => {
  const cases: PpsCase[] = ppsCases(new Set<Mode>(['rxdrop']), false);
  const trial = (done: number): PpsTrial => ({ offered: 2e6, done, paced: { carried: 0.5, cpuNs: 900 } });
  const kernel: PpsTrial = { offered: 2e6, done: 1e6, paced: null };
  // kernel, C, sluice, C sleeping, sluice sleeping
  const rounds = [
    [kernel, { ...kernel, done: 2e6 }],
    [trial(5e5), trial(8e5)],
    [trial(4e5), trial(8e5)],
    [trial(4e5), trial(4e5)],
    [trial(3e5), trial(2e5)],
  ];

  it('are compared within a round, sleeping with sleeping', () => {
    const [xdp, c, ours, , sleeping] = summaries(cases, rounds);
    expect([xdp.toC, xdp.toKernel, xdp.carried, c.toC]).toEqual([null, null, null, null]);
    expect(c.toKernel).toEqual({ median: 0.45, min: 0.4, max: 0.5 });
    expect(ours.toC).toEqual({ median: 0.9, min: 0.8, max: 1 });
    expect(sleeping.toC).toEqual({ median: 0.625, min: 0.5, max: 0.75 });
    expect([ours.cpuNs, sleeping.cpuNs]).toEqual([null, { median: 900, min: 900, max: 900 }]);
  });

  it('are a table with the spread of everything', () => {
    const lines = formatTable(ppsRows(summaries(cases, rounds))).split('\n');
    expect(lines[4]).toMatch(
      /^rxdrop: sluice +2\.00 \[2\.00\.\.2\.00\] +0\.60 \[0\.40\.\.0\.80\] +0\.90 \[0\.80\.\.1\.00\] +0\.40 \[0\.40\.\.0\.40\] +50\.0/,
    );
    expect(lines[2]).toMatch(/^rxdrop: XDP +2\.00 \[2\.00\.\.2\.00\] +1\.50 \[1\.00\.\.2\.00\] +$/);
  });
});

it('takes the difference of numbers only', () => {
  expect(since({ a: 1, b: 2, mode: 'x' }, { a: 5, b: 2, mode: 'x' })).toEqual({ a: 4, b: 0 });
});

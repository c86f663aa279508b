/** Peers of the pps bench: what is missing is said, and a trial with one packet too few is no number. */
import { describe, expect, it } from 'vitest';
import { nftRules } from '../../bench/peers/linux.js';
import { missing, PEERS } from '../../bench/peers/peers.js';
import { accountPeer, accountTestpmd, type PeerCounts } from '../../bench/peers/run.js';
import { readTestpmd, testpmdCommand } from '../../bench/peers/testpmd.js';
import { bytesCounted, ppsCases } from '../../bench/pps/cases.js';
import { summaries } from '../../bench/pps/run.js';
import { ppsChart, ppsRows } from '../../bench/pps/show.js';

const FORWARD = { mode: 'forward', by: 'peer' } as const;
const LOAD = { packets: 1000, sent: 990, dropped: 10 };
const arrived = (packets: number, txDropped = 0) => ({ packets, bytes: packets * 50, drops: packets, txDropped });
const KERNEL: PeerCounts = { packets: 990, redirected: 0, drops: 0, discarded: 5, load: LOAD, peer: arrived(980, 5) };
const TESTPMD: PeerCounts = { ...KERNEL, redirected: 600, drops: 390, discarded: 0, peer: arrived(590) };

describe('the account of a peer', () => {
  it('is right when each packet arrived, or was dropped where that is counted', () => {
    expect(accountPeer('ip-forward', FORWARD, KERNEL)).toBe('');
    expect(accountPeer('testpmd-io', FORWARD, TESTPMD)).toBe('');
  });

  it.each([
    ['did not get all packets that were made', 'bridge', { ...KERNEL, load: { ...LOAD, sent: 989 } }],
    ['not all that was sent came in', 'bridge', { ...KERNEL, packets: 989 }],
    ['nothing arrived', 'bridge', { ...KERNEL, peer: arrived(0) }],
    ['right length', 'bridge', { ...KERNEL, peer: { ...arrived(980, 5), bytes: 980 * 64 } }],
    ['did not drop all', 'bridge', { ...KERNEL, peer: { ...arrived(980, 5), drops: 979 } }],
    ['packets came in that did not leave', 'nft-dnat', { ...KERNEL, discarded: 4 }],
    ['neither given to the socket nor dropped', 'testpmd-mac', { ...TESTPMD, drops: 389 }],
    ['more left than was received', 'testpmd-mac', { ...TESTPMD, peer: arrived(601) }],
  ] as const)('says that %s', (said, kind, counts) => {
    expect(accountPeer(kind, FORWARD, counts)).toContain(said);
  });

  it('holds a testpmd to its own counters, too', () => {
    const said = { received: 600, missed: 0, sent: 590, dropped: 10 };
    expect(accountTestpmd(said, TESTPMD, arrived(580, 10))).toBe('');
    expect(accountTestpmd({ ...said, received: 599 }, TESTPMD, arrived(590))).toContain('did not receive all');
    expect(accountTestpmd({ ...said, dropped: 9 }, TESTPMD, arrived(590))).toContain('that did not leave');
    expect(accountTestpmd(said, TESTPMD, arrived(589))).toContain('that did not arrive');
  });
});

it('reads what testpmd says at its end', () => {
  const port = ['  RX-packets: 1   RX-dropped: 0   RX-total: 1', '  TX-packets: 0   TX-dropped: 0   TX-total: 0'];
  const sums = ['  RX-packets: 70  RX-dropped: 5   RX-total: 75', '  TX-packets: 60  TX-dropped: 10  TX-total: 70'];
  const output = [...port, '  +++++ Accumulated forward statistics for all ports+++++', ...sums];
  expect(readTestpmd(output)).toEqual({ received: 70, missed: 5, sent: 60, dropped: 10 });
  expect(readTestpmd(port)).toBeNull();
  expect(testpmdCommand('mac', ['d0', 'd1'])[1].join(' ')).toMatch(/net_af_xdp1,iface=d1.* -- --forward-mode=mac/);
});

it('spreads what is balanced over all backends, with connections and without', () => {
  const plan = { vip: '198.51.100.10', port: 9, backends: 3, nextHop: '', d0: '' };
  expect(nftRules('nft-dnat', plan)).toContain(
    'ip daddr 198.51.100.10 udp dport 9 dnat to jhash ip saddr . udp sport mod 3 map { 0 : 192.0.2.10, 1 : 192.0.2.11, 2 : 192.0.2.12 }',
  );
  expect(nftRules('nft-stateless', plan)).toMatch(/priority raw\n.* notrack ip daddr set jhash/);
});

it('says of a peer that is not installed how to have it, in the table and not in the chart', () => {
  expect(missing(PEERS[0], '')).toBe('not installed: apt-get install dpdk-dev');
  const bridge = PEERS.find(({ kind }) => kind === 'bridge')!;
  expect(missing(bridge)).toBe('');
  const cases = ppsCases(new Set(['forward' as const]), true, true).filter(({ by }) => by === 'c' || by === 'peer');
  const trial = { offered: 2e6, done: 1e6, paced: null };
  const without = cases.map((one) => ({ ...one, missing: one.peer === 'testpmd-io' ? 'not installed: x' : undefined }));
  const results = summaries(without, without.map((one) => (one.missing ? [] : [trial]))); // prettier-ignore
  const row = ppsRows(results).find(([name]) => name.includes('testpmd io'))!;
  expect(row).toEqual(['forward: testpmd io, net_af_xdp: not installed: x', '', '', '', '', '', '']);
  const notes = ppsChart(results).groups[0].bars.map(({ note }) => note);
  expect(notes).toContain('Linux bridge: 1.00 of C');
  expect(notes.join()).not.toContain('testpmd io');
  expect(bytesCounted({ mode: 'lb', by: 'peer' })).toBe(50);
});

/** The offload bench's account of packets, its configurations and its ratios: a trial with one packet too few is no number. */
import { describe, expect, it } from 'vitest';
import { account, accountDaemon } from '../../bench/offload/account.js';
import { BACKENDS, offloadCases, SOURCES, STRANGERS, STRANGERS_FLOWS, VIPS, WAYS } from '../../bench/offload/cases.js';
import { offloadConfig } from '../../bench/offload/daemon.js';
import { accountFlood, floodSummaries, type FloodTrial } from '../../bench/offload/flood.js';
import { natRules } from '../../bench/offload/nat.js';
import { summaries } from '../../bench/offload/run.js';
import { floodRows, installedRows, offloadChart, offloadRows } from '../../bench/offload/show.js';
import type { OffloadTrial } from '../../bench/offload/trial.js';
import { formatTable } from '../../bench/statistics.js';
import { parseConfig } from '../../src/control/config/index.js';
import { sourceAddresses } from '../../src/generator/load.js';
import { parsePrefix } from '../../src/shared/addr.js';

const LOAD = { packets: 1000, sent: 990, dropped: 10 };
/** 64 bytes and the outer header, as XDP hands them over. */
const ARRIVED = { packets: 900, bytes: 900 * 84, drops: 900, txDropped: 10 };
const DID = {
  service: 910,
  backends: 910,
  rx: 910,
  inWorkers: 4,
  dropped: 0,
  lost: 80,
  installed: 1,
  refused: 0,
};

describe('the account of a trial', () => {
  it('is right when each packet arrived, or was lost where losses are counted', () => {
    expect(account('auto', LOAD, ARRIVED, 80)).toBe('');
    expect(account('auto', LOAD, { ...ARRIVED, bytes: 4 * 70 + 896 * 84 }, 80)).toBe('');
    expect(account('off', LOAD, { ...ARRIVED, bytes: 900 * 70 }, 80)).toBe('');
    expect(account('nat', LOAD, { ...ARRIVED, packets: 980, drops: 980, bytes: 980 * 50 }, 0)).toBe('');
    expect(accountDaemon('auto', LOAD, DID)).toBe('');
  });

  it.each([
    ['did not get all packets that were made', 'auto', { ...LOAD, packets: 1001 }, ARRIVED, 80],
    ['nothing arrived', 'auto', LOAD, { ...ARRIVED, packets: 0 }, 980],
    ['neither arrived nor were lost', 'auto', LOAD, ARRIVED, 79],
    ['right length', 'auto', LOAD, { ...ARRIVED, bytes: 900 * 64 }, 80],
    ['right length', 'off', LOAD, ARRIVED, 80],
    ['right length', 'xdp', LOAD, ARRIVED, 80],
    ['the peer did not drop all', 'auto', LOAD, { ...ARRIVED, drops: 899 }, 80],
  ] as const)('says that %s', (said, by, load, peer, lost) => {
    expect(account(by, load, peer, lost)).toContain(said);
  });

  it.each([
    ['has not counted all', 'auto', { ...DID, lost: 79 }],
    ['neither balanced nor dropped', 'auto', { ...DID, service: 909, backends: 909 }],
    ['do not add up', 'auto', { ...DID, backends: 909 }],
    ['which was meant not to', 'off', DID],
  ] as const)('says that sluice %s', (said, by, did) => {
    expect(accountDaemon(by, LOAD, did)).toContain(said);
  });

  it('has all packets of a flood, whoever sent them', () => {
    const did = { ...DID, sent: 990, notSent: 10, throughPackets: 700, backPackets: 200, txDropped: 10 };
    expect(accountFlood('auto', 1000, did)).toBe('');
    expect(accountFlood('auto', 1001, did)).toContain('did not get all');
    expect(accountFlood('auto', 1000, { ...did, backPackets: 199 })).toContain('neither arrived nor were dropped');
    expect(accountFlood('auto', 1000, { ...did, lost: 79 })).toContain('has not counted all');
  });
});

describe('what is set up', () => {
  it('is a configuration that sluice takes, the same but for the mode', () => {
    const [auto, off] = (['auto', 'off'] as const).map((mode) =>
      parseConfig(JSON.stringify(offloadConfig(mode, '/run/x', 65536))),
    );
    expect([auto.flowOffload, off.flowOffload]).toEqual(['auto', 'off']);
    expect({ ...auto, flowOffload: off.flowOffload }).toEqual(off);
    expect(auto.services.map(({ backends }) => backends.length)).toEqual([BACKENDS, BACKENDS]);
  });

  it('has an address for each flow', () => {
    expect(sourceAddresses({ source: parsePrefix(SOURCES), flows: 2 ** 20 })).toBe(2 ** 20);
    expect(sourceAddresses({ source: parsePrefix(STRANGERS), flows: STRANGERS_FLOWS })).toBe(STRANGERS_FLOWS);
  });

  it('has nftables spread over as many backends', () => {
    for (const stateful of [true, false]) {
      const text = natRules(stateful);
      for (const way of WAYS) expect(text).toContain(`ip daddr ${VIPS[way]} udp dport 9`);
      expect(text.match(/ : 10\./g)).toHaveLength(2 * BACKENDS);
      expect(text.includes('dnat to')).toBe(stateful);
    }
  });
});

describe('the results', () => {
  const cases = offloadCases([64, 65_536]);
  /** Packets a second by who does it; only the first is on the sender's CPU alone. */
  const RATES = { xdp: 10, auto: 8, off: 1, c: 2, nat: 1, 'nat-stateless': 1.25 };
  const one = (done: number, senderNs: number): OffloadTrial => ({
    offered: done,
    done,
    senderNs,
    daemonNs: 0,
    inKernel: 1,
  });
  const results = summaries(
    cases,
    cases.map(({ by }) => [one(RATES[by] * 1e6, 1000 / RATES[by])]),
  );
  const of = (name: string) => results.find((result) => result.name === name)!;

  it('hold auto against the limit, the better on AF_XDP and the better of nftables', () => {
    const { toLimit, toLimitByCpu, aboveNs, toAfXdp, toNat, toNatByCpu } = of('back, 64 flows: sluice, auto');
    expect([toLimit, toLimitByCpu, toAfXdp, toNat, toNatByCpu].map((each) => each!.median)).toEqual([0.8, 0.8, 4, 6.4, 6.4]); // prettier-ignore
    expect(aboveNs!.median).toBe(25);
    // nftables was not asked for so many.
    expect(of('through, 65,536 flows: sluice, auto').toNat).toBeNull();
    expect(of('back: XDP_TX').toLimit).toBeNull();
    expect(of('back, 64 flows: C on AF_XDP').toLimitByCpu).toBeNull();
  });

  it('are a table, and a chart with the limit beside each number of flows', () => {
    const line = formatTable(offloadRows(results))
      .split('\n')
      .find((text) => text.startsWith('back, 64 flows: sluice, auto'))!;
    expect(line).toMatch(/0\.80 \[0\.80\.\.0\.80\] {2}.*4\.0 \[4\.0\.\.4\.0\] {2}.*6\.4/);
    const { groups } = offloadChart(results);
    expect(groups.map(({ bars }) => bars.map(({ series }) => series))).toEqual([
      [0, 1, 2, 3, 4, 5],
      [0, 1, 2, 3],
      [0, 1, 2, 3, 4, 5],
      [0, 1, 2, 3],
    ]);
  });

  it('hold a flood with auto against one with off', () => {
    const trial = (done: number, goodLost: number, senderNs = 100): FloodTrial => ({
      offered: 2e6, done, senderNs, daemonNs: 500, daemonCpus: 1, installed: 0, refused: 0, inKernel: 0, goodLost }); // prettier-ignore
    const kind = 'with good flows';
    const both = (['off', 'auto'] as const).map((by) => ({ name: by, kind, by }) as const);
    const [off, auto] = floodSummaries(both, [[trial(1e6, 0.9)], [trial(0.9e6, 0, 113)]]);
    expect([off.toOff, auto.toOff!.median, auto.goodLost!.median]).toEqual([null, 0.9, 0]);
    expect([off.aboveOffNs, auto.aboveOffNs!.median, auto.senderToOff!.median]).toEqual([null, 13, 1.13]);
    const lines = formatTable(floodRows([off, auto])).split('\n');
    expect(lines[2]).toContain('90.0 [90.0..90.0]');
    expect(lines[0].indexOf('above off')).toBeGreaterThan(lines[0].indexOf("sender's CPU"));
    expect(lines[3]).toContain('113 [113..113]  13 [13..13]');
  });

  it('say how fast flows were put into the kernel', () => {
    const rows = installedRows([{ way: 'back', flows: 4096, perSecond: 11_234.5, daemonNs: 45_670 }]);
    expect(rows[1]).toEqual(['back', '4096', '11235', '45.7']);
  });
});

/** Rates, connections and fair share in the whole data path, from YAML to verdict. */
import { describe, expect, it } from 'vitest';
import { Counter, CounterBlock, RuleCounter } from '../../src/shared/layout.js';
import { releaseMitigation } from '../../src/control/mitigation/release.js';
import { TableHeader } from '../../src/shared/limits/key_table.js';
import { BucketWord } from '../../src/shared/limits/shared_bucket.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const VIP = '198.51.100.10';

function config(parts: string): string {
  return `
interfaces: [in0]
services:
  - {name: web, vip: ${VIP}, port: 80, backends: [{address: 10.1.0.1}]}
  - {name: dns, vip: ${VIP}, port: 53, protocol: udp, backends: [{address: 10.1.0.1}]}
${parts}`;
}

function udp(src = '203.0.113.9', sport = 4000, payload = 20): Uint8Array {
  return new PacketBuilder().ethernet().ipv4({ src, dst: VIP }).udp({ sport, dport: 53 }).payload(payload).build();
}

function tcp(sport: number, flags: number = TCP.SYN, src = '203.0.113.9', seq = 1000): Uint8Array {
  return new PacketBuilder().ethernet().ipv4({ src, dst: VIP }).tcp({ sport, dport: 80, flags, seq }).build();
}

/** From 1: no host has port 0. */
const times = <T>(count: number, make: (i: number) => T): T[] => Array.from({ length: count }, (_, i) => make(i + 1));
const through = (lab: Lab, frames: Uint8Array[]): number => lab.run(frames).sent[0].length;

/** What the limit of that name counted: packets that it matched, and those above it. */
function limit(lab: Lab, name: string): [matched: number, above: number] {
  const at = CounterBlock.rules + lab.publisher.numbers.rules.get(`limit/${name}`)!.number * RuleCounter.SIZE;
  return [lab.counters[at + RuleCounter.packets], lab.counters[at + RuleCounter.acted]];
}

describe('limits of those who are in a set', () => {
  const SETS =
    "sets: [{name: greedy, type: hash:net, entries: [203.0.113.0/28]}, {name: both, type: 'hash:ip,port', entries: ['203.0.113.9,udp:53']}]";

  it.each([
    ['a rule', 'rules: [{name: few, match: {set: greedy}, action: limit, limit: {rate: 1/hour, burst: 3}}]'],
    ['a limit', 'mitigation: {limits: [{name: few, match: {set: greedy}, rate: 1/hour, burst: 3}]}'],
  ])('by %s, as the set changes', (_, parts) => {
    const lab = new Lab(config(`${SETS}\n${parts}`));
    const sent = (src: string): number =>
      through(
        lab,
        times(10, () => udp(src)),
      );
    expect([sent('203.0.113.9'), sent('203.0.113.77'), sent('192.0.2.1')]).toEqual([3, 10, 10]);
    lab.set('greedy').add('203.0.113.77');
    expect([sent('203.0.113.9'), sent('203.0.113.77'), sent('192.0.2.1')]).toEqual([0, 3, 10]);
    lab.set('greedy').del('203.0.113.0/28');
    expect([sent('203.0.113.9'), sent('203.0.113.77')]).toEqual([10, 0]);
    expect(lab.drops()).toEqual({ limited: 7 + 10 + 7 + 10 });
    expect(lab.matches('greedy').packets).toBe(10 + 20 + 10);
    expect(lab.violations()).toEqual([]);
  });

  it('by source and service together, and only of what is in all the sets named', () => {
    const few =
      "mitigation: {limits: [{name: few, match: {set: [greedy, {name: both, key: 'src,dst'}]}, rate: 1/hour, burst: 2}]}";
    const lab = new Lab(config(`${SETS}\n${few}`));
    expect(
      through(
        lab,
        times(6, () => udp('203.0.113.9')),
      ),
    ).toBe(2);
    expect(
      through(
        lab,
        times(6, () => udp('203.0.113.8')),
      ),
    ).toBe(6);
    expect(limit(lab, 'few')).toEqual([6, 4]);
  });
});

describe('a rule with action limit', () => {
  const rules = (limit: string): string =>
    config(`rules: [{name: dns, match: {protocol: udp, dport: 53}, action: limit, limit: ${limit}}]`);

  it('lets each source have its rate and burst, to the packet', () => {
    const lab = new Lab(rules('{rate: 10/s, burst: 20}'));
    expect(
      through(
        lab,
        times(50, () => udp()),
      ),
    ).toBe(20);
    expect(
      through(
        lab,
        times(5, () => udp('203.0.113.10')),
      ),
    ).toBe(5);
    lab.nowMs += 300;
    expect(
      through(
        lab,
        times(50, () => udp()),
      ),
    ).toBe(3);
    expect(lab.drops()).toEqual({ limited: 30 + 47 });
    expect(lab.rule('dns').packets).toBe(105);
  });

  it('cuts sources to a prefix, counts bytes, and has one rate for all where per is empty', () => {
    const net = new Lab(rules('{rate: 10/s, burst: 20, src_mask: 24}'));
    expect(
      through(
        net,
        times(50, (i) => udp(`203.0.113.${i}`)),
      ),
    ).toBe(20);
    const all = new Lab(rules('{rate: 10/s, burst: 20, per: []}'));
    expect(
      through(
        all,
        times(50, (i) => udp(`203.${i}.113.1`)),
      ),
    ).toBe(20);
    const bytes = new Lab(rules('{rate: 100kb/s, per: []}'));
    // A tenth of a second's, but 64 KiB at least, in packets of 1028 bytes.
    expect(
      through(
        bytes,
        times(100, () => udp('203.0.113.9', 4000, 1000)),
      ),
    ).toBe(63);
  });

  it('keeps what a source has used over a reload of something else, and its counters', () => {
    const lab = new Lab(rules('{rate: 10/s, burst: 20}'));
    through(
      lab,
      times(15, () => udp()),
    );
    lab.adopt(`${rules('{rate: 10/s, burst: 20}')}\nmitigation: {challenge: {mode: auto}}`);
    expect(
      through(
        lab,
        times(15, () => udp()),
      ),
    ).toBe(5);
    // A rule that is not there, and one that is taken back.
    lab.adopt(rules('{rate: 10/s, burst: 2}'));
    expect(
      through(
        lab,
        times(15, () => udp()),
      ),
    ).toBe(2);
    lab.adopt(rules('{rate: 10/s, burst: 20}'));
    expect(
      through(
        lab,
        times(15, () => udp()),
      ),
    ).toBe(0);
    expect(lab.rule('dns').packets).toBe(60);
  });
});

describe('mitigation.limits', () => {
  it('limit behind the rules what they match, each counted by name', () => {
    const lab = new Lab(
      config(`
mitigation:
  limits:
    - {name: small, match: {protocol: udp, length: 0-60}, rate: 5/s, burst: 5}
    - {name: all, rate: 100/s, burst: 8}`),
    );
    expect(
      through(
        lab,
        times(10, () => udp()),
      ),
    ).toBe(5);
    expect(limit(lab, 'small')).toEqual([10, 5]);
    expect(limit(lab, 'all')).toEqual([5, 0]);
    expect(
      through(
        lab,
        times(10, () => udp('203.0.113.9', 4000, 100)),
      ),
    ).toBe(3);
    expect(limit(lab, 'all')).toEqual([15, 7]);
    expect(lab.drops()).toEqual({ limited: 12 });
  });

  it('drop what finds their table full, and count that', () => {
    const lab = new Lab(config('mitigation: {limits: [{name: few, rate: 1/s, max: 4}]}'));
    expect(
      through(
        lab,
        times(10, (i) => udp(`203.0.113.${i}`)),
      ),
    ).toBe(4);
    expect(lab.total(Counter.limitTableFull)).toBe(6);
  });
});

describe('a limit on connections', () => {
  const state = 'tcp_state: {mode: monitor, connections: 1024, timeouts: {fresh: 2s}}';
  const three = config(`mitigation: {${state}, limits: [{name: few, connections: 3, src_mask: 24}]}`);

  it('holds the connections of a prefix, from the SYN to the FIN or RST', () => {
    const lab = new Lab(three);
    expect(
      through(
        lab,
        times(5, (i) => tcp(i, TCP.SYN, `203.0.113.${i}`)),
      ),
    ).toBe(3);
    expect(
      through(
        lab,
        times(3, (i) => tcp(i, TCP.ACK, `203.0.113.${i}`, 1001)),
      ),
    ).toBe(3);
    expect(through(lab, [tcp(9, TCP.SYN, '203.0.114.1')])).toBe(1);
    expect(lab.drops()).toEqual({ connection_limit: 2 });
    // The same SYN again is not another connection.
    expect(through(lab, [tcp(1, TCP.SYN, '203.0.113.1')])).toBe(1);
    expect(through(lab, [tcp(2, TCP.FIN | TCP.ACK, '203.0.113.2', 1001)])).toBe(1);
    expect(through(lab, [tcp(4, TCP.SYN, '203.0.113.4'), tcp(5, TCP.SYN, '203.0.113.5')])).toBe(1);
  });

  it('counts what was there before the limit, and forgets what timed out', () => {
    const lab = new Lab(config(`mitigation: {${state}}`));
    through(lab, [tcp(1), tcp(2)]);
    lab.adopt(three);
    expect(through(lab, [tcp(3), tcp(4)])).toBe(1);
    lab.nowMs += 2500;
    // The sweep goes round in eight seconds.
    for (let i = 0; i < 10; i++) lab.stages.tick((lab.nowMs += 1000));
    expect(
      through(
        lab,
        times(5, (i) => tcp(10 + i)),
      ),
    ).toBe(3);
  });

  it('does not count a connection whose SYN another stage dropped', () => {
    const lab = new Lab(
      config('mitigation: {limits: [{name: rate, rate: 1/s, burst: 2}, {name: few, connections: 3}]}'),
    );
    expect(
      through(
        lab,
        times(5, (i) => tcp(i)),
      ),
    ).toBe(2);
    lab.nowMs += 10_000;
    expect(through(lab, [tcp(7), tcp(8)])).toBe(1);
    expect(lab.drops()).toEqual({ limited: 3, connection_limit: 1 });
    for (const port of [1, 2, 7]) lab.run([tcp(port, TCP.RST, '203.0.113.9', 1001)]);
    lab.nowMs += 10_000;
    lab.stages.tick(lab.nowMs);
    lab.adopt(config('mitigation: {limits: [{name: few, connections: 3}]}'));
    expect(
      through(
        lab,
        times(5, (i) => tcp(20 + i)),
      ),
    ).toBe(3);
  });
});

describe('fair share', () => {
  it('holds a destination to its rate at the cost of who sends most', () => {
    const lab = new Lab(config('mitigation: {fair_share: {rate: 1000/s}}'));
    let honest = 0;
    let later = 0;
    let flood = 0;
    for (let ms = 0; ms < 3000; ms += 10) {
      lab.nowMs += 10;
      const passed = through(lab, [udp(`192.0.2.${(ms / 10) % 200}`, 1000 + ms)]);
      honest += passed;
      if (ms >= 500) later += passed;
      flood += through(
        lab,
        times(50, () => udp('203.0.113.9', 7)),
      );
    }
    // Until it is known whose the flood is, all pay alike.
    expect(honest).toBeGreaterThan(285);
    // A sender may meet the flood in the sketches: 99 % is what is promised.
    expect(later).toBeGreaterThanOrEqual(247);
    // What is left of the rate, and a little for the time in which it was found out.
    expect(flood / 3).toBeLessThan(1150);
    expect(flood / 3).toBeGreaterThan(700);
    expect(lab.drops().fair_share).toBe(15_000 - flood + 300 - honest);
  });
});

describe('locks of a worker that is gone', () => {
  it('are freed in every shared limit, and those of others are not', () => {
    const lab = new Lab(
      config(`
rules: [{name: all, match: {}, action: limit, limit: {rate: 1/s, per: []}}]
mitigation: {limits: [{name: each, rate: 1/s}, {name: few, connections: 1}]}`),
    );
    const tables = lab.publisher.tables!;
    const [{ shared: bucket }] = tables.limits as { shared: { bucket: SharedArrayBuffer } }[];
    const [{ shared: hash }] = tables.mitigation.limits!.limits as { shared: { table: SharedArrayBuffer } }[];
    const locks = [
      [new Int32Array(bucket.bucket), BucketWord.lock],
      [new Int32Array(hash.table), TableHeader.lock],
      [new Int32Array(tables.mitigation.connLimits[0].shared.table), TableHeader.lock],
    ] as const;
    for (const [words, at] of locks) words[at] = 1;
    expect(releaseMitigation(tables, 7)).toBe(0);
    expect(releaseMitigation(tables, 0)).toBe(3);
    expect(locks.map(([words, at]) => words[at])).toEqual([0, 0, 0]);
    for (const [words, at] of locks) words[at] = 2;
    expect(releaseMitigation(tables, 0)).toBe(0);
  });
});

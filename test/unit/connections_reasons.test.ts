import { describe, expect, it } from 'vitest';
import { ConnectionEvent, ENDED_WORDS, LARGEST_WINDOW, TcpReason } from '../../src/dataplane/mitigate/connections.js';
import { random } from '../support/packets.js';
import { ACK, FIN, reasons, RST, SegmentPacket, SYN, tracker, type Step } from '../support/tcp_client.js';

const { none, unexpected, notFound, outOfSequence, alreadyClosed } = {
  none: TcpReason.none,
  unexpected: TcpReason.unexpected,
  notFound: TcpReason.notFound,
  outOfSequence: TcpReason.outOfSequence,
  alreadyClosed: TcpReason.alreadyClosed,
};

const maker = new SegmentPacket();

describe('what belongs to no connection is named', () => {
  // prettier-ignore
  it.each<[string, number, TcpReason]>([
    ['SYN-ACK', SYN | ACK, unexpected],
    ['SYN and FIN', SYN | FIN, unexpected],
    ['SYN and RST', SYN | RST, unexpected],
    ['no flags', 0, unexpected],
    ['URG and PSH alone', 0x28, unexpected],
    ['FIN alone', FIN, unexpected],
    ['RST and FIN', RST | FIN | ACK, unexpected],
    ['ACK', ACK, notFound],
    ['data', ACK | 8, notFound],
    ['FIN', FIN | ACK, notFound],
    ['RST', RST, notFound],
    ['RST-ACK', RST | ACK, notFound],
    ['SYN with ECN', SYN | 0xc0, none],
  ])('%s', (_, flags, reason) => {
    expect(reasons([[flags, 5]])).toEqual([reason]);
  });

  // prettier-ignore
  it.each<[string, Step[], TcpReason]>([
    ['an ACK that guesses a fresh connection’s number', [[SYN, 9], [ACK, 1_000_000]], outOfSequence],
    ['an ACK behind the SYN', [[SYN, 9], [ACK, 8]], outOfSequence],
    ['data out of the window', [[SYN, 9], [ACK, 10], [ACK, 10 + (1 << 30) + 1, 1]], outOfSequence],
    ['data too old', [[SYN, 9], [ACK, 10], [ACK, 10 - (1 << 30) - 2, 1]], outOfSequence],
    ['an RST out of the window', [[SYN, 9], [ACK, 10], [RST, -(1 << 31)]], outOfSequence],
    ['data after an RST', [[SYN, 9], [ACK, 10], [RST, 10], [ACK, 10, 5]], alreadyClosed],
    ['an ACK long after an RST', [[SYN, 9], [ACK, 10], [RST, 10], [ACK, 10, 0, 11_000]], notFound],
    ['an ACK without a SYN for a minute and a half', [[SYN, 9], [ACK, 10, 0, 91_000]], notFound],
    ['an ACK after more than three hours', [[SYN, 9], [ACK, 10], [ACK, 10, 0, 10_801_000]], notFound],
    ['an ACK long after a FIN', [[SYN, 9], [FIN | ACK, 10], [ACK, 11, 0, 601_000]], notFound],
  ])('%s', (_, steps, reason) => {
    const seen = reasons(steps);
    expect(seen.pop()).toBe(reason);
    expect(new Set(seen)).toEqual(new Set([none]));
  });

  it('and a smaller window is held to', () => {
    const steps: Step[] = [[SYN, 9], [ACK, 10], [ACK, 9 + (1 << 20), 1], [ACK, 10 + (1 << 20), 1]]; // prettier-ignore
    expect(reasons(steps, { window: 1 << 20 }).slice(2)).toEqual([none, none]);
    expect(reasons(steps, { window: 1 << 18 }).slice(2)).toEqual([outOfSequence, outOfSequence]);
    for (const window of [0, 0x1ffff, LARGEST_WINDOW + 1, Number.NaN])
      expect(() => tracker(64, window)).toThrow(RangeError);
  });

  it('a flood of random packets makes no entry', () => {
    const next = random(3);
    const connections = tracker();
    for (let i = 0; i < 50_000; i++) {
      const flags = Math.floor(next() * 256);
      if ((flags & 0x17) === SYN) continue;
      const segment = { flags, sequence: (next() * 0x100000000) | 0, payload: 0 };
      expect(connections.check(maker.of(1 + (i % 60_000), segment), false, i)).not.toBe(none);
    }
    expect(connections.table.count).toBe(0);
  });
});

describe('connections that are older than the table', () => {
  it('are adopted while it learns', () => {
    expect(reasons([[ACK, 77, 10], [ACK, 87, 10]], { adopt: true })).toEqual([none, none]); // prettier-ignore
    expect(reasons([[FIN | ACK, 77], [ACK, 78]], { adopt: true })).toEqual([none, none]); // prettier-ignore
    expect(reasons([[RST, 77], [RST, 77]], { adopt: true })).toEqual([none, none]); // prettier-ignore
    expect(reasons([[SYN | ACK, 77]], { adopt: true })).toEqual([unexpected]);
  });

  it('are held to their numbers from then on', () => {
    expect(reasons([[ACK, 77], [ACK, 77 + (1 << 30) + 9]], { adopt: true })).toEqual([none, outOfSequence]); // prettier-ignore
  });
});

describe('for a count of connections', () => {
  /** Connections that are counted after each step, and whether that is what is in the table. */
  function counts(steps: Step[]): number[] {
    const connections = tracker(64);
    let now = 0;
    let count = 0;
    return steps.map(([flags, sequence, payload = 0, afterMs = 1]) => {
      now += afterMs;
      connections.check(maker.of(5000, { flags, sequence, payload }), false, now);
      count += connections.event;
      return count;
    });
  }

  // prettier-ignore
  it.each<[string, Step[], number[]]>([
    ['open and closed', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [ACK, 11]], [1, 1, 0, 0]],
    ['reset', [[SYN, 9], [ACK, 10], [RST, 10], [RST, 10]], [1, 1, 0, 0]],
    ['used again', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [SYN, 1 << 30], [ACK, 0], [FIN | ACK, 0], [ACK, 0]], [1, 1, 0, 1, 1, 0, 0]],
    ['FIN before its data', [[SYN, 9], [ACK, 10], [FIN | ACK, 110], [ACK, 10, 100]], [1, 1, 0, 0]],
    ['RST before its data', [[SYN, 9], [ACK, 10], [RST, 110], [ACK, 10, 100]], [1, 1, 0, 0]],
    ['forgotten and begun anew', [[SYN, 9], [SYN, 99, 0, 200_000]], [1, 1]],
    ['forgotten', [[SYN, 9], [ACK, 10, 0, 200_000]], [1, 0]],
    ['nothing', [[ACK, 9], [SYN | ACK, 9]], [0, 0]],
  ])('%s', (_, steps, expected) => {
    expect(counts(steps)).toEqual(expected);
  });

  it('what is counted is what is in the table, whatever comes', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const connections = tracker(256);
    const counted = new Map<string, number>();
    const add = (family: number, source: number, by: number): void => {
      const key = `${family} ${source}`;
      counted.set(key, (counted.get(key) ?? 0) + by);
    };
    let now = 0;
    for (let i = 0; i < 60_000; i++) {
      now += Math.floor(next() * 200);
      const family = next() < 0.5 ? 4 : 6;
      const flags = [SYN, SYN, SYN, ACK, ACK, FIN | ACK, RST][Math.floor(next() * 7)];
      const port = 1 + Math.floor(next() * 2000);
      const packet = maker.of(port, { flags, sequence: Math.floor(next() * 3), payload: 0 }, family);
      connections.check(packet, next() < 0.1, now);
      const { table } = connections;
      add(family, packet.src3, connections.event);
      if (connections.evicted)
        add((table.evictedKind >>> 8) & 255, table.evictedSrc3 * (((table.evictedKind >>> 8) & 255) === 6 ? 1 : 0), -1);
      if (flags === SYN && connections.event === ConnectionEvent.open && next() < 0.2) {
        connections.undo(packet);
        add(family, packet.src3, -1);
      }
      const words = connections.sweep(now);
      for (let at = 0; at < words; at += ENDED_WORDS) add(connections.ended[at], connections.ended[at + 4], -1);
    }
    expect(connections.evictions, `seed ${seed}`).toBeGreaterThan(0);
    // All that is left ends in time.
    for (let i = 0; i < 100_000 && connections.table.count > 0; i++) {
      now += 500;
      const words = connections.sweep(now);
      for (let at = 0; at < words; at += ENDED_WORDS) add(connections.ended[at], connections.ended[at + 4], -1);
    }
    expect(connections.table.count).toBe(0);
    expect(
      [...counted.values()].filter((count) => count !== 0),
      `seed ${seed}`,
    ).toEqual([]);
  });
});

import { describe, expect, it } from 'vitest';
import { ConnLimit } from '../../src/dataplane/mitigate/conn_limit.js';
import { LimitVerdict } from '../../src/dataplane/mitigate/limit_verdict.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { allocateConnLimit, type ConnLimitSpec } from '../../src/shared/limits/conn_limit.js';
import { tableCount } from '../../src/shared/limits/key_table.js';
import { limitPacket } from '../support/limit_packets.js';
import { runThreads } from '../support/limit_threads.js';
import { random } from '../support/packets.js';

const [within, above, hotDrop] = [LimitVerdict.within, LimitVerdict.above, LimitVerdict.hotDrop];

function limitOf(spec: Partial<ConnLimitSpec> = {}): ConnLimit {
  return new ConnLimit(allocateConnLimit({ limit: 2, direction: 'above', ...spec }, 1), 0, 1);
}

function close(limit: ConnLimit, packet: Packet): void {
  limit.closed(packet.family, packet.src0, packet.src1, packet.src2, packet.src3);
}

describe('connlimit', () => {
  it('lets a source open connections up to the limit, and again when some have closed', () => {
    const limit = limitOf();
    const packet = limitPacket();
    expect([1, 2, 3, 4].map(() => limit.open(packet))).toEqual([within, within, above, above]);
    expect(limit.connections(packet)).toBe(2);
    close(limit, packet);
    expect([1, 2].map(() => limit.open(packet))).toEqual([within, above]);
    expect(limit.open(limitPacket({ src: '192.0.2.2' }))).toBe(within);
  });

  it('counts the connection that a packet opens, and sees others as they are', () => {
    const limit = limitOf({ limit: 1 });
    const packet = limitPacket();
    expect(limit.judge(packet, true)).toBe(within);
    expect(limit.opened(packet)).toBe(true);
    expect(limit.judge(packet, false)).toBe(within);
    expect(limit.judge(packet, true)).toBe(above);
    // A rule that only counts lets it through: then there are two, and every packet of the source is above.
    limit.opened(packet);
    expect(limit.judge(packet, false)).toBe(above);
    close(limit, packet);
    expect(limit.judge(packet, false)).toBe(within);
  });

  it.each([
    ['/24', { mask4: 24 }, '192.0.2.77', '192.0.3.1'],
    ['/16', { mask4: 16 }, '192.0.99.1', '192.1.2.1'],
    ['/0', { mask4: 0 }, '8.8.8.8', null],
    ['IPv6 /64', { mask6: 64 }, '2001:db8::77', '2001:db8:0:1::1'],
    ['IPv6 /48', { mask6: 48 }, '2001:db8:0:77::', '2001:db8:1::1'],
  ])('counts by prefix: %s', (_, masks, same, other) => {
    const limit = limitOf({ limit: 1, ...masks });
    const six = same.includes(':');
    const from = (src: string) => limitPacket({ src, dst: six ? '2001:db8:f::1' : '198.51.100.1' });
    expect(limit.open(from(six ? '2001:db8::1' : '192.0.2.1'))).toBe(within);
    expect(limit.open(from(same))).toBe(above);
    if (other !== null) expect(limit.open(from(other))).toBe(within);
    close(limit, from(same));
    expect(limit.open(from(same))).toBe(within);
  });

  it('counts by destination', () => {
    const limit = limitOf({ limit: 1, side: 'destination' });
    expect(limit.open(limitPacket({ src: '10.0.0.1' }))).toBe(within);
    expect(limit.open(limitPacket({ src: '10.0.0.2' }))).toBe(above);
    const { family, dst0 } = limitPacket();
    limit.closed(family, dst0, 0, 0, 0);
    expect(limit.open(limitPacket({ src: '10.0.0.2' }))).toBe(within);
  });

  it('allows none with a limit of 0, and keeps nothing', () => {
    const limit = limitOf({ limit: 0 });
    expect(limit.open(limitPacket())).toBe(above);
    expect(limit.count).toBe(0);
  });

  it('hot-drops prefixes that the table has no room for', () => {
    const limit = limitOf({ max: 2 });
    const from = (n: number) => limitPacket({ src: `10.0.0.${n}` });
    expect([1, 2, 3].map((n) => limit.open(from(n)))).toEqual([within, within, hotDrop]);
    expect(limit.opened(from(4))).toBe(false);
    expect(limit.hotDropped).toBe(2);
    close(limit, from(1));
    expect(limit.open(from(3))).toBe(within);
  });

  it('agrees with a count by hand over random openings and closings, and ends empty', () => {
    const next = random(7);
    const limit = limitOf({ limit: 9, max: 64 });
    const open = new Map<number, number>();
    const packet = limitPacket();
    for (let i = 0; i < 50_000; i++) {
      packet.src0 = Math.floor(next() * 50);
      const count = open.get(packet.src0) ?? 0;
      if (next() < 0.5) {
        expect(limit.open(packet)).toBe(count < 9 ? within : above);
        if (count < 9) open.set(packet.src0, count + 1);
      } else if (count > 0) {
        close(limit, packet);
        open.set(packet.src0, count - 1);
      }
    }
    for (const [src0, count] of open) {
      packet.src0 = src0;
      for (let i = 0; i < count; i++) close(limit, packet);
    }
    expect(limit.count).toBe(0);
  });

  it.each([2, 7])('is exact over %i threads', async (workers) => {
    const shared = allocateConnLimit({ limit: 100, direction: 'above' }, workers);
    const counts = await runThreads('connlimit', workers, { shared, keys: 50, rounds: 150, close: false });
    expect(counts.reduce((a, b) => a + b)).toBe(50 * 100);
    expect(tableCount(shared.table)).toBe(50);
    // A worker that was lost: its successor takes back what it had counted, no more.
    const limit = new ConnLimit(shared, 0, workers);
    limit.forget();
    const packet = limitPacket();
    let left = 0;
    for (let key = 0; key < 50; key++) {
      packet.src0 = key << 8;
      left += limit.connections(packet);
    }
    expect(left).toBe(50 * 100 - counts[0]);
  });

  it('is empty when all threads have closed what they opened', async () => {
    const shared = allocateConnLimit({ limit: 20, direction: 'above' }, 4);
    const counts = await runThreads('connlimit', 4, { shared, keys: 200, rounds: 30, close: true });
    expect(counts.reduce((a, b) => a + b)).toBe(200 * 20);
    expect(tableCount(shared.table)).toBe(0);
  });

  it('refuses what cannot be', () => {
    expect(() => limitOf({ limit: -1 })).toThrow('limit of -1');
    expect(() => limitOf({ mask4: 33 })).toThrow('33 bits');
    expect(() => limitOf({ max: 0 })).toThrow('0 prefixes');
  });
});

import { describe, expect, it } from 'vitest';
import { TcpReason } from '../../src/dataplane/mitigate/connections.js';
import { random } from '../support/packets.js';
import { ACK, connectionOf, FIN, reasons, RST, SegmentPacket, SYN, tracker, type Step } from '../support/tcp_client.js';

const none = TcpReason.none;
const alreadyClosed = TcpReason.alreadyClosed;
const maker = new SegmentPacket();

describe('a client’s packets', () => {
  // prettier-ignore
  it.each<[string, Step[]]>([
    ['handshake, data, end', [[SYN, 99], [ACK, 100], [ACK, 100, 500], [FIN | ACK, 600], [ACK, 601]]],
    ['sequence numbers over the edge', [[SYN, -2], [ACK, -1], [ACK, -1, 100], [ACK, 99, 100]]],
    ['a SYN sent again for two minutes', [[SYN, 9], [SYN, 9, 0, 1000], [SYN, 9, 0, 32_000], [SYN, 9, 0, 64_000], [ACK, 10, 0, 64_000]]],
    ['data before its ACK', [[SYN, 9], [ACK, 1470, 1460], [ACK, 10], [ACK, 10, 1460]]],
    ['Fast Open, taken', [[SYN, 9, 1000], [ACK, 1010], [ACK, 1010, 10]]],
    ['Fast Open, not taken', [[SYN, 9, 1000], [ACK, 10], [ACK, 10, 1000]]],
    ['keep-alives over hours', [[SYN, 9], [ACK, 10], [ACK, 9, 0, 7_200_000], [ACK, 9, 1, 7_200_000]]],
    ['half-closed, then silent', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [ACK, 11, 0, 500_000], [ACK, 11, 0, 500_000]]],
    ['FIN before the data that it follows', [[SYN, 9], [ACK, 10], [FIN | ACK, 5010], [ACK, 10, 1460], [ACK, 1470, 1460], [ACK, 5011]]],
    ['simultaneous close', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [FIN | ACK, 10], [ACK, 11]]],
    ['RST after RST', [[SYN, 9], [ACK, 10], [RST, 10], [RST, 10], [RST, 10]]],
    ['RST to the SYN-ACK', [[SYN, 9], [RST, 10]]],
    ['ports used again after FIN', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [ACK, 11], [SYN, 5_000_000], [ACK, 5_000_001], [ACK, 5_000_001, 9]]],
    ['ports used again after RST', [[SYN, 9], [ACK, 10], [RST, 10], [SYN, 5_000_000], [ACK, 5_000_001]]],
    ['ports used again, twice', [[SYN, 9], [ACK, 10], [FIN | ACK, 10], [SYN, 1 << 30], [ACK, (1 << 30) + 1], [FIN | ACK, (1 << 30) + 1], [SYN, -9], [ACK, -8], [FIN | ACK, -8]]],
    ['a SYN given up for another', [[SYN, 9], [SYN, 1 << 30], [SYN, -5, 0, 1000], [ACK, -4], [ACK, -4, 100]]],
    ['a client that lost its state', [[SYN, 9], [ACK, 10, 99], [SYN, 1 << 30], [RST, 109], [SYN, 1 << 30], [ACK, (1 << 30) + 1]]],
    ['… and has its RST lost', [[SYN, 9], [ACK, 10, 99], [SYN, 1 << 30], [SYN, 1 << 30], [ACK, (1 << 30) + 1, 50], [ACK, (1 << 30) + 51]]],
    ['a gap of a whole window', [[SYN, 9], [ACK, 10], [ACK, 1 << 30, 9], [ACK, (1 << 30) + 9, 9], [ACK, -(1 << 31), 9], [ACK, -(1 << 31) + 9, 9]]],
  ])('are never dropped: %s', (_, steps) => {
    expect(reasons(steps)).toEqual(steps.map(() => none));
  });

  it('are never dropped, whatever the path loses, doubles and brings in another order', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const connections = tracker(1 << 12);
    let now = 0;
    let packets = 0;
    for (let life = 0; life < 4000; life++) {
      const family = next() < 0.5 ? 4 : 6;
      // Few ports, so that they are used again.
      const port = 1024 + Math.floor(next() * 300);
      const sent = connectionOf(next);
      const arrived: { segment: (typeof sent)[number]; order: number }[] = [];
      sent.forEach((segment, i) => {
        // What the server has not seen, the guard need not have seen; but a connection begins with its SYN.
        const opens = segment.flags === SYN;
        if (!opens && next() < 0.1) return;
        const late = opens || segment.flags & RST ? 0 : Math.floor(next() * 4);
        arrived.push({ segment, order: i + late });
        if (!opens && !(segment.flags & RST) && next() < 0.05) arrived.push({ segment, order: i + late + 1 });
      });
      const firstReset = sent.findIndex((segment) => (segment.flags & RST) !== 0);
      arrived.sort((a, b) => a.order - b.order);
      for (const { segment, order } of arrived) {
        now = (now + Math.floor(next() * 2000)) | 0;
        packets++;
        const reason = connections.check(maker.of(port, segment, family), false, now);
        // Late, behind the RST that ended its connection: the server drops it too.
        if (reason === alreadyClosed && firstReset >= 0 && order >= firstReset) continue;
        expect(reason, `seed ${seed}, life ${life}: ${JSON.stringify({ segment, sent })}`).toBe(none);
      }
    }
    expect(packets).toBeGreaterThan(40_000);
  });

  it('go on after a gigabyte and more that took another way', () => {
    const connections = tracker();
    const open: Step[] = [[SYN, 9], [ACK, 10]]; // prettier-ignore
    let at = 10;
    for (const [flags, sequence] of open) connections.check(maker.of(1, { flags, sequence, payload: 0 }), false, 0);
    for (let round = 0; round < 100; round++) {
      at = (at + 900_000_000) | 0;
      for (let i = 0; i < 3; i++, at = (at + 1460) | 0) {
        const packet = maker.of(1, { flags: ACK, sequence: at, payload: 1460 });
        expect(connections.check(packet, false, 0), `round ${round}`).toBe(none);
      }
    }
  });

  it.each([false, true])(
    'are not harmed by packets of others with their addresses and ports; handshakes too: %s',
    (handshakes) => {
      const seed = Date.now() | 0;
      const next = random(seed);
      const connections = tracker();
      const check = (flags: number, sequence: number, payload = 0): TcpReason =>
        connections.check(maker.of(1, { flags, sequence: sequence | 0, payload }), false, 0);
      check(SYN, 9);
      let at = 10;
      check(ACK, at);
      const flags = [ACK, ACK | 8, FIN | ACK, RST, RST | ACK];
      let dropped = 0;
      for (let i = 0; i < 200_000; i++) {
        const sequence = (next() * 0x100000000) | 0;
        if (check(flags[Math.floor(next() * flags.length)], sequence, 100) !== none) dropped++;
        // Right in itself.
        if (handshakes && i % 1000 === 0) {
          check(SYN, sequence);
          check(ACK, sequence + 1);
        }
        if (i % 20_000 === 0) {
          expect(check(ACK, at, 1000), `seed ${seed}, after ${i}`).toBe(none);
          at += 1000;
        }
      }
      expect(check(ACK, at, 1000), `seed ${seed}`).toBe(none);
      expect(check(FIN | ACK, at + 1000), `seed ${seed}`).toBe(none);
      // Without knowing more than the ports, half of the numbers are in the largest window.
      if (!handshakes) expect(dropped).toBeGreaterThan(90_000);
    },
  );
});

/** What captures of the daemon say beside the packet, and the stream that they come as. */
import { describe, expect, it } from 'vitest';
import { frameText } from '../../src/cli/frame_text.js';
import { BlockStream } from '../../src/pcap/block_stream.js';
import { readCapture } from '../../src/pcap/capture.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { join, pattern, Section } from '../support/capture_bytes.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';

const section = new Section(true);
/** Codes and layouts: draft-ietf-opsawg-pcapng, tables of the enhanced packet block and of the interface statistics block. */
const PACKET = section.enhanced(0, 5n, pattern(9), [
  [1, 'drop queue=3'],
  [2, section.u32(1)],
  [5, section.u64(0x1_0000_0007n)],
  [6, section.u32(3)],
  [7, join(Uint8Array.of(2), section.u64(1n))],
]);
const time = (ns: bigint) => join(section.u32(Number(ns >> 32n)), section.u32(Number(ns & 0xffff_ffffn)));
const START = 0x0123_4567_89ab_cdefn;
const END = START + 9n;
const STATISTICS = section.block(
  5,
  join(
    section.u32(0),
    time(END),
    ...([[2, time(START)], [3, time(END)], [4, section.u64(100n)], [6, section.u64(12n)], [7, section.u64(2n)], [8, section.u64(10n)]] as const) // prettier-ignore
      .map(([code, value]) => join(section.u32(code | (8 << 16)), value)),
    section.u32(0),
  ),
);
const counters = { interfaceId: 0, startNs: START, endNs: END, received: 100, accepted: 12, lost: 2, delivered: 10 };

function written(): PcapngWriter {
  const writer = new PcapngWriter('memory');
  writer.addInterface({ name: 'in0' });
  return writer;
}

describe('metadata of packets and interfaces', () => {
  it('is written byte for byte as the format describes it', () => {
    const writer = written();
    writer.take();
    const packet = {
      comment: 'drop queue=3',
      direction: 'in',
      packetId: 0x1_0000_0007n,
      queue: 3,
      verdict: 1,
    } as const;
    writer.writePacket({ interfaceId: 0, timestampNs: 5n, data: pattern(9), ...packet });
    expect(writer.take()).toEqual(PACKET);
    writer.writeStatistics(counters);
    expect(writer.take()).toEqual(STATISTICS);
    expect(writer.take()).toHaveLength(0);
  });

  it('is read back', () => {
    const capture = readCapture(join(written().take(), PACKET, STATISTICS));
    expect(capture.packet(0)).toMatchObject({ flags: 1, packetId: 0x1_0000_0007n, queue: 3, verdict: 1 });
    expect(capture.statistics).toEqual([counters]);
  });

  it('of another kind of verdict, or of an interface that is not there, is left out', () => {
    const tc = section.enhanced(0, 5n, pattern(9), [[7, join(Uint8Array.of(1), section.u64(1n))]]);
    const strange = STATISTICS.slice();
    strange[8] = 7;
    const capture = readCapture(join(written().take(), tc, strange));
    expect(capture.packet(0)).not.toHaveProperty('verdict');
    expect(capture.statistics).toEqual([]);
  });
});

describe('a stream', () => {
  const whole = join(written().take(), PACKET, PACKET, STATISTICS);

  it('cut anywhere, gives every block once', () => {
    const draw = random(11);
    for (let round = 0; round < 200; round++) {
      const stream = new BlockStream();
      let packets = 0;
      let statistics = 0;
      for (let at = 0; at < whole.length;) {
        const next = Math.min(whole.length, at + 1 + Math.floor(draw() * 90));
        const file = stream.push(whole.subarray(at, next));
        at = next;
        if (file === null) continue;
        const capture = readCapture(file);
        for (const { comment } of capture) expect(comment).toBe('drop queue=3');
        packets += capture.length;
        statistics += capture.statistics.length;
      }
      expect([packets, statistics]).toEqual([2, 1]);
    }
  });

  it('that is none is refused', () => {
    expect(() => new BlockStream().push(new Uint8Array(64).fill(1))).toThrow('block of 16843009 bytes');
    expect(() => new BlockStream().push(new Section(false).header())).toThrow('not little-endian');
  });
});

describe('a frame in words', () => {
  const udp = () =>
    new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.1' }).udp({ sport: 53, dport: 9 });
  const tcp6 = () => new PacketBuilder().ethernet().ipv6({ src: '2001:db8::1', dst: '2001:db8::2' });
  it.each([
    ['UDP', udp().payload(4).build(), /^192\.0\.2\.1\.53 > 198\.51\.100\.1\.9: udp length \d+$/],
    ['TCP over IPv6', tcp6().tcp({ sport: 1, dport: 2, flags: TCP.SYN | TCP.ACK }).build(), /^2001:db8::1\.1 > 2001:db8::2\.2: tcp \[S\.\] length \d+$/], // prettier-ignore
    ['an ARP frame', join(new Uint8Array(12), Uint8Array.of(8, 6), new Uint8Array(28)), /: ARP$/],
    ['a cut frame', udp().build().slice(0, 20), /^20 bytes, cut$/],
    ['nothing', new Uint8Array(0), /^0 bytes, cut$/],
  ])('%s', (_, frame, expected) => expect(frameText(frame)).toMatch(expected));

  it('never throws, whatever it gets', () => {
    const draw = random(2);
    const whole = tcp6().tcp({ sport: 1, dport: 2 }).payload(30).build();
    for (let i = 0; i < 3000; i++) {
      const frame = whole.slice(0, Math.floor(draw() * 100));
      for (let j = 0; j < 4 && frame.length > 0; j++)
        frame[Math.floor(draw() * frame.length)] = Math.floor(draw() * 256);
      expect(frameText(frame).length).toBeLessThan(500);
    }
  });
});

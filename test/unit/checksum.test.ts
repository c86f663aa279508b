import { describe, expect, it } from 'vitest';
import {
  fold,
  ipv4HeaderChecksum,
  ipv4HeaderValid,
  repairChecksum,
  sumBytes,
  transportChecksum,
  updateChecksum,
} from '../../src/dataplane/packet/checksum.js';
import { PacketBuilder, type Checksum } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';

const v4 = { src: '192.0.2.1', dst: '198.51.100.10' };
const v6 = { src: '2001:db8::1', dst: '2001:db8:100::10' };

/** RFC 1071 §4.1, word by word: the slow way to compare with. */
function reference(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i] * 256 + (i + 1 < bytes.length ? bytes[i + 1] : 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
  return sum;
}

describe('checksum', () => {
  it('agrees with the example of RFC 1071 §3', () => {
    const view = new DataView(new Uint8Array([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]).buffer);
    expect(fold(sumBytes(view, 0, 8))).toBe(0xddf2);
  });

  it('sums any length at any offset like the reference', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const memory = new Uint8Array(70_000);
    for (let i = 0; i < memory.length; i++) memory[i] = next() < 0.3 ? 255 : next() * 256;
    const view = new DataView(memory.buffer);
    for (let round = 0; round < 300; round++) {
      const offset = Math.floor(next() * 100);
      const length = round === 0 ? 65_535 : Math.floor(next() * 2000);
      expect(fold(sumBytes(view, offset, length)), `seed ${seed} round ${round}`).toBe(
        reference(memory.subarray(offset, offset + length)),
      );
    }
  });

  it('computes and verifies IPv4 headers with and without options', () => {
    for (const options of [undefined, [1, 1, 1, 1], new Array<number>(40).fill(1)]) {
      const packet = parsed(
        new PacketBuilder()
          .ethernet()
          .ipv4({ ...v4, options })
          .udp({})
          .build(),
      );
      const bytes = (packet.view.getUint8(packet.l3) & 15) << 2;
      expect(ipv4HeaderValid(packet.view, packet.l3, bytes)).toBe(true);
      expect(ipv4HeaderChecksum(packet.view, packet.l3, bytes)).toBe(packet.view.getUint16(packet.l3 + 10));
      packet.view.setUint8(packet.l3 + 8, packet.view.getUint8(packet.l3 + 8) ^ 1);
      expect(ipv4HeaderValid(packet.view, packet.l3, bytes)).toBe(false);
    }
  });

  it('updates incrementally to what a full computation gives (RFC 1624)', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const view = new DataView(new ArrayBuffer(40));
    for (let round = 0; round < 5000; round++) {
      for (let i = 0; i < 20; i++) view.setUint16(2 * i, next() < 0.2 ? 0xffff : next() * 65536);
      view.setUint16(10, 0);
      view.setUint16(10, ~fold(sumBytes(view, 0, 40)) & 0xffff);
      const before = view.getUint16(20);
      const after = next() < 0.1 ? 0xffff : Math.floor(next() * 65536);
      const updated = updateChecksum(view.getUint16(10), before, after);
      view.setUint16(20, after);
      view.setUint16(10, updated);
      // Equal as ones-complement numbers: the whole sums to all ones.
      expect(fold(sumBytes(view, 0, 40)), `seed ${seed} round ${round}`).toBe(0xffff);
    }
  });

  const frame = (kind: 'tcp' | 'udp', family: 4 | 6, payload: number, checksum?: Checksum) => {
    const builder = new PacketBuilder().ethernet();
    if (family === 4) builder.ipv4(v4);
    else builder.ipv6(v6);
    return builder[kind]({ sport: 1234, dport: 80, checksum }).payload(payload).padTo(64).build();
  };

  for (const kind of ['tcp', 'udp'] as const) {
    for (const family of [4, 6] as const) {
      it(`completes a partial ${kind} checksum over IPv${family}, of any length, to that of a sender without offload`, () => {
        for (const payload of [0, 1, 2, 3, 7, 100, 1001, 1400]) {
          const packet = parsed(frame(kind, family, payload, 'pseudo'));
          const right = parsed(frame(kind, family, payload));
          expect(repairChecksum(packet)).toBe(true);
          const field = packet.l4 + (kind === 'tcp' ? 16 : 6);
          expect(packet.view.getUint16(field)).toBe(right.view.getUint16(right.l4 + (kind === 'tcp' ? 16 : 6)));
          expect(transportChecksum(packet)).toBe(packet.view.getUint16(field));
        }
      });
    }
  }

  it('leaves whole, wrong and absent checksums alone', () => {
    for (const checksum of [undefined, 0x1234, 0] as const) {
      const packet = parsed(frame('udp', 4, 10, checksum));
      const before = packet.view.getUint16(packet.l4 + 6);
      expect(repairChecksum(packet)).toBe(false);
      expect(packet.view.getUint16(packet.l4 + 6)).toBe(before);
    }
    const icmp = parsed(new PacketBuilder().ethernet().ipv4(v4).icmp({}).build());
    expect(repairChecksum(icmp)).toBe(false);
    const fragment = parsed(
      new PacketBuilder()
        .ethernet()
        .ipv4({ ...v4, moreFragments: true })
        .udp({ checksum: 'pseudo', length: 999 })
        .build(),
    );
    expect(repairChecksum(fragment)).toBe(false);
  });

  it('writes 0xffff where a UDP checksum comes out as 0', () => {
    const base = parsed(frame('udp', 4, 2));
    // Choose the payload so that the sum is all ones: then the checksum would be 0.
    base.view.setUint16(base.l4 + 8, 0);
    base.view.setUint16(base.l4 + 6, 0);
    base.view.setUint16(base.l4 + 8, transportChecksum(base));
    expect(transportChecksum(base)).toBe(0xffff);
  });
});

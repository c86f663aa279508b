import { describe, expect, it } from 'vitest';
import { BackendField, BackendFlag, ServiceField } from '../../src/shared/layout.js';
import { buildEgress } from '../../src/dataplane/balance/egress.js';
import { encapsulate as encapsulateTo } from '../../src/dataplane/packet/encap.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { ipv4HeaderValid } from '../../src/dataplane/packet/checksum.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { DropReason } from '../../src/dataplane/verdict.js';
import { parseAddress } from '../../src/shared/addr.js';
import { PacketBuilder } from '../support/packet_builder.js';
import { bytesOf, CHUNK, parsed, place } from '../support/packets.js';

const SMAC = '02:00:00:00:00:aa';
const DMAC = '02:00:00:00:00:bb';
const inner4 = { src: '192.0.2.1', dst: '198.51.100.10' };
const inner6 = { src: '2001:db8::1', dst: '2001:db8:100::10' };
const outer4 = { src: '10.0.0.2', dst: '10.0.0.11' };
const outer6 = { src: 'fd00::2', dst: 'fd00::11' };

/** A backend's record as the control plane writes it. */
function record(outer: { src: string; dst: string }, mtu = 1500): Int32Array {
  const words = new Int32Array(BackendField.STRIDE);
  const dst = parseAddress(outer.dst);
  const src = parseAddress(outer.src);
  words[BackendField.flags] =
    BackendFlag.valid | BackendFlag.active | BackendFlag.resolved | (dst.family === 6 ? BackendFlag.ipv6 : 0);
  for (let i = 0; i < 4; i++) {
    words[BackendField.addr0 + i] = dst.words[i];
    words[BackendField.source0 + i] = src.words[i];
  }
  words[BackendField.eth0] = 0x02000000;
  words[BackendField.eth1] = 0x00bb0200;
  words[BackendField.eth2] = 0x000000aa;
  words[BackendField.mtu] = mtu;
  const halves = (w: number) => (w >>> 16) + (w & 0xffff);
  words[BackendField.headerSum] = 0x4500 + 0x4000 + ((64 << 8) | 4) + halves(src.words[0]) + halves(dst.words[0]);
  return words;
}

const encapsulate = (packet: Packet, backend: Int32Array, at: number) =>
  encapsulateTo(packet, buildEgress(backend, new Int32Array(ServiceField.STRIDE)), at, backend, at);

const ip =
  (family: 4 | 6, options: { tos?: number } = {}) =>
  (b: PacketBuilder) =>
    family === 4 ? b.ipv4({ ...inner4, tos: options.tos ?? 0 }) : b.ipv6({ ...inner6, trafficClass: options.tos ?? 0 });

describe('encapsulate', () => {
  const combinations: [string, 4 | 6, typeof outer4][] = [
    ['4in4', 4, outer4],
    ['6in4', 6, outer4],
    ['4in6', 4, outer6],
    ['6in6', 6, outer6],
  ];
  for (const [name, family, outer] of combinations) {
    for (const tags of [0, 1, 2]) {
      it.each([256, 257, 258])(
        `${name} with ${tags} VLAN tags gives the very bytes that the builder makes, frame at %i`,
        (headroom) => {
          const tagged = (b: PacketBuilder) => {
            for (let i = 0; i < tags; i++) b.vlan(100 + i);
            return b;
          };
          const payload = (b: PacketBuilder) => b.tcp({ sport: 4000, dport: 80, flags: 16 }).payload('GET / HTTP/1.1');
          const packet = place(
            payload(ip(family, { tos: 0xb9 })(tagged(new PacketBuilder().ethernet()))).build(),
            headroom,
          );
          parse(packet);
          expect(encapsulate(packet, record(outer), 0)).toBe(DropReason.none);

          const head = tagged(new PacketBuilder().ethernet({ src: SMAC, dst: DMAC }));
          if (outer === outer4) head.ipv4({ ...outer4, ttl: 64, tos: 0xb9, id: 0, dontFragment: true });
          else head.ipv6({ ...outer6, hopLimit: 64, trafficClass: 0xb9 });
          const expected = payload(ip(family, { tos: 0xb9 })(head)).build();
          expect(Buffer.from(bytesOf(packet)).toString('hex')).toBe(Buffer.from(expected).toString('hex'));
          if (outer === outer4) expect(ipv4HeaderValid(packet.view, packet.l3 - 20, 20)).toBe(true);
        },
      );
    }
  }

  it('cuts padding behind the IP packet off', () => {
    const packet = parsed(new PacketBuilder().ethernet().ipv4(inner4).udp({}).payload('x').padTo(64).build());
    encapsulate(packet, record(outer4), 0);
    expect(packet.length).toBe(14 + 20 + 29);
    parse(packet);
    expect([packet.protocol, packet.l3Length, packet.dataEnd - packet.l3]).toEqual([4, 49, 49]);
  });

  it('lets a packet through that just fits the MTU, and refuses one byte more without changing it', () => {
    const frame = new PacketBuilder()
      .ethernet()
      .ipv4(inner4)
      .udp({})
      .payload(1480 - 28)
      .build();
    const fits = parsed(frame);
    expect(encapsulate(fits, record(outer4, 1500), 0)).toBe(DropReason.none);
    const packet = parsed(frame);
    expect(encapsulate(packet, record(outer4, 1499), 0)).toBe(DropReason.tooBig);
    expect(bytesOf(packet)).toEqual(frame);
  });

  it('refuses a frame without headroom, and writes nothing outside of its chunk', () => {
    const frame = new PacketBuilder().ethernet().ipv4(inner4).udp({}).payload('x').build();
    for (const headroom of [0, 1, 19]) {
      const packet = place(frame, headroom);
      parse(packet);
      expect(encapsulate(packet, record(outer4), 0)).toBe(DropReason.noHeadroom);
      expect(bytesOf(packet)).toEqual(frame);
    }
    const packet = place(frame, 20);
    parse(packet);
    expect(encapsulate(packet, record(outer4), 0)).toBe(DropReason.none);
    expect(packet.data).toBe(CHUNK);
    const memory = new Uint8Array(packet.view.buffer);
    expect(memory.subarray(0, CHUNK).every((byte) => byte === 0xee)).toBe(true);
    expect(memory.subarray(packet.dataEnd).every((byte) => byte === 0xee)).toBe(true);
  });
});

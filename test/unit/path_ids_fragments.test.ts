/** Connection ids that change owner while flows live, and fragments of other kinds than UDP over IPv4: on the whole path. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, PROTO } from '../support/packet_builder.js';

const VIP = '198.51.100.10';
const VIP6 = '2001:db8::10';
const CLIENT6 = '2001:db8:1::1';
const outer = (frame: Uint8Array): number => frame[frame[12] === 8 ? 33 : 53];

describe('QUIC connection ids', () => {
  const config = (...ids: string[]) => `
interfaces: [eth0, eth1]
services:
  - name: h3
    vip: ${VIP}
    port: 443
    protocol: udp
    quic: katran
    backends: [${ids.map((id, i) => `{ address: 10.0.0.${11 + i}, server_ids: [${id}] }`).join(', ')}]
`;
  /** Katran's version 1, with 16 bits of id. */
  const cid = (id: number) => [0x40 | (id >> 10), (id >> 2) & 255, (id & 3) << 6, 1, 2, 3, 4, 5];
  const quic = (payload: number[], sport: number, src = '192.0.2.1') =>
    new PacketBuilder().ethernet().ipv4({ src, dst: VIP }).udp({ sport, dport: 443 }).payload(payload).build();
  const short = (id: number, sport: number, src?: string) => quic([0x41, ...cid(id), ...Array<number>(20).fill(9)], sport, src); // prettier-ignore
  const initial = (id: number, sport: number) => quic([0xc0, 0, 0, 0, 1, 8, ...cid(id), 0, 0, ...Array<number>(40).fill(0)], sport); // prettier-ignore

  it('keep a connection from any address and port, and move with a reload', () => {
    const lab = new Lab(config('1', '2', '3'));
    const moves = PORTS.map((port) => short(3, port, `192.0.2.${port & 63}`));
    expect(new Set(lab.run(moves).sent[0].map(outer))).toEqual(new Set([13]));
    lab.adopt(config('3', '2', '1'));
    expect(new Set(lab.run(moves).sent[0].map(outer))).toEqual(new Set([11]));
    // Nobody has it any more: the flows, which are known, stay.
    lab.adopt(config('4', '2', '1'));
    expect(new Set(lab.run(moves).sent[0].map(outer))).toEqual(new Set([11]));
    expect(lab.total(Counter.idUnknown)).toBe(PORTS.length);
    expect(lab.violations()).toEqual([]);
  });

  it('of first packets, which clients make up, spread by hash', () => {
    const lab = new Lab(config('1', '2', '3'));
    expect(new Set(lab.run(PORTS.map((port) => initial(3, port))).sent[0].map(outer))).toEqual(new Set([11, 12, 13]));
    // The server's answer had an id of its own.
    expect(new Set(lab.run(PORTS.map((port) => short(3, port))).sent[0].map(outer))).toEqual(new Set([13]));
  });
});

const PORTS = Array.from({ length: 40 }, (_, i) => 6000 + i);

describe('fragments', () => {
  const start = (more = '') =>
    new Lab(`
interfaces: [eth0, eth1]
services:
  - { name: web6, vip: '${VIP6}', port: 443, protocol: udp, backends: ['fd00::11', 'fd00::12', 'fd00::13'] }
${more}`);
  const ip6 = () => new PacketBuilder().ethernet().ipv6({ src: CLIENT6, dst: VIP6 });
  const later = (id: number, offset: number, more: boolean, protocol: number = PROTO.UDP) => {
    const frame = ip6().fragment({ id, offset, more }).payload(80).build();
    frame[14 + 40] = protocol;
    return frame;
  };
  const first = (id: number) =>
    ip6().fragment({ id, more: true }).udp({ sport: 6000 + id, dport: 443, length: 240, checksum: 1 }).payload(72).build(); // prettier-ignore

  it.each([
    ['in order', [0, 1, 2]],
    ['backwards', [2, 1, 0]],
    ['first in the middle', [1, 0, 2]],
  ])('of IPv6 follow their first, %s', (_, order) => {
    const lab = start();
    for (let id = 0; id < 12; id++) {
      const parts = [first(id), later(id, 10, true), later(id, 20, false)];
      const { sent, dropped } = lab.run(order.map((at) => parts[at]));
      expect([sent[0].length, new Set(sent[0].map(outer)).size, dropped.length]).toEqual([3, 1, 0]);
    }
    expect(lab.violations()).toEqual([]);
  });

  it('that are whole datagrams (RFC 6946) go as such, also where fragments are dropped', () => {
    const lab = start('fragments: { policy: drop }');
    const build = (packet: PacketBuilder) => packet.udp({ sport: 7000, dport: 443 }).payload(20).build();
    const { sent } = lab.run([build(ip6()), build(ip6().fragment())]);
    expect(new Set(sent[0].map(outer)).size).toBe(1);
    expect(sent[0]).toHaveLength(2);
    lab.run([first(1), later(1, 10, false)]);
    expect(lab.drops()).toEqual({ fragment: 2 });
  });

  it('of echo requests go where the first goes, when those are forwarded', () => {
    const lab = start('icmp: { echo: forward }');
    const request = ip6().fragment({ id: 5, more: true }).icmp6({ rest: 1, checksum: 1 }).payload(72).build();
    const { sent } = lab.run([later(5, 10, false, PROTO.ICMPV6), request]);
    expect(sent[0]).toHaveLength(2);
    expect(new Set(sent[0].map(outer)).size).toBe(1);
    expect(lab.violations()).toEqual([]);
  });
});

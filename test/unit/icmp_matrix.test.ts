/** Every ICMP error about every kind of flow, and what fits into every encapsulation: on the whole path. */
import { describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { readIcmp } from '../support/icmp_message.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP, onesComplementSum, pseudoHeaderSum } from '../support/packet_builder.js';

type Family = 4 | 6;
const CLIENT = { 4: '192.0.2.1', 6: '2001:db8:1::1' };
const VIP = { 4: '198.51.100.10', 6: '2001:db8::10' };
const ROUTER = { 4: '203.0.113.7', 6: '2001:db8:7::7' };
const BACKENDS = { 4: '10.0.0.11, 10.0.0.12, 10.0.0.13', 6: "'fd00::11', 'fd00::12', 'fd00::13'" };
const PORTS = Array.from({ length: 12 }, (_, i) => 4000 + i);

const start = (family: Family) =>
  new Lab(`
interfaces: [eth0, eth1]
services:
  - { name: web, vip: '${VIP[family]}', port: 80, backends: [${BACKENDS[family]}] }
  - { name: h3, vip: '${VIP[family]}', port: 80, protocol: udp, quic: katran, backends: [${BACKENDS[family]}] }
`);

function ip(builder: PacketBuilder, family: Family, src: string, dst: string): PacketBuilder {
  return family === 4 ? builder.ipv4({ src, dst }) : builder.ipv6({ src, dst });
}

const toVip = (family: Family) => ip(new PacketBuilder().ethernet(), family, CLIENT[family], VIP[family]);

/** What a router says of `quote`. */
function error(family: Family, type: number, code: number, rest: number, quote: Uint8Array): Uint8Array {
  const builder = ip(new PacketBuilder().ethernet(), family, ROUTER[family], VIP[family]);
  const icmp = { type, code, rest };
  return (family === 4 ? builder.icmp(icmp) : builder.icmp6(icmp)).quote(quote).build();
}

/** Last byte of the outer destination. */
const outer = (frame: Uint8Array): number => frame[frame[12] === 8 ? 33 : 53];
const codes = (type: number, count: number, rest = 0) =>
  Array.from({ length: count }, (_, code) => [type, code, rest] as const);

const ERRORS = {
  4: [...codes(3, 16, 1400), ...codes(11, 2), ...codes(12, 3, 0x14000000)],
  6: [...codes(1, 8), ...codes(2, 1, 1300), ...codes(3, 2), ...codes(4, 3, 40)],
};

describe.each([4, 6] as const)('an ICMP error over IPv%i goes where its flow goes', (family) => {
  it.each([
    ['tcp', 'known', 8],
    ['tcp', 'known', 128],
    ['tcp', 'not known', 8],
    ['udp with connection ids', 'known', 8],
    ['udp with connection ids', 'not known', 4],
  ])('%s, the flow being %s, %i bytes of it quoted', (protocol, known, bytes) => {
    const tcp = protocol === 'tcp';
    const packet = (port: number) => {
      const udp = () => toVip(family).udp({ sport: port, dport: 80 }).payload(30);
      return (tcp ? toVip(family).tcp({ sport: port, dport: 80, flags: TCP.SYN }) : udp()).build();
    };
    const quote = (port: number) => {
      const builder = ip(new PacketBuilder(), family, VIP[family], CLIENT[family]);
      const whole = (tcp ? builder.tcp({ sport: 80, dport: port }) : builder.udp({ sport: 80, dport: port })).payload(
        200,
      );
      return whole.build().subarray(0, (family === 4 ? 20 : 40) + bytes);
    };
    let lab = start(family);
    const flows = lab.run(PORTS.map(packet)).sent[0].map(outer);
    expect(new Set(flows).size).toBe(3);
    if (known === 'not known') lab = start(family);
    for (const [type, code, rest] of ERRORS[family]) {
      const { sent } = lab.run(PORTS.map((port) => error(family, type, code, rest, quote(port))));
      expect(sent[0].map(outer), `type ${type} code ${code}`).toEqual(flows);
    }
    expect(lab.total(Counter.icmpErrors)).toBe(PORTS.length * ERRORS[family].length);
    expect(lab.drops()).toEqual({});
    expect(lab.violations()).toEqual([]);
  });
});

describe.each<[string, number]>([
  ['{ kind: ipip }', 20],
  ['{ kind: gue, gue: { variant: 1 } }', 28],
  ['{ kind: gue, gue: { variant: 0 } }', 32],
])('what fits into %s', (encapsulation, overIpv4) => {
  it.each<[Family, Family]>([
    [4, 4],
    [4, 6],
    [6, 4],
    [6, 6],
  ])('IPv%i in IPv%i: too big with the right MTU, and segments that fit', (inner, outside) => {
    const lab = new Lab(`
interfaces: [eth0, eth1]
encapsulation: ${encapsulation}
services:
  - { name: web, vip: '${VIP[inner]}', port: 80, mss_clamp: auto, backends: [${BACKENDS[outside]}] }
`);
    const room = 1500 - overIpv4 - (outside === 6 ? 20 : 0);
    const headers = (inner === 4 ? 20 : 40) + 20;
    const data = (bytes: number) => toVip(inner).tcp({ dport: 80 }).payload(bytes).build();
    const [whole, told] = lab.run([data(room - headers), data(room - headers + 1)]).sent[0];
    expect(whole).toHaveLength(14 + 1500);
    const message = inner === 4 ? { type: 3, code: 4 } : { type: 2, code: 0 };
    expect(readIcmp(told)).toMatchObject({ ...message, rest: room });
    // At an odd place, so that the checksum is updated across words.
    const options = [1, 2, 4, 0x05, 0xb4];
    const syn = toVip(inner).tcp({ sport: 9, dport: 80, flags: TCP.SYN, options }).build();
    const [sent] = lab.run([syn]).sent[0];
    const start = sent.length - headers - 8;
    const segment = sent.subarray(sent.length - 28);
    expect((segment[23] << 8) | segment[24]).toBe(room - headers);
    const [from, size] = inner === 4 ? [start + 12, 4] : [start + 8, 16];
    const [src, dst] = [sent.subarray(from, from + size), sent.subarray(from + size, from + 2 * size)];
    expect(onesComplementSum(segment, pseudoHeaderSum(src, dst, 6, segment.length))).toBe(0xffff);
    expect(lab.violations()).toEqual([]);
  });
});

/** Each sanity check drops what it is for under its own name, and nothing else. */
import { describe, expect, it } from 'vitest';
import { SanityFilter } from '../../src/dataplane/filter/sanity.js';
import { DROP_REASONS } from '../../src/dataplane/verdict.js';
import { PacketBuilder, PROTO, TCP } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';

const ALL = ['ipv4-checksum', 'ping-of-death', 'land', 'tcp-flags', 'source', 'port-zero', 'tiny-fragment'];

const v4 = (o: object = {}) => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.9', dst: '198.51.100.10', ...o });
const v6 = (o: object = {}) => new PacketBuilder().ethernet().ipv6({ src: '2001:db8::9', dst: '2001:db8::1', ...o });
const tcp = (flags: number) => v4().tcp({ sport: 1000, dport: 80, flags }).build();
const from4 = (src: string) => v4({ src }).udp({ sport: 5, dport: 6 }).build();
const from6 = (src: string) => v6({ src }).udp({ sport: 5, dport: 6 }).build();

const insane: [check: string, reason: string, frames: Record<string, Uint8Array>][] = [
  [
    'ipv4-checksum',
    'sanity_ipv4_checksum',
    {
      'off by one': v4({ checksum: 1 }).udp().build(),
      zero: v4({ checksum: 0 }).udp().build(),
      'with options': v4({ checksum: 0x1234, options: [1, 1, 1, 0] }).udp().build(),
    },
  ],
  [
    'ping-of-death',
    'sanity_ping_of_death',
    {
      'IPv4, one byte too far': v4({ fragmentOffset: 8189, protocol: 1 }).payload(24).build(),
      'IPv4, the last offset': v4({ fragmentOffset: 8191, protocol: 17 }).payload(8).build(),
      IPv6: v6().fragment({ offset: 8190 }).payload(24).build(),
    },
  ],
  [
    'land',
    'sanity_land',
    {
      IPv4: v4({ src: '198.51.100.10' }).tcp({ sport: 80, dport: 80, flags: TCP.SYN }).build(),
      IPv6: v6({ src: '2001:db8::1' }).udp({ sport: 1, dport: 2 }).build(),
    },
  ],
  [
    'tcp-flags',
    'sanity_tcp_flags',
    {
      null: tcp(0),
      'only ECE and CWR': tcp(TCP.ECE | TCP.CWR),
      'SYN-FIN': tcp(TCP.SYN | TCP.FIN),
      'SYN-RST': tcp(TCP.SYN | TCP.RST),
      'Xmas scan': tcp(TCP.FIN | TCP.PSH | TCP.URG),
      'FIN alone': tcp(TCP.FIN),
      'all of them': tcp(0xff),
    },
  ],
  [
    'source',
    'sanity_source',
    Object.fromEntries([
      ...['0.0.0.0', '0.1.2.3', '127.0.0.1', '224.0.0.1', '239.1.1.1', '240.0.0.1', '255.255.255.255'].map((a) => [a, from4(a)]),
      ...['::', '::1', 'ff02::1', 'ff0e::5'].map((a) => [a, from6(a)]),
    ]) as Record<string, Uint8Array>,
  ],
  [
    'port-zero',
    'sanity_port_zero',
    {
      'UDP source': v4().udp({ sport: 0, dport: 53 }).build(),
      'UDP destination': v4().udp({ sport: 53, dport: 0 }).build(),
      'TCP destination': v6().tcp({ sport: 53, dport: 0, flags: TCP.SYN }).build(),
    },
  ],
  ['tiny-fragment', 'sanity_tiny_fragment', { 'offset 8': v4({ fragmentOffset: 1, protocol: 6 }).payload(24).build() }],
]; // prettier-ignore

const sane: Record<string, Uint8Array> = {
  SYN: tcp(TCP.SYN),
  'SYN with ECN': tcp(TCP.SYN | TCP.ECE | TCP.CWR),
  'SYN-ACK': tcp(TCP.SYN | TCP.ACK),
  'FIN-ACK': tcp(TCP.FIN | TCP.ACK),
  RST: tcp(TCP.RST),
  'RST-ACK': tcp(TCP.RST | TCP.ACK),
  'data, urgent': tcp(TCP.ACK | TCP.PSH | TCP.URG),
  UDP: v4().udp({ sport: 1, dport: 65535 }).build(),
  'UDP over IPv6': v6().udp({ sport: 1, dport: 2 }).build(),
  'from 1.0.0.1': from4('1.0.0.1'),
  'from 223.255.255.255': from4('223.255.255.255'),
  'from 126.255.255.255': from4('126.255.255.255'),
  'from 128.0.0.0': from4('128.0.0.0'),
  'from ::2': from6('::2'),
  'from fe80::1': from6('fe80::1'),
  'options with a right checksum': v4({ options: [1, 1, 1, 0] }).udp({ sport: 1, dport: 2 }).build(),
  'the last fragment that fits': v4({ fragmentOffset: 8189, protocol: 17 }).payload(3).build(),
  'the last IPv6 fragment that fits': v6().fragment({ offset: 8189 }).payload(23).build(),
  'a UDP fragment at offset 8': v4({ fragmentOffset: 1, protocol: 17 }).payload(24).build(),
  'a TCP fragment at offset 16': v4({ fragmentOffset: 2, protocol: 6 }).payload(24).build(),
  'addresses that differ in the last word only': v6({ src: '2001:db8::1', dst: '2001:db8::2' }).udp({ sport: 1, dport: 2 }).build(),
  ARP: new PacketBuilder().ethernet({ type: 0x0806 }).payload(new Uint8Array(28)).build(),
  'a header whose checksum is 0xffff or 0': headerSummingToZero(),
}; // prettier-ignore

/** A header whose right checksum field is 0: found by trying identifications. */
function headerSummingToZero(): Uint8Array {
  for (let id = 0; id < 65536; id++) {
    const frame = v4({ id }).udp({ sport: 1, dport: 2 }).build();
    if (frame[24] === 0 && frame[25] === 0) return frame;
  }
  throw new Error('there is none');
}

const reasonOf = (checks: string[], protocols: number[] | null, frame: Uint8Array) => {
  const packet = parsed(frame);
  expect(packet.malformed, 'the parser takes it').toBe(0);
  return DROP_REASONS[new SanityFilter(checks, protocols).check(packet)];
};

describe('the sanity check', () => {
  const cases = insane.flatMap(([check, reason, frames]) =>
    Object.entries(frames).map(([name, frame]) => [check, name, reason, frame] as const),
  );

  it.each(cases)('%s drops %s, by itself and among all, and no other check does', (check, _name, reason, frame) => {
    expect(reasonOf([check], null, frame)).toBe(reason);
    expect(reasonOf(ALL, null, frame)).not.toBe('none');
    expect(reasonOf([], null, frame)).toBe('none');
  });

  it.each(Object.entries(sane))('lets %s pass', (_name, frame) => {
    expect(reasonOf(ALL, null, frame)).toBe('none');
  });

  it('ipv4-options drops what has options, though it is legal, and leaves extension headers of IPv6 alone', () => {
    const withOptions = v4({ options: [1, 1, 1, 0] })
      .udp({ sport: 1, dport: 2 })
      .build();
    const extended = v6().extension(0).udp({ sport: 1, dport: 2 }).build();
    expect(reasonOf(['ipv4-options'], null, withOptions)).toBe('sanity_ipv4_options');
    expect(reasonOf(ALL, null, withOptions)).toBe('none');
    expect(reasonOf(['ipv4-options'], null, extended)).toBe('none');
    for (const [name, frame] of Object.entries(sane)) {
      if (name.startsWith('options')) continue;
      expect(reasonOf(['ipv4-options'], null, frame), name).toBe('none');
    }
  });

  it('names exactly the one that is wrong when only one is', () => {
    for (const [check, , frames] of insane) {
      for (const [name, frame] of Object.entries(frames)) {
        const others = ALL.filter((other) => other !== check);
        expect(reasonOf(others, null, frame), `${name} without ${check}`).toBe('none');
      }
    }
  });

  it('allows the protocols that it is told', () => {
    const allowed = [PROTO.TCP, PROTO.UDP];
    expect(reasonOf([], allowed, tcp(TCP.SYN))).toBe('none');
    expect(reasonOf([], allowed, v6().udp().build())).toBe('none');
    expect(reasonOf([], allowed, v4().icmp().build())).toBe('protocol_not_allowed');
    expect(reasonOf([], allowed, v4({ protocol: 255 }).payload(8).build())).toBe('protocol_not_allowed');
    expect(reasonOf([], allowed, v4({ fragmentOffset: 4, protocol: 17 }).payload(8).build())).toBe('none');
    expect(reasonOf([], allowed, sane.ARP)).toBe('none');
  });

  it('is told about a check that is none', () => {
    expect(() => new SanityFilter(['ipv4-checksums'], null)).toThrow(/unknown sanity check "ipv4-checksums"/);
  });

  it('agrees with a slow check of the header’s checksum on a thousand random headers', () => {
    const next = random(7);
    const filter = new SanityFilter(['ipv4-checksum'], null);
    for (let i = 0; i < 1000; i++) {
      const frame = v4({ id: Math.trunc(next() * 65536), tos: Math.trunc(next() * 256), ttl: 1 + Math.trunc(next() * 255) }).udp().build(); // prettier-ignore
      const bit = Math.trunc(next() * 96);
      if (next() < 0.5) frame[14 + 4 + (bit >> 3)] ^= 1 << (bit & 7);
      const packet = parsed(frame);
      if (packet.malformed !== 0 || packet.family !== 4) continue;
      let sum = 0;
      for (let at = 14; at < 34; at += 2) sum += (frame[at] << 8) | frame[at + 1];
      while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
      expect(filter.check(packet) === 0).toBe(sum === 0xffff);
    }
  });
});

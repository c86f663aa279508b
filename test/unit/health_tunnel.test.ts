/** What a check's packet becomes on its way into the tunnel, and how ports and settings are lent. */
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { PortPool } from '../../src/control/health/tunnel/port_pool.js';
import { withReserved } from '../../src/control/health/tunnel/reserved_ports.js';
import { Settings } from '../../src/control/health/tunnel/settings.js';
import { readInner, wrap, type TunnelRoute } from '../../src/control/health/tunnel/wrap.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { PROTO, PacketBuilder, TCP } from '../support/packet_builder.js';
import { internetChecksum, pseudoHeaderSum } from '../support/packet_builder.js';

const SMAC = '02:00:00:00:00:0a';
const DMAC = '02:00:00:00:00:0b';
const SPORT = 61500;
const TOS = 0xb9; // EF, ECN CE

const ENDS = { 4: ['10.0.0.1', '10.0.0.2'], 6: ['fd00::1', 'fd00::2'] } as const;
const inner = {
  4: (builder: PacketBuilder) =>
    builder.ipv4({ src: '10.0.0.1', dst: '198.51.100.10', tos: TOS }).tcp({ sport: SPORT, dport: 80, flags: TCP.SYN }),
  6: (builder: PacketBuilder) =>
    builder
      .ipv6({ src: 'fd00::1', dst: '2001:db8::10', trafficClass: TOS })
      .udp({ sport: SPORT, dport: 7 })
      .payload('hello'),
};
const families = [4, 6] as const;

function route(family: 4 | 6, encapsulation: Partial<TunnelRoute['encapsulation']>): TunnelRoute {
  const [source, destination] = ENDS[family].map(parseAddress);
  const gue = { port: 6080, variant: 0, checksum: 'zero' } as const;
  return {
    interface: 'eth0',
    smac: parseMac(SMAC),
    dmac: parseMac(DMAC),
    sourceAddress: source,
    destination,
    encapsulation: { kind: 'ipip', gue, ...encapsulation },
  };
}

/** Outer headers by the packet builder, which knows nothing of the code that is tested. */
function outer(family: 4 | 6, protocol?: number): PacketBuilder {
  const builder = new PacketBuilder().ethernet({ src: SMAC, dst: DMAC });
  const [src, dst] = ENDS[family];
  return family === 4
    ? builder.ipv4({ src, dst, tos: TOS, ttl: 64, id: 0, dontFragment: true, protocol })
    : builder.ipv6({ src, dst, trafficClass: TOS, hopLimit: 64, nextHeader: protocol });
}

const frameOf = (family: 4 | 6) => inner[family](new PacketBuilder().ethernet()).padTo(90).build();
const packetOf = (family: 4 | 6) => inner[family](new PacketBuilder()).build();

describe('a wrapped packet', () => {
  it.each(families.flatMap((out) => families.map((inside) => [inside, out] as const)))(
    'IPv%i in IPv%i: IPIP, without the padding of the frame',
    (inside, out) => {
      const wrapped = wrap(readInner(frameOf(inside))!, route(out, {}));
      expect(Buffer.from(wrapped)).toEqual(Buffer.from(inner[inside](outer(out)).build()));
    },
  );

  const variants = families.flatMap((out) =>
    families.flatMap((inside) =>
      ([0, 1] as const).flatMap((variant) =>
        (['zero', 'computed'] as const).map((sum) => [inside, out, variant, sum] as const),
      ),
    ),
  );
  it.each(variants)('IPv%i in GUE over IPv%i, variant %i, checksum %s', (inside, out, variant, sum) => {
    const gue = { port: 6081, variant, checksum: sum };
    const wrapped = wrap(readInner(frameOf(inside))!, route(out, { kind: 'gue', gue }));
    const header = variant === 0 ? [0, inside === 4 ? PROTO.IPIP : PROTO.IPV6, 0, 0] : [];
    const expected = outer(out)
      .udp({ sport: 0x8000 | (SPORT & 0x7fff), dport: 6081, checksum: sum === 'zero' ? 0 : undefined })
      .payload(Uint8Array.of(...header, ...packetOf(inside)))
      .build();
    expect(Buffer.from(wrapped)).toEqual(Buffer.from(expected));
  });

  it('has a checksum that adds up, also when it would be 0', () => {
    // Of all ports one gives a sum of 0, which RFC 768 sends as all ones.
    const seen = new Set<number>();
    const gue = { variant: 1, checksum: 'computed' } as const;
    for (let port = 1; port < 65536; port++) {
      const wrapped = Buffer.from(wrap(readInner(frameOf(4))!, route(4, { kind: 'gue', gue: { port, ...gue } })));
      if (wrapped.readUInt16BE(40) === 0xffff) seen.add(port);
      if (wrapped.readUInt16BE(40) === 0) throw new Error(`checksum 0 with port ${port}`);
      if (port % 1009 !== 0) continue;
      const udp = wrapped.subarray(34);
      expect(
        internetChecksum(
          udp,
          pseudoHeaderSum(wrapped.subarray(26, 30), wrapped.subarray(30, 34), PROTO.UDP, udp.length),
        ),
      ).toBe(0);
    }
    expect(seen.size).toBe(1);
  });

  it('goes out as it is, with other hardware addresses, where backends are on the link', () => {
    const wrapped = wrap(readInner(frameOf(6))!, route(4, { kind: 'l2' }));
    const expected = inner[6](new PacketBuilder().ethernet({ src: SMAC, dst: DMAC })).build();
    expect(Buffer.from(wrapped)).toEqual(Buffer.from(expected));
  });
});

describe('what the host sends into the device', () => {
  it('is recognised by protocol and source port', () => {
    for (const family of families) expect(readInner(frameOf(family))).toMatchObject({ family, tos: TOS, sport: SPORT });
  });

  it.each<[string, PacketBuilder]>([
    ['ARP', new PacketBuilder().ethernet({ type: 0x0806 }).payload(46)],
    ['ICMP', new PacketBuilder().ethernet().ipv4().icmp()],
    ['a router solicitation', new PacketBuilder().ethernet().ipv6().icmp6({ type: 133 })],
    ['a fragment', new PacketBuilder().ethernet().ipv4({ moreFragments: true }).udp().payload(30)],
    ['a total length beyond the frame', new PacketBuilder().ethernet().ipv4({ totalLength: 500 }).udp()],
    ['a header length of 4', new PacketBuilder().ethernet().ipv4({ ihl: 4 }).udp().payload(30)],
    ['a packet too short for ports', new PacketBuilder().ethernet().ipv4({ totalLength: 24 }).udp()],
    ['an IPv6 payload beyond the frame', new PacketBuilder().ethernet().ipv6({ payloadLength: 500 }).udp()],
    ['next to nothing', new PacketBuilder().ethernet().payload(3)],
  ])('is left alone: %s', (_, builder) => {
    expect(readInner(builder.build())).toBeNull();
  });
});

describe('source ports', () => {
  it('are lent in turn, the one longest free first, and remember who had them', () => {
    const pool = new PortPool({ first: 100, last: 103 }, 0.5);
    expect(['a', 'b', 'c', 'd', 'e'].map((owner) => pool.take(owner))).toEqual([102, 103, 100, 101, null]);
    pool.giveBack(103);
    pool.giveBack(100);
    expect(pool.ownerOf(103)).toBe('b');
    expect([pool.take('x'), pool.take('y'), pool.take('z')]).toEqual([103, 100, null]);
    expect([100, 101, 102, 103, 99, 104].map((port) => pool.ownerOf(port))).toEqual(['y', 'd', 'a', 'x', null, null]);
  });

  it.each([
    ['', '61440-63487'],
    ['8080', '8080,61440-63487'],
    ['61000-61439,63488,64000', '61000-63488,64000'],
    ['61000-65535', '61000-65535'],
    ['62000', '61440-63487'],
  ])('are reserved beside %j', (before, after) => {
    expect(withReserved(before, { first: 61440, last: 63487 })).toBe(after);
  });
});

describe('settings', () => {
  it('are recorded while they are changed, and nothing is left afterwards', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-health-'));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const settings = new Settings(directory);
    expect(settings.hasLeftovers()).toBe(false);
    settings.begin();
    expect(readdirSync(directory)).toHaveLength(1);
    expect(new Settings(directory).hasLeftovers()).toBe(true);
    // No such setting: nothing to do.
    settings.set('net/ipv4/conf/no-such-device/rp_filter', '2');
    settings.end();
    expect(readdirSync(directory)).toEqual([]);
  });
});

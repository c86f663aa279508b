/** Whose connection is it? bpf/second_hop.h against real sockets of a namespace, and bpf/forward.h byte for byte. */
import { once } from 'node:events';
import { beforeEach, describe, expect, it } from 'vitest';
import { encodeIpAddr } from '../../src/control/bpf_layout.js';
import { parseAddress } from '../../src/shared/addr.js';
import { Decap, XDP } from '../support/bpf.js';
import { until } from '../support/bpf_child.js';
import { gue0, GUE_PORT, type Gue0Options } from '../support/gue.js';
import * as hop from '../support/hop_host.js';
import { HopHost, HOP_MACS, HOPS, LB, ME, VIP, type Family, type Flow } from '../support/hop_host.js';
import { PacketBuilder, TCP, type UdpOptions } from '../support/packet_builder.js';

const FAMILIES = [4, 6] as const;
const PAIRS = FAMILIES.flatMap((inside) => FAMILIES.map((outside) => [inside, outside] as const));
const SPORT = 0xbeef;

let host: HopHost;
beforeEach(() => {
  host = HopHost.enter();
});

const program = (settings = {}): Decap => new Decap(Object.values(ME), Object.values(LB), settings);
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const stranger = (family: Family): Flow => ({ family, client: hop.FAR[family], clientPort: 40000 });

interface Wrapping extends Gue0Options {
  ttl?: number;
  udp?: UdpOptions;
  tags?: number[];
}

function wrap(outside: Family, inner: Uint8Array, o: Wrapping = {}): Uint8Array {
  const frame = new PacketBuilder().ethernet();
  for (const tag of o.tags ?? []) frame.vlan(tag);
  return frame
    .ipip({ src: LB[outside], dst: ME[outside], ttl: o.ttl ?? 64, tos: 2 })
    .udp({ sport: SPORT, dport: GUE_PORT, ...o.udp })
    .payload(gue0(inner, { hops: HOPS[outside], ...o }))
    .build();
}

/** What leaves for hop `index`. */
function sentOn(outside: Family, inner: Uint8Array, index: number, o: Wrapping = {}): Uint8Array {
  const frame = new PacketBuilder().ethernet({ src: host.mac, dst: HOP_MACS[index] });
  for (const tag of o.tags ?? []) frame.vlan(tag);
  return frame
    .ipip({ src: ME[outside], dst: HOPS[outside][index], ttl: (o.ttl ?? 64) - 1, tos: 2 })
    .udp({ sport: SPORT, dport: GUE_PORT, ...o.udp })
    .payload(gue0(inner, { hops: HOPS[outside], nextHop: index + 1 }))
    .build();
}

function expectLocal(decap: Decap, outside: Family, inner: Uint8Array, why: string, o: Wrapping = {}): void {
  const moved = decap.counted(() => {
    const { retval, data } = decap.run(wrap(outside, inner, o));
    expect(retval).toBe(XDP.PASS);
    expect(hex(data.slice(14))).toBe(hex(inner));
  });
  expect(moved).toEqual({ seen: 1, decap_gue0: 1, [why]: 1 });
}

function expectSentOn(decap: Decap, outside: Family, inner: Uint8Array, o: Wrapping = {}): void {
  const moved = decap.counted(() => {
    const { retval, data } = decap.run(wrap(outside, inner, o), host.tap.ifindex);
    expect(retval).toBe(XDP.TX);
    expect(hex(data)).toBe(hex(sentOn(outside, inner, o.nextHop ?? 0, o)));
  });
  expect(moved).toEqual({ seen: 1, hop_forwarded: 1 });
}

describe.each(PAIRS)('a TCP segment, %iin%i', (inside, outside) => {
  it('stays with SYN, whoever has the connection; not with SYN and ACK', () => {
    using decap = program();
    for (const flags of [TCP.SYN, TCP.SYN | TCP.ECE | TCP.CWR]) {
      expectLocal(decap, outside, hop.segment(stranger(inside), { flags }), 'local_syn');
    }
    expectSentOn(decap, outside, hop.segment(stranger(inside), { flags: TCP.SYN | TCP.ACK }));
  });

  it('is sent on when no socket knows it, a listener included', async () => {
    using decap = program();
    const flags = [TCP.ACK, TCP.ACK | TCP.PSH, TCP.FIN | TCP.ACK, TCP.RST, TCP.RST | TCP.ACK, 0];
    for (const round of ['nobody', 'a listener']) {
      if (round === 'a listener') await host.listen();
      for (const some of flags) expectSentOn(decap, outside, hop.segment(stranger(inside), { flags: some }));
    }
  });

  it('stays when its connection is established here', async () => {
    using decap = program();
    const { flow } = await host.connect(await host.listen(), inside);
    for (const flags of [TCP.ACK, TCP.FIN | TCP.ACK, TCP.RST]) {
      expectLocal(decap, outside, hop.segment(flow, { flags }), 'local_socket');
    }
    expectSentOn(decap, outside, hop.segment({ ...flow, clientPort: flow.clientPort ^ 1 }, {}));
  });

  it('stays while its handshake is under way here', async () => {
    using decap = program();
    await host.listen();
    const flow = stranger(inside);
    await host.halfOpen(flow, 1000);
    // Any segment: the request socket itself is what is found, whatever the numbers say.
    expectLocal(decap, outside, hop.segment(flow, { seq: 1001, ack: 5 }), 'local_socket');
  });

  it('stays when it brings back a SYN cookie of this host', async () => {
    using decap = program();
    host.namespace.sysctl({ 'net/ipv4/tcp_syncookies': 2 });
    await host.listen();
    const flow = stranger(inside);
    const cookie = await host.halfOpen(flow, 1000);
    const answer = (ack: number): Uint8Array => hop.segment(flow, { seq: 1001, ack });
    expectLocal(decap, outside, answer(cookie + 1), 'local_cookie');
    // The lowest bits are the MSS, of which the kernel knows four.
    expectSentOn(decap, outside, answer(cookie + 101));
    expectSentOn(decap, outside, hop.segment(flow, { seq: 1001, ack: cookie + 1, flags: TCP.RST | TCP.ACK }));
  });

  it('stays in TIME_WAIT', async () => {
    using decap = program();
    const { flow, socket, accepted } = await host.connect(await host.listen(), inside);
    accepted.end();
    accepted.resume();
    socket.resume();
    await once(socket, 'end');
    socket.end();
    await once(socket, 'close');
    await until(() => host.namespace.exec('ss', '-tan', 'state', 'time-wait').includes(String(flow.clientPort)));
    expectLocal(decap, outside, hop.segment(flow, { flags: TCP.FIN | TCP.ACK }), 'local_socket');
  });

  it('goes to the hop whose turn it is, and stays when none is left', () => {
    using decap = program();
    const inner = hop.segment(stranger(inside), {});
    expectSentOn(decap, outside, inner, { nextHop: 1 });
    for (const nextHop of [2, 3, 255]) expectLocal(decap, outside, inner, 'local_last', { nextHop });
  });

  it('keeps its outer checksum right, or none, and its VLAN tags', () => {
    using decap = program();
    for (const length of [0, 1, 700, 701]) {
      const inner = Uint8Array.of(...hop.segment(stranger(inside), {}), ...new Uint8Array(length).fill(0xa5));
      expectSentOn(decap, outside, inner);
      expectSentOn(decap, outside, inner, { udp: { checksum: 0 } });
      expectSentOn(decap, outside, inner, { tags: [7] });
      expectSentOn(decap, outside, inner, { tags: [7, 9], nextHop: 1 });
    }
  });
});

describe('an ICMP error', () => {
  const ERRORS: Record<Family, [number, number][]> = {
    4: [
      [3, 4],
      [3, 1],
      [11, 0],
      [12, 0],
    ],
    6: [
      [2, 0],
      [1, 0],
      [3, 0],
      [4, 0],
    ],
  };

  it.each(PAIRS)('goes where the socket is that it is about, %iin%i', async (inside, outside) => {
    using decap = program();
    const { flow } = await host.connect(await host.listen(), inside);
    for (const [type, code] of ERRORS[inside]) {
      expectLocal(decap, outside, hop.icmpError(flow, type, code), 'local_icmp');
      expectSentOn(decap, outside, hop.icmpError(stranger(inside), type, code));
      expectLocal(decap, outside, hop.icmpError(stranger(inside), type, code), 'local_last', { nextHop: 2 });
    }
  });
});

describe('what no socket can tell stays', () => {
  const ip4 = (): PacketBuilder => new PacketBuilder().ipv4({ src: hop.FAR[4], dst: VIP[4] });
  const ip6 = (): PacketBuilder => new PacketBuilder().ipv6({ src: hop.FAR[6], dst: VIP[6] });
  it.each<[string, PacketBuilder]>([
    ['UDP', ip4().udp()],
    ['UDP over IPv6', ip6().udp()],
    ['an echo request', ip4().icmp()],
    ['an ICMPv6 echo request', ip6().icmp6().payload(48)],
    ['an ICMP error about UDP', ip4().icmp({ type: 3 }).quote(ip4().udp().build())],
    ['an ICMPv6 error about UDP', ip6().icmp6({ type: 2 }).quote(ip6().udp().payload(20).build())],
    ['an ICMP error that quotes too little', ip4().icmp({ type: 3 }).quote(ip4().tcp().build().slice(0, 22))],
    [
      'an ICMP error about a later fragment',
      ip4()
        .icmp({ type: 3 })
        .quote(new PacketBuilder().ipv4({ fragmentOffset: 5 }).tcp().build()),
    ],
    ['a first fragment', new PacketBuilder().ipv4({ dst: VIP[4], moreFragments: true }).tcp()],
    ['a later fragment', new PacketBuilder().ipv4({ dst: VIP[4], fragmentOffset: 3, protocol: 6 }).payload(24)],
    ['a TCP header cut short', new PacketBuilder().ipv4({ dst: VIP[4], protocol: 6 }).payload(19)],
    ['TCP behind an IPv6 extension header', ip6().extension(0).tcp()],
    ['GRE', new PacketBuilder().ipv4({ dst: VIP[4], protocol: 47 }).payload(40)],
  ])('%s', (_name, inner) => {
    using decap = program();
    expectLocal(decap, 4, inner.build(), 'local_other');
  });
});

describe('a packet that cannot be sent on', () => {
  const inner = (): Uint8Array => hop.segment(stranger(4), {});
  const dropped = (decap: Decap, why: string, outside: Family, o: Wrapping = {}): void => {
    const moved = decap.counted(() => expect(decap.run(wrap(outside, inner(), o)).retval).toBe(XDP.DROP));
    expect(moved).toEqual({ seen: 1, [why]: 1 });
  };
  const hopCounts = (decap: Decap, address: string): bigint[] => {
    const value = decap.object.map('decap_hops').lookup(encodeIpAddr(parseAddress(address)));
    return value ? [...new BigUint64Array(value.slice().buffer)] : [];
  };

  it.each(FAMILIES)('is dropped by name, IPv%i', (outside) => {
    using decap = program();
    dropped(decap, 'drop_hop_ttl', outside, { ttl: 1 });
    dropped(decap, 'drop_hop_ttl', outside, { ttl: 0 });
    const prefix = outside === 4 ? '203.0.113.' : '2001:db8:bad::';
    host.namespace.ip(`route add unreachable ${prefix}${outside === 4 ? '128/25' : '/64'}`);
    dropped(decap, 'drop_hop_route', outside, { hops: [`${prefix}${outside === 4 ? '200' : '1'}`] });
    // An address of this host: a chain must not name the packet's own destination.
    dropped(decap, 'drop_hop_route', outside, { hops: [ME[outside]] });
    host.namespace.ip('link set wire mtu 1300');
    const large = Uint8Array.of(...inner(), ...new Uint8Array(1300));
    const total = new PacketBuilder()
      .ipv4({ src: hop.FAR[4], dst: VIP[4] })
      .tcp({ sport: 40000 })
      .payload(1300)
      .build();
    expect(total.length).toBe(large.length);
    expect(decap.counted(() => decap.run(wrap(outside, total)))).toEqual({ seen: 1, drop_hop_mtu: 1 });
    host.namespace.sysctl({ [`net/ipv${outside}/conf/lo/forwarding`]: 0 });
    dropped(decap, 'drop_hop_route', outside);
  });

  it.each(FAMILIES)('for want of a hardware address is dropped and the hop noted, IPv%i', (outside) => {
    using decap = program();
    const address = outside === 4 ? '192.0.2.83' : '2001:db8:1::83';
    dropped(decap, 'drop_hop_neighbour', outside, { hops: [address] });
    dropped(decap, 'drop_hop_neighbour', outside, { hops: [address] });
    expect(hopCounts(decap, address)).toEqual([0n, 2n]);
    host.namespace.ip(`neigh replace ${address} lladdr 02:00:00:00:00:83 dev wire`);
    decap.run(wrap(outside, inner(), { hops: [address] }));
    expect(hopCounts(decap, address)).toEqual([1n, 2n]);
  });

  it('an IPv4-mapped IPv6 hop is no hop', () => {
    using decap = program();
    dropped(decap, 'drop_gue_chain', 6, {
      type: 1,
      private: [0, 1, 0, 1, ...new Uint8Array(10), 255, 255, 192, 0, 2, 81],
    });
  });
});

it('leaves by the interface of the route, when that is another than it came in on', () => {
  using decap = program();
  // Without an interface the test run came in on lo.
  const { retval, data } = decap.run(wrap(4, hop.segment(stranger(4), {})));
  expect(retval).toBe(XDP.REDIRECT);
  expect(hex(data)).toBe(hex(sentOn(4, hop.segment(stranger(4), {}), 0)));
});

it('with second hop off everything stays, and no socket is looked for', () => {
  using decap = program({ second_hop: 0 });
  const moved = decap.counted(() => expect(decap.run(wrap(4, hop.segment(stranger(4), {}))).retval).toBe(XDP.PASS));
  expect(moved).toEqual({ seen: 1, decap_gue0: 1 });
});

it('a connection that was closed with data unread is unknown: its last segments are sent on', async () => {
  using decap = program();
  const { flow, socket, accepted } = await host.connect(await host.listen(), 4);
  await new Promise((resolve) => socket.write('never read', resolve));
  expectLocal(decap, 4, hop.segment(flow, {}), 'local_socket');
  // The kernel resets it and forgets it at once: what was never read cannot be acknowledged (RFC 2525 §2.17).
  const reset = new Promise((resolve) => socket.once('close', resolve));
  accepted.destroy();
  expect(await reset).toBe(true);
  expectSentOn(decap, 4, hop.segment(flow, {}));
});

/** bpf/flow_cache.bpf.c: what it hands on, untouched, and what it forgets. */
import { describe, expect, it } from 'vitest';
import { encodeU32 } from '../../src/control/bpf_layout.js';
import { encodeFlowBackend } from '../../src/control/ebpf/flow_layout.js';
import { BackendField } from '../../src/shared/layout.js';
import { Redirect, truncations, XDP } from '../support/bpf.js';
import { randomSource } from '../support/cbpf_programs.js';
import { FlowCache, nowMs, OTHER_IFINDEX, tupleOf } from '../support/flow_cache.js';
import { katranSetup } from '../support/katran_setup.js';
import { runKatran } from '../support/katran_run.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, PROTO, TCP } from '../support/packet_builder.js';
import { loadWithoutPerfmon } from '../support/loading.js';
import { LEFT_ALONE, TAKEN } from '../support/packet_kinds.js';
import { parsed } from '../support/packets.js';
import { frameOf, katranVectors, NO_VECTORS } from '../support/vectors.js';

const LAB = new Lab(`
interfaces: [{ name: net0 }]
services:
  - { name: tcp4, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11] }
  - { name: udp4, vip: 198.51.100.10, port: 80, protocol: udp, backends: [10.0.0.11] }
  - { name: tcp6, vip: '2001:db8::10', port: 80, protocol: tcp, backends: [10.0.0.11] }
  - { name: udp6, vip: '2001:db8::10', port: 80, protocol: udp, backends: [10.0.0.11] }
`);
const eth = (): PacketBuilder => new PacketBuilder().ethernet();
const v4 = (o = {}, builder = eth()): PacketBuilder => builder.ipv4({ src: '192.0.2.1', dst: '198.51.100.10', ...o });
const v6 = (o = {}, builder = eth()): PacketBuilder =>
  builder.ipv6({ src: '2001:db8:1::1', dst: '2001:db8::10', ...o });
const tcp = (ip: PacketBuilder, o = {}): Uint8Array =>
  ip
    .tcp({ sport: 4000, dport: 80, ...o })
    .payload(20)
    .build();
const udp = (ip: PacketBuilder, o = {}): Uint8Array =>
  ip
    .udp({ sport: 4000, dport: 80, ...o })
    .payload(20)
    .build();
/** One packet of each of the four flows that are in the cache. */
const FLOWS: [string, Uint8Array][] = [
  ['TCP, IPv4', tcp(v4())],
  ['UDP, IPv4', udp(v4())],
  ['TCP, IPv6', tcp(v6())],
  ['UDP, IPv6', udp(v6())],
];

function cacheOf(options: { generation?: number; seenMs?: number } = {}): FlowCache {
  const cache = new FlowCache();
  cache.adopt(LAB);
  for (const [, frame] of FLOWS) {
    LAB.run([frame]);
    cache.learn(LAB, frame, options);
  }
  return cache;
}

function expectHandedOn(cache: FlowCache, frame: Uint8Array): void {
  const { retval, data } = cache.run(frame);
  expect([retval, Buffer.from(data).toString('hex')]).toEqual([XDP.PASS, Buffer.from(frame).toString('hex')]);
}

describe('the cache of flows', () => {
  it.each(FLOWS)('sends what it knows: %s', (_, frame) => {
    using cache = cacheOf();
    expect(cache.run(frame).retval).toBe(XDP.TX);
  });

  it.each([
    ['no IP', eth().payload(46).build()],
    ['one tag', tcp(v4({}, eth().vlan(7)))],
    ['a tag in front of IPv6', udp(v6({}, eth().vlan(7)))],
    ['IPv4 options', tcp(v4({ options: [1, 1, 1, 1] }))],
    ['a first fragment', udp(v4({ moreFragments: true }))],
    ['a later fragment', udp(v4({ fragmentOffset: 3 }))],
    ['version 5', tcp(v4({ version: 5 }))],
    ['a wrong IPv4 checksum', tcp(v4({ checksum: 0x1234 }))],
    ['a total length beyond the frame', tcp(v4({ totalLength: 80 }))],
    ['a total length below the headers', tcp(v4({ totalLength: 39 }))],
    ['a total length of 0', udp(v4({ totalLength: 0 }))],
    ['ICMP', v4().icmp().payload(40).build()],
    ['ICMPv6', v6().icmp6().payload(40).build()],
    ['GRE', v4({ protocol: 47 }).payload(40).build()],
    ['TCP without ACK', tcp(v4(), { flags: 0 })],
    ['TCP with URG', tcp(v4(), { flags: TCP.ACK | TCP.URG })],
    ['URG over IPv6', tcp(v6(), { flags: TCP.ACK | TCP.URG })],
    ['a TCP header of 16 bytes', tcp(v4(), { dataOffset: 4 })],
    ['a TCP header beyond the packet', tcp(v4(), { dataOffset: 15 })],
    ['a UDP length beyond the packet', udp(v4(), { length: 29 })],
    ['a UDP length of 7', udp(v6(), { length: 7 })],
    ['an extension header', v6().extension(PROTO.DSTOPTS).udp({ sport: 4000, dport: 80 }).build()],
    ['an IPv6 fragment', v6().fragment({ more: true }).udp({ sport: 4000, dport: 80 }).payload(8).build()],
    ['an IPv6 payload length beyond the frame', udp(v6({ payloadLength: 29 }))],
    ['IPv6 as a jumbogram', udp(v6({ payloadLength: 0 }))],
    ['another source port', udp(v4(), { sport: 4001 })],
    ['another destination port', tcp(v6(), { dport: 81 })],
    ['another source', udp(v4({ src: '192.0.2.2' }))],
    ['another destination', tcp(v6({ dst: '2001:db8::11' }))],
    ['addresses the other way round', udp(v4({ src: '198.51.100.10', dst: '192.0.2.1' }))],
  ])('hands on %s', (_, frame) => {
    using cache = cacheOf();
    expectHandedOn(cache, frame);
    expect(cache.stats()).toEqual({});
    for (const [name, known] of FLOWS) expect([name, cache.run(known).retval]).toEqual([name, XDP.TX]);
  });

  it.each(FLOWS)('hands on a frame that is cut anywhere: %s', (_, whole) => {
    using cache = cacheOf();
    for (const frame of truncations(whole)) expectHandedOn(cache, frame);
  });

  it('hands on every kind of packet that is not plain', () => {
    using cache = cacheOf();
    const next = randomSource(20261121);
    for (const [kind, make] of Object.entries({ ...TAKEN, ...LEFT_ALONE })) {
      for (let i = 0; i < 20; i++) {
        const frame = make(next).build();
        const { retval, data } = cache.run(frame);
        expect([kind, retval, Buffer.from(data).equals(Buffer.from(frame))]).toEqual([kind, XDP.PASS, true]);
      }
    }
  });

  it.each([
    ['SYN', TCP.SYN],
    ['SYN with ACK', TCP.SYN | TCP.ACK],
    ['FIN', TCP.FIN | TCP.ACK],
    ['RST', TCP.RST],
    ['everything', 0xff],
  ])('hands on %s, forgets the flow and no other', (_, flags) => {
    using cache = cacheOf();
    for (const ip of [v4, v6]) {
      expectHandedOn(cache, tcp(ip(), { flags }));
      expectHandedOn(cache, tcp(ip()));
      expect(cache.run(udp(ip())).retval).toBe(XDP.TX);
      expectHandedOn(cache, tcp(ip(), { flags, sport: 5000 }));
    }
    expect(cache.stats()).toMatchObject({ ended: 2, tx: 2 });
    expect(FLOWS.map(([, frame]) => cache.seenMs(tupleOf(parsed(frame))) !== null)).toEqual([false, true, false, true]);
  });

  it('a flow that is only announced is not served, but a SYN forgets it', () => {
    using cache = cacheOf({ generation: 0 });
    for (const [, frame] of FLOWS) expectHandedOn(cache, frame);
    expect(cache.stats()).toEqual({ stale: 4 });
    expectHandedOn(cache, tcp(v4(), { flags: TCP.SYN }));
    expect(cache.stats()).toEqual({ stale: 4, ended: 1 });
  });

  it('a backend of another generation serves nothing, and all of it again with the former one', () => {
    using cache = cacheOf({ generation: 5 });
    for (const generation of [4, 6, 0]) {
      cache.adopt(LAB, generation);
      for (const [, frame] of FLOWS) expectHandedOn(cache, frame);
    }
    expect(cache.stats()).toEqual({ stale: 12 });
    cache.adopt(LAB, 5);
    for (const [, frame] of FLOWS) expect(cache.run(frame).retval).toBe(XDP.TX);
  });

  it('another way to the backend is taken at once, with the flows that are there', () => {
    using cache = cacheOf();
    const { backends } = LAB.balancer.snapshot;
    const moved = Int32Array.from(backends);
    for (let at = 0; at < moved.length; at += BackendField.STRIDE) moved[at + BackendField.eth0] = 0x02aabbcc;
    for (let number = 0; number * BackendField.STRIDE < moved.length; number++) {
      cache.setBackend(number, encodeFlowBackend(moved, number, 1, OTHER_IFINDEX));
    }
    for (const [, frame] of FLOWS) {
      const { retval, data } = cache.run(frame);
      expect([retval, Buffer.from(data.subarray(0, 4)).toString('hex')]).toEqual([XDP.REDIRECT, '02aabbcc']);
    }
  });

  it('a flow that was idle is user space’s to judge; the time of one that sends is written once a second', () => {
    using cache = new FlowCache({ tcp_idle_ms: 3000, udp_idle_ms: 1500 });
    cache.adopt(LAB);
    const seen = (frame: Uint8Array): number | null => cache.seenMs(tupleOf(parsed(frame)));
    for (const [name, frame] of FLOWS) {
      const idle = name.startsWith('TCP') ? 3000 : 1500;
      cache.learn(LAB, frame, { seenMs: nowMs() - idle - 50 });
      expectHandedOn(cache, frame);
      const recent = nowMs() - 500;
      cache.learn(LAB, frame, { seenMs: recent });
      expect(cache.run(frame).retval).toBe(XDP.TX);
      expect(seen(frame)).toBe(recent);
      cache.learn(LAB, frame, { seenMs: nowMs() - 1200 });
      const before = nowMs();
      expect(cache.run(frame).retval).toBe(XDP.TX);
      // The coarse clock is a tick behind: 10 ms with CONFIG_HZ=100.
      expect(seen(frame)).toBeGreaterThanOrEqual(before - 11);
      // Written by a clock that is ahead of the program's.
      cache.learn(LAB, frame, { seenMs: nowMs() + 60_000 });
      expect(cache.run(frame).retval).toBe(XDP.TX);
    }
    expect(cache.stats()).toMatchObject({ idle: 4, tx: 12 });
  });

  it('what is handed on goes to the program behind', () => {
    using cache = cacheOf();
    using redirect = new Redirect({}, ['198.51.100.10']);
    cache.object.map('flow_next').update(encodeU32(0), encodeU32(redirect.object.programFd('sluice_redirect')));
    expect(redirect.counted(() => cache.run(tcp(v4(), { flags: TCP.SYN })))).toEqual({
      seen: 1,
      pass: 1,
      no_socket: 1,
    });
    expect(redirect.counted(() => expect(cache.run(udp(v4())).retval).toBe(XDP.TX))).toEqual({});
  });
});

describe("Katran's packets", () => {
  const vectors = katranVectors();
  const suites = Object.keys(vectors?.suites ?? {}).filter((suite) => katranSetup(suite) && !suite.endsWith('_2'));

  it('leave with the same bytes from the cache, or are handed on', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    let served = 0;
    let left = 0;
    for (const suite of suites) {
      const { lab, outcomes } = runKatran(vectors!, suite);
      using cache = new FlowCache();
      cache.adopt(lab);
      for (const { one, verdict, frame } of outcomes) {
        const packet = frameOf(one.in);
        if (verdict !== 'XDP_TX' || cache.learn(lab, packet) < 0) continue;
        const again = lab.run([packet]).sent[0][0];
        const { retval, data } = cache.run(packet);
        const what = `${suite} ${one.n}: ${one.description}`;
        if (retval === XDP.PASS) {
          left++;
          expect(Buffer.from(data).equals(Buffer.from(packet)), what).toBe(true);
          continue;
        }
        served++;
        expect(Buffer.from(data).toString('hex'), what).toBe(Buffer.from(again).toString('hex'));
        expect(frame.length, what).toBeGreaterThan(0);
      }
    }
    expect(served).toBeGreaterThan(10);
    expect(left).toBeGreaterThan(0);
  });
});

describe('what it takes to load the cache', () => {
  it('is CAP_BPF and CAP_NET_ADMIN, not CAP_PERFMON', () => {
    expect(loadWithoutPerfmon('flow_cache')).toEqual({ programs: 'sluice_flow', error: '' });
  });
});

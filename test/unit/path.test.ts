import { afterEach, describe, expect, it } from 'vitest';
import { FilterVerdict } from '../../src/dataplane/filter/contract.js';
import { Counter } from '../../src/shared/layout.js';
import { Lab, type LabOptions } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';

const WEB = `
interfaces: [{ name: net0 }, { name: net1 }]
services:
  - name: web
    vip: 198.51.100.10
    port: 80
    protocol: tcp
    backends: [10.0.0.11, 10.0.0.12, 10.2.0.13]
  - name: dns
    vip: 198.51.100.10
    port: 53
    protocol: udp
    backends: [10.0.0.21]
  - name: web6
    vip: 2001:db8:100::10
    port: 80
    protocol: tcp
    backends: [fd00::11, 10.0.0.12]
rules:
  - { name: seen, match: { protocol: udp }, action: count }
  - { name: trusted, match: { src: 192.0.2.200 }, action: pass }
  - { name: no-games, match: { protocol: udp, dport: 27015 }, action: drop }
  - { name: no-net, match: { src: 203.0.113.0/24 }, action: drop }
  - { name: no-net6, match: { src: '2001:db8:bad::/48' }, action: drop }
`;

let lab: Lab;
const start = (options?: LabOptions, yaml = WEB) => (lab = new Lab(yaml, options));
afterEach(() => expect(lab.violations()).toEqual([]));

const client = (n: number) => `192.0.2.${1 + (n % 100)}`;
const tcp = (n: number, flags: number = TCP.ACK, payload = 10) =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: client(n), dst: '198.51.100.10' })
    .tcp({ sport: 1024 + n, dport: 80, flags })
    .payload(payload)
    .build();
const udp = (sport: number, dport: number, src = '192.0.2.1') =>
  new PacketBuilder().ethernet().ipv4({ src, dst: '198.51.100.10' }).udp({ sport, dport }).payload('x').build();

/** Outer destination of an IPIP frame, as text. */
function outer(frame: Uint8Array): string {
  const packet = parsed(frame);
  return packet.family === 4 ? frame.subarray(30, 34).join('.') : Buffer.from(frame.subarray(38, 54)).toString('hex');
}

describe('the path', () => {
  it('hands each flow to one backend and back out of the interface that leads to it', () => {
    start();
    const seen = new Map<number, Set<string>>();
    for (let round = 0; round < 3; round++) {
      for (let n = 0; n < 300; n++) {
        const { sent } = lab.run([tcp(n)]);
        const [frame] = sent.flat();
        expect(sent.flat()).toHaveLength(1);
        const to = outer(frame);
        expect(sent[to === '10.2.0.13' ? 1 : 0]).toHaveLength(1);
        seen.set(n, (seen.get(n) ?? new Set()).add(to));
      }
    }
    expect([...seen.values()].every((backends) => backends.size === 1)).toBe(true);
    const count = (to: string) => [...seen.values()].filter((backends) => backends.has(to)).length;
    for (const to of ['10.0.0.11', '10.0.0.12', '10.2.0.13']) expect(count(to)).toBeGreaterThan(65);
    expect([lab.total(Counter.flowInsert), lab.total(Counter.flowHit)]).toEqual([300, 600]);
    expect(lab.backend('web', '10.0.0.11').flows).toBe(count('10.0.0.11'));
  });

  it('serves IPv6 with IPv6 and IPv4 outer headers', () => {
    start();
    const tos = new Set<string>();
    for (let n = 0; n < 40; n++) {
      const frame = new PacketBuilder()
        .ethernet()
        .ipv6({ src: `2001:db8::${n + 1}`, dst: '2001:db8:100::10' })
        .tcp({ sport: 1000 + n, dport: 80, flags: TCP.SYN })
        .build();
      tos.add(outer(lab.run([frame]).sent[0][0]));
    }
    expect([...tos].sort()).toEqual(['10.0.0.12', 'fd000000000000000000000000000011']);
  });

  it('keeps flows on a draining backend, sends it no new ones, and takes them away when it is inactive or gone', () => {
    start();
    const to = (n: number, flags?: number) => outer(lab.run([tcp(n, flags)]).sent.flat()[0]);
    const before = Array.from({ length: 200 }, (_, n) => to(n));
    lab.setBackend('web', '10.0.0.11', { state: 'draining' });
    expect(Array.from({ length: 200 }, (_, n) => to(n))).toEqual(before);
    for (let n = 1000; n < 1200; n++) expect(to(n, TCP.SYN)).not.toBe('10.0.0.11');
    // A new connection on a remembered five-tuple is new: it leaves the draining backend.
    const draining = before.indexOf('10.0.0.11');
    expect(to(draining, TCP.SYN)).not.toBe('10.0.0.11');

    const left = before.filter((b) => b === '10.0.0.11').length - 1;
    expect(lab.backend('web', '10.0.0.11').flows).toBe(left);
    lab.setBackend('web', '10.0.0.11', { state: 'inactive' });
    const after = Array.from({ length: 200 }, (_, n) => to(n));
    expect(after).not.toContain('10.0.0.11');
    before.forEach((backend, n) => {
      if (backend !== '10.0.0.11') expect(after[n]).toBe(backend);
    });
    expect(lab.total(Counter.flowMoved)).toBe(left);
    expect(lab.backend('web', '10.0.0.11').flows).toBe(0);
  });

  it('does not give the flows of a removed backend to the next owner of its number', () => {
    start();
    const before = Array.from({ length: 60 }, (_, n) => outer(lab.run([tcp(n)]).sent.flat()[0]));
    lab.adopt(WEB.replace('10.0.0.11, ', ''));
    lab.nowMs += 20_000;
    lab.adopt(WEB.replace('10.0.0.11, ', '').replace('10.2.0.13]', '10.2.0.13, 10.0.0.99]'));
    before.forEach((backend, n) => {
      const now = outer(lab.run([tcp(n)]).sent.flat()[0]);
      if (backend !== '10.0.0.11') expect(now, `flow ${n}`).toBe(backend);
      else expect(now).not.toBe('10.0.0.11');
    });
  });

  it('drops by rule exactly, counts without dropping, and lets pass rules shield from later ones', () => {
    start();
    const frames = [
      ...Array.from({ length: 70 }, (_, i) => udp(i + 1, 27015)),
      ...Array.from({ length: 5 }, (_, i) => udp(i + 1, 27015, '192.0.2.200')),
      ...Array.from({ length: 9 }, (_, i) => udp(i + 1, 53)),
      ...Array.from({ length: 4 }, () => udp(9, 53, '203.0.113.77')),
      new PacketBuilder().ethernet().ipv6({ src: '2001:db8:bad::1', dst: '2001:db8:100::10' }).tcp({}).build(),
    ];
    const { sent, passed } = lab.run(frames);
    expect(lab.rule('no-games').packets).toBe(70);
    expect(lab.rule('trusted').packets).toBe(5);
    expect(lab.rule('seen').packets).toBe(88);
    expect(lab.rule('no-net').packets).toBe(4);
    expect(lab.rule('no-net6').packets).toBe(1);
    expect(lab.rule('no-games').bytes).toBe(70 * frames[0].length);
    expect(lab.drops()).toEqual({ rule: 75 });
    expect([sent.flat().length, passed.length]).toEqual([9, 5]); // the shielded five are for no service
  });

  it('passes what is for no service byte for byte, and what is not IP at all', () => {
    start({}, `${WEB}icmp: { echo: pass }\n`);
    const arp = new PacketBuilder().ethernet({ type: 0x0806 }).payload(28).build();
    const icmp = new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.10' }).icmp({}).build();
    const frames = [
      udp(1, 99),
      arp,
      icmp,
      new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '192.0.2.9' }).tcp({}).padTo(64).build(),
    ];
    const { passed, sent } = lab.run(frames);
    expect(sent.flat()).toEqual([]);
    expect(passed).toEqual(frames);
  });

  it('names why it dropped: too big, no next hop, no backend, fragment, malformed, insane', () => {
    start({ mtu: 600, unresolved: ['10.0.0.21'] }, `${WEB}icmp: { too_big: drop }\nfragments: { policy: drop }\n`);
    lab.run([tcp(1, TCP.ACK, 600 - 20 - 40), tcp(1, TCP.ACK, 600 - 20 - 40 + 1)]);
    expect(lab.drops()).toEqual({ too_big: 1 });
    lab.run([udp(1, 53)]);
    for (const backend of ['10.0.0.11', '10.0.0.12', '10.2.0.13'])
      lab.setBackend('web', backend, { state: 'draining' });
    lab.run([tcp(999)]);
    lab.run([
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: '192.0.2.1', dst: '198.51.100.10', moreFragments: true })
        .tcp({ dport: 80, flags: TCP.ACK })
        .build(),
    ]);
    lab.run([
      tcp(1).subarray(0, 40),
      tcp(5, 0),
      tcp(6, TCP.SYN | TCP.FIN),
      udp(0, 53),
      udp(7, 53, '127.0.0.1'),
      udp(7, 53, '198.51.100.10'),
    ]);
    const bad = tcp(8);
    bad[24] ^= 1;
    lab.run([bad]);
    expect(lab.drops()).toEqual({
      too_big: 1,
      no_next_hop: 1,
      no_backend: 1,
      fragment: 1,
      ipv4_total_length: 1,
      sanity_tcp_flags: 2,
      sanity_port_zero: 1,
      sanity_source: 1,
      sanity_land: 1,
      sanity_ipv4_checksum: 1,
    });
  });

  it('drops every fragment of a datagram to a service, those without ports too, and passes other fragments', () => {
    start({}, `${WEB}fragments: { policy: drop }\n`);
    const ip = (dst: string, offset: number, more: boolean) =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: '192.0.2.1', dst, fragmentOffset: offset, moreFragments: more, protocol: 6 });
    const first = ip('198.51.100.10', 0, true).tcp({ sport: 5, dport: 80, flags: TCP.ACK }).payload(4).build();
    const { passed } = lab.run([
      first,
      ip('198.51.100.10', 3, true).payload(24).build(),
      ip('198.51.100.10', 6, false).payload(8).build(),
      ip('198.51.100.99', 6, false).payload(8).build(),
    ]);
    expect(lab.drops()).toEqual({ fragment: 3 });
    expect(passed).toHaveLength(1);
  });

  it('remembers no more new flows a second than it may, balances the others all the same, and counts them', () => {
    start({}, `${WEB}flows: { max_new_per_second: 50 }\n`);
    const { sent } = lab.run(Array.from({ length: 120 }, (_, n) => tcp(n, TCP.SYN)));
    expect(sent.flat()).toHaveLength(120);
    expect([lab.total(Counter.flowInsert), lab.total(Counter.flowBypass)]).toEqual([50, 70]);
    lab.nowMs += 1000;
    lab.run(Array.from({ length: 60 }, (_, n) => tcp(n + 500, TCP.SYN)));
    expect([lab.total(Counter.flowInsert), lab.total(Counter.flowBypass)]).toEqual([100, 80]);
  });

  it('forgets idle flows, and the gauges follow', () => {
    start();
    lab.run(Array.from({ length: 100 }, (_, i) => udp(i + 1, 53)));
    expect(lab.backend('dns', '10.0.0.21').flows).toBe(100);
    lab.nowMs += 31_000;
    lab.balancer.sweep(lab.nowMs);
    expect([lab.total(Counter.flows), lab.total(Counter.flowExpire)]).toEqual([0, 100]);
    expect(lab.backend('dns', '10.0.0.21')).toEqual({ packets: 100, flows: 0, newFlows: 100 });
  });

  it('survives a filter that throws: that packet is dropped and counted, its neighbours are not touched', () => {
    start({
      filter: (packet) => {
        if (packet.destinationPort === 666) throw new Error('boom');
        if (packet.destinationPort === 667) return undefined as unknown as FilterVerdict;
        return packet.destinationPort === 668 ? FilterVerdict.Drop : FilterVerdict.Continue;
      },
    });
    const { sent } = lab.run([udp(1, 53), udp(2, 666), udp(3, 53), udp(4, 667), udp(5, 668), udp(6, 53), udp(7, 666)]);
    expect(sent.flat()).toHaveLength(3);
    expect(lab.drops()).toEqual({ policy_threw: 3, filter: 1 });
    expect(lab.aborts.map(String)).toEqual([
      'Error: boom',
      'TypeError: filter 0 returned undefined, which is no FilterVerdict',
      'Error: boom',
    ]);
  });

  it('completes checksums that a veth peer left open, on what it forwards and on what it passes', () => {
    start({ repair: true });
    const build = (dport: number, checksum?: 'pseudo') =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: '192.0.2.1', dst: '198.51.100.10' })
        .tcp({ sport: 9, dport, flags: TCP.ACK, checksum })
        .payload('hello')
        .build();
    const { sent, passed } = lab.run([build(80, 'pseudo'), build(81, 'pseudo')]);
    expect(Buffer.from(sent.flat()[0].subarray(34))).toEqual(Buffer.from(build(80).subarray(14)));
    expect(passed[0]).toEqual(build(81));
    expect(lab.total(Counter.checksumRepaired)).toBe(2);
  });

  it('conserves frames and adds up under random garbage', () => {
    start();
    const seed = Date.now() | 0;
    const next = random(seed);
    const templates = [
      tcp(1),
      udp(1, 53),
      udp(2, 27015),
      new PacketBuilder()
        .ethernet()
        .vlan(5)
        .ipv4({ src: '192.0.2.3', dst: '198.51.100.10' })
        .tcp({ dport: 80, flags: 16 })
        .build(),
    ];
    let [arrived, left] = [0, 0];
    for (let round = 0; round < 200; round++) {
      const frames = Array.from({ length: 1 + Math.floor(next() * 100) }, () => {
        const frame = templates[Math.floor(next() * templates.length)].slice(
          0,
          next() < 0.2 ? 14 + Math.floor(next() * 60) : undefined,
        );
        for (let i = Math.floor(next() * 4); i > 0; i--) frame[Math.floor(next() * frame.length)] = next() * 256;
        return frame;
      });
      const { sent, passed, dropped } = lab.run(frames);
      arrived += frames.length;
      left += sent.flat().length + passed.length + dropped.length;
      // A later fragment waits for its first.
      expect(left + lab.total(Counter.framesHeld), `seed ${seed} round ${round}`).toBe(arrived);
      expect(lab.violations(), `seed ${seed} round ${round}`).toEqual([]);
    }
  });

  it('keeps packets of a flow in order', () => {
    start();
    const frames = Array.from({ length: 500 }, (_, seq) =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: client(seq % 5), dst: '198.51.100.10' })
        .udp({ sport: 100 + (seq % 5), dport: 53 })
        .payload([seq >> 8, seq & 255])
        .build(),
    );
    const out = lab.run(frames).sent.flat();
    const last = new Map<number, number>();
    for (const frame of out) {
      const sport = (frame[54] << 8) | frame[55];
      const seq = (frame[62] << 8) | frame[63];
      expect(seq).toBeGreaterThan(last.get(sport) ?? -1);
      last.set(sport, seq);
    }
    expect(out).toHaveLength(500);
  });
});

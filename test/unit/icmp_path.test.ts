/** ICMP, packets that do not fit, and fragments, on the whole path. Messages are read by code of the tests. */
import { beforeEach, describe, expect, it } from 'vitest';
import { Counter } from '../../src/shared/layout.js';
import { readIcmp } from '../support/icmp_message.js';
import { Lab, type LabOptions } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const CLIENT = '192.0.2.1';
const VIP = '198.51.100.10';
const VIP6 = '2001:db8::10';
const CLIENT6 = '2001:db8:1::1';

let lab: Lab;

function start(more = '', options: LabOptions = {}): void {
  lab = new Lab(
    `
interfaces: [eth0, eth1]
services:
  - { name: web, vip: ${VIP}, port: 80, backends: [10.0.0.11, 10.0.0.12, 10.0.0.13] }
  - { name: dns, vip: ${VIP}, port: 53, protocol: udp, backends: [10.0.0.21, 10.0.0.22] }
  - { name: web6, vip: '${VIP6}', port: 80, backends: ['fd00::11', 'fd00::12'] }
${more}`,
    options,
  );
}

beforeEach(() => start());

const tcp = (sport: number, flags: number = TCP.ACK, payload = 0) =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: CLIENT, dst: VIP })
    .tcp({ sport, dport: 80, flags })
    .payload(payload)
    .build();

/** A router's message about a packet that the service sent to the client. */
function error(type: number, code: number, rest: number, sport: number): Uint8Array {
  const quoted = new PacketBuilder().ipv4({ src: VIP, dst: CLIENT }).tcp({ sport: 80, dport: sport }).build();
  return new PacketBuilder()
    .ethernet()
    .ipv4({ src: '203.0.113.7', dst: VIP })
    .icmp({ type, code, rest })
    .payload(quoted.subarray(0, 28))
    .build();
}

const outer = (frame: Uint8Array): string => [...frame.subarray(30, 34)].join('.');
const ports = Array.from({ length: 60 }, (_, i) => 4000 + i);

describe('ICMP errors', () => {
  it.each([
    ['fragmentation needed', 3, 4, 1400],
    ['port unreachable', 3, 3, 0],
    ['time exceeded', 11, 0, 0],
  ])('%s: go where the flow goes, also when it has drained from there', (_, type, code, rest) => {
    const flows = lab.run(ports.map((port) => tcp(port, TCP.SYN))).sent[0].map(outer);
    expect(lab.run(ports.map((port) => error(type, code, rest, port))).sent[0].map(outer)).toEqual(flows);
    lab.setBackend('web', '10.0.0.12', { state: 'draining' });
    const { sent } = lab.run(ports.map((port) => error(type, code, rest, port)));
    expect(sent[0].map(outer)).toEqual(flows);
    // The client's message is inside as it came.
    expect([...sent[0][0].subarray(34)]).toEqual([...error(type, code, rest, ports[0]).subarray(14)]);
    expect(lab.total(Counter.icmpErrors)).toBe(2 * ports.length);
    expect(lab.violations()).toEqual([]);
  });

  it('find the backend of a flow that nobody remembers by its slot', () => {
    const flows = lab.run(ports.map((port) => tcp(port, TCP.SYN))).sent[0].map(outer);
    start();
    expect(lab.run(ports.map((port) => error(3, 4, 1400, port))).sent[0].map(outer)).toEqual(flows);
    expect(lab.total(Counter.flows)).toBe(0);
  });

  it('over IPv6: packet too big follows its flow', () => {
    const flow = (port: number) =>
      new PacketBuilder().ethernet().ipv6({ src: CLIENT6, dst: VIP6 }).tcp({ sport: port, dport: 80 }).build();
    const tooBig = (port: number) =>
      new PacketBuilder()
        .ethernet()
        .ipv6({ src: '2001:db8:7::7', dst: VIP6 })
        .icmp6({ type: 2, rest: 1400 })
        .payload(new PacketBuilder().ipv6({ src: VIP6, dst: CLIENT6 }).tcp({ sport: 80, dport: port }).build())
        .build();
    const last = (frame: Uint8Array) => frame[14 + 39];
    const flows = lab.run(ports.map(flow)).sent[0].map(last);
    expect(new Set(flows)).toEqual(new Set([0x11, 0x12]));
    expect(lab.run(ports.map(tooBig)).sent[0].map(last)).toEqual(flows);
  });

  it('that cannot be read are dropped by name; those about others pass', () => {
    const cut = new PacketBuilder().ethernet().ipv4({ src: '203.0.113.7', dst: VIP }).icmp({ type: 3, code: 4 });
    const quoted = new PacketBuilder().ipv4({ src: VIP, dst: CLIENT }).tcp({ sport: 81, dport: 9 }).build();
    const other = new PacketBuilder().ethernet().ipv4({ src: '203.0.113.7', dst: VIP }).icmp({ type: 3, code: 4 });
    const { passed } = lab.run([cut.payload(10).build(), other.payload(quoted).build()]);
    expect(lab.drops()).toEqual({ icmp_inner: 1 });
    expect(passed).toHaveLength(1);
  });

  it('about our own packets are told to the client, when the flow is known and the backend right', () => {
    start('encapsulation: { source: 100.64.0.0/16 }\n');
    const [sent] = lab.run([tcp(5000, TCP.ACK, 500)]).sent[0];
    const about = (packet: Uint8Array) =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: '10.0.0.254', dst: [...packet.subarray(26, 30)].join('.') })
        .icmp({ type: 3, code: 4, rest: 400 })
        .payload(packet.subarray(14, 14 + 20 + 60))
        .build();
    const message = readIcmp(lab.run([about(sent)]).sent[0][0]);
    expect(message).toMatchObject({ src: 'c633640a', dst: 'c0000201', type: 3, code: 4, rest: 380 });
    // Forged: about a backend that the flow does not have.
    const forged = sent.slice();
    forged[33] ^= 3;
    expect(lab.run([about(forged)])).toMatchObject({ sent: [[], []], passed: [expect.anything()] });
    expect(lab.violations()).toEqual([]);
  });
});

describe('echo requests to a VIP', () => {
  const ping = (dst = VIP) =>
    new PacketBuilder()
      .ethernet()
      .ipv4({ src: CLIENT, dst, ttl: 9 })
      .icmp({ rest: 0x00070001 })
      .payload('hello')
      .build();

  it('are answered, within the rate', () => {
    start('icmp: { max_per_second: 20 }\n');
    const { sent, passed } = lab.run([ping(), ping('198.51.100.99')]);
    const reply = readIcmp(sent[0][0]);
    expect(reply).toMatchObject({ src: 'c633640a', dst: 'c0000201', type: 0, code: 0, rest: 0x00070001, ttl: 64 });
    expect(Buffer.from(reply.body).toString()).toBe('hello');
    expect(passed).toHaveLength(1);
    lab.run(Array.from({ length: 50 }, () => ping()));
    const answered = lab.total(Counter.echoAnswered);
    expect(answered).toBe(2);
    expect(lab.drops()).toEqual({ icmp_limited: 49 });
    expect(lab.total(Counter.icmpLimited)).toBe(49);
  });

  it('are forwarded, all of a client to one backend', () => {
    start('icmp: { echo: forward }\n');
    const { sent } = lab.run(Array.from({ length: 20 }, () => ping()));
    expect(new Set(sent[0].map(outer)).size).toBe(1);
    expect(lab.total(Counter.flows)).toBe(0);
  });

  it('pass to the host', () => {
    start('icmp: { echo: pass }\n');
    expect(lab.run([ping()]).passed).toHaveLength(1);
  });
});

describe('packets that do not fit', () => {
  it('are answered with the MTU that fits, within the rate, and never forwarded', () => {
    start('icmp: { max_per_second: 20 }\n');
    const { sent } = lab.run([tcp(5000, TCP.ACK, 1440), tcp(5000, TCP.ACK, 1441)]);
    expect(sent[0].map((frame) => frame.length)[0]).toBe(14 + 1500);
    expect(readIcmp(sent[0][1])).toMatchObject({ src: 'c633640a', dst: 'c0000201', type: 3, code: 4, rest: 1480 });
    lab.run(Array.from({ length: 30 }, () => tcp(5000, TCP.ACK, 1441)));
    expect(lab.total(Counter.tooBigReplies)).toBe(2);
    expect(lab.drops()).toEqual({ too_big: 29 });
    expect(lab.violations()).toEqual([]);
  });

  it('over IPv6, through GUE with a chain: the room is what is left of the MTU', () => {
    start(
      `
encapsulation: { kind: gue, gue: { variant: 0 } }
  `.trim() + '\n',
    );
    const big = new PacketBuilder()
      .ethernet()
      .ipv6({ src: CLIENT6, dst: VIP6 })
      .tcp({ dport: 80 })
      .payload(1400)
      .build();
    const message = readIcmp(lab.run([big]).sent[0][0]);
    expect(message).toMatchObject({ type: 2, code: 0, rest: 1500 - 40 - 8 - 4 });
  });
});

describe('fragments', () => {
  const fragment = (id: number, offset: number, more: boolean, sport = 6000, dst = VIP): Uint8Array => {
    const ip = new PacketBuilder()
      .ethernet()
      .ipv4({ src: CLIENT, dst, id, fragmentOffset: offset, moreFragments: more, protocol: 17 });
    return offset === 0 ? ip.udp({ sport, dport: 53, length: 1000 }).payload(40).build() : ip.payload(48).build();
  };

  it('follow the first of their datagram', () => {
    const datagrams = Array.from({ length: 40 }, (_, id) =>
      [fragment(id, 0, true, 6000 + id), fragment(id, 6, true), fragment(id, 12, false)]); // prettier-ignore
    const { sent } = lab.run(datagrams.flat());
    const to = sent[0].map(outer);
    expect(to).toHaveLength(120);
    for (let id = 0; id < 40; id++) expect(new Set(to.slice(3 * id, 3 * id + 3)).size).toBe(1);
    expect(new Set(to).size).toBe(2);
    expect(lab.total(Counter.fragmentsFollowed)).toBe(80);
    expect(lab.violations()).toEqual([]);
  });

  it('wait for the first when they come before it, and leave behind it in order', () => {
    expect(lab.run([fragment(1, 6, true), fragment(1, 12, false)]).sent[0]).toEqual([]);
    expect([lab.total(Counter.fragmentsHeld), lab.total(Counter.framesHeld)]).toEqual([2, 2]);
    expect(lab.violations()).toEqual([]);
    const { sent } = lab.run([fragment(1, 0, true)]);
    const offsets = sent[0].map((frame) => ((frame[14 + 20 + 6] & 0x1f) << 8) | frame[14 + 20 + 7]);
    expect(offsets).toEqual([0, 6, 12]);
    expect(new Set(sent[0].map(outer)).size).toBe(1);
    expect(lab.total(Counter.framesHeld)).toBe(0);
    expect(lab.total(Counter.rx)).toBe(3);
    expect(lab.violations()).toEqual([]);
  });

  it('that wait in vain are dropped by name, also when the worker stops', () => {
    lab.run([fragment(1, 6, true), fragment(2, 6, true)]);
    lab.nowMs += 2100;
    lab.balancer.sweep(lab.nowMs);
    expect(lab.drops()).toEqual({ fragment_timeout: 2 });
    lab.run([fragment(3, 6, true)]);
    lab.balancer.fragments.dropHeld();
    lab.run([]);
    expect(lab.drops()).toEqual({ fragment_timeout: 3 });
    expect(lab.total(Counter.framesHeld)).toBe(0);
    expect(lab.violations()).toEqual([]);
  });

  it('are dropped where they may not wait, and all of them where the configuration says so', () => {
    start('fragments: { out_of_order: drop }\n');
    lab.run([fragment(1, 6, true), fragment(1, 0, true), fragment(1, 12, false)]);
    expect(lab.drops()).toEqual({ fragment_unknown: 1 });
    start('fragments: { policy: drop }\n');
    lab.run([fragment(1, 0, true), fragment(1, 6, true), fragment(1, 12, false)]);
    expect(lab.drops()).toEqual({ fragment: 3 });
  });

  it('of another address are the host’s, and so are those of a port that is no service’s', () => {
    const stranger = new PacketBuilder()
      .ethernet()
      .ipv4({ src: CLIENT, dst: VIP, id: 9, moreFragments: true, protocol: 17 })
      .udp({ sport: 1, dport: 54, length: 1000 })
      .payload(40)
      .build();
    const { passed } = lab.run([fragment(8, 6, false, 1, '198.51.100.99'), stranger, fragment(9, 6, false)]);
    expect(passed).toHaveLength(3);
    expect(lab.violations()).toEqual([]);
  });
});

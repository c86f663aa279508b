import { describe, expect, it } from 'vitest';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import { FlowOffers } from '../../src/dataplane/flow_offers.js';
import { FlowRecord, FlowRing, flowRingMemory, FlowSaying } from '../../src/shared/flow_ring.js';
import { BackendField, Counter } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';

const CONFIG = `
interfaces: [{ name: net0 }, { name: net1 }]
flows: { timeouts: { udp: 2s, tcp_established: 3s } }
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.2.0.13] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, encapsulation: gue, backends: [10.0.0.21] }
  - { name: web6, vip: '2001:db8::10', port: 80, protocol: tcp, encapsulation: gue, backends: ['fd00::14'] }
  - { name: sums, vip: 198.51.100.10, port: 54, protocol: udp, encapsulation: { kind: gue, gue: { checksum: computed } }, backends: [10.0.0.31] }
  - { name: ring, vip: 198.51.100.10, port: 55, protocol: udp, flow_table: false, backends: [10.0.0.41] }
`;

function offeringLab({ yaml = CONFIG, ruled = false, records = 64 } = {}) {
  const lab = new Lab(yaml);
  const rings = { fromWorker: flowRingMemory(records), toWorker: flowRingMemory(records) };
  const offers = new FlowOffers(lab.flows, lab.balancer.flowHash, rings, lab.balancer.snapshot, ruled);
  lab.path.offerFlows(offers);
  return { lab, offers, said: new FlowRing(rings.fromWorker), tell: new FlowRing(rings.toWorker) };
}

const tcp = (flags: number = TCP.ACK, sport = 4000): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.1', dst: '198.51.100.10' })
    .tcp({ sport, dport: 80, flags })
    .build();
const tcp6 = (flags: number = TCP.ACK): Uint8Array =>
  new PacketBuilder()
    .ethernet()
    .ipv6({ src: '2001:db8:1::1', dst: '2001:db8::10' })
    .tcp({ sport: 4000, dport: 80, flags })
    .build();
const udp = (dport: number): Uint8Array =>
  new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst: '198.51.100.10' }).udp({ sport: 4000, dport }).build();
const times = (count: number, frame: Uint8Array): Uint8Array[] => Array.from({ length: count }, () => frame);

/** A flow's first packets come alone: what comes with a SYN takes the steps. */
function send(lab: Lab, count: number, frame: Uint8Array): Uint8Array[] {
  for (let i = 0; i < Math.min(count, 2); i++) lab.run([frame]);
  return lab.run(times(count - 2, frame)).sent.flat();
}

function takeAll(ring: FlowRing): Int32Array[] {
  const records: Int32Array[] = [];
  while (ring.take()) records.push(Int32Array.from(ring.record));
  return records;
}

describe('the ring', () => {
  it('gives back what was put, in order, over its end; full it takes no more and says so when asked to', () => {
    const memory = flowRingMemory(4);
    const [writer, reader] = [new FlowRing(memory), new FlowRing(memory)];
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 4; i++) {
        writer.record.fill(10 * round + i);
        expect(writer.put()).toBe(true);
      }
      expect(writer.put()).toBe(false);
      expect(takeAll(reader).map((record) => record[15])).toEqual([0, 1, 2, 3].map((i) => 10 * round + i));
    }
    for (let i = 0; i < 6; i++) writer.putOrSay();
    expect([reader.lost, takeAll(reader).length]).toEqual([2, 4]);
  });
});

describe('a flow', () => {
  it('is offered with its sixteenth packet, once', () => {
    const { lab, said } = offeringLab();
    // The ACK that follows the SYN takes the steps, and counts; the SYN does not.
    for (const flags of [TCP.SYN, TCP.ACK]) lab.run([tcp(flags)]);
    lab.run(times(14, tcp()));
    expect(takeAll(said)).toEqual([]);
    lab.run([tcp()], 1);
    const [record, ...more] = takeAll(said);
    expect(more).toEqual([]);
    const backend = record[FlowRecord.backend];
    expect(lab.balancer.snapshot.backends[backend * BackendField.STRIDE + BackendField.service]).toBe(0);
    expect(record[FlowRecord.incarnation]).toBe(
      lab.balancer.snapshot.backends[backend * BackendField.STRIDE + BackendField.incarnation],
    );
    expect(record[FlowRecord.what]).toBe((FlowSaying.offer << 16) | 0x0406);
    expect([record[FlowRecord.src0], record[FlowRecord.dst0]]).toEqual([0xc0000201 | 0, 0xc633640a | 0]);
    expect(record[FlowRecord.ports]).toBe((4000 << 16) | 80);
    expect([record[FlowRecord.sportAndPort], record[FlowRecord.label]]).toEqual([1, 0]);
    lab.run(times(200, tcp()));
    expect(takeAll(said)).toEqual([]);
  });

  it('is offered again when its packets still come', () => {
    const { lab, said } = offeringLab();
    send(lab, 16 + 3 * 240 + 10, udp(53));
    expect(takeAll(said)).toHaveLength(4);
  });

  it('of a backend with GUE is offered with the port and the label that its packets have', () => {
    const { lab, said } = offeringLab();
    const [four] = send(lab, 20, udp(53));
    const [six] = send(lab, 20, tcp6());
    const [ofFour, ofSix] = takeAll(said);
    expect([ofFour[FlowRecord.sportAndPort] >>> 16, ofFour[FlowRecord.label]]).toEqual([(four[34] << 8) | four[35], 0]);
    expect(ofSix[FlowRecord.sportAndPort] >>> 16).toBe((six[54] << 8) | six[55]);
    expect(ofSix[FlowRecord.label]).toBe(((six[15] & 0x0f) << 16) | (six[16] << 8) | six[17]);
    expect(ofSix.slice(FlowRecord.src0, FlowRecord.ports)).toEqual(
      Int32Array.of(0x20010db8, 0x00010000, 0, 1, 0x20010db8, 0, 0, 0x10),
    );
  });

  it('that is not remembered is not offered, nor are packets whose headers are not where plain ones have them', () => {
    const { lab, said } = offeringLab();
    expect(send(lab, 60, udp(55))).toHaveLength(58);
    const ip = { src: '192.0.2.1', dst: '198.51.100.10' };
    const port = { sport: 4000, dport: 53 };
    const tagged = new PacketBuilder().ethernet().vlan(7).ipv4(ip).udp(port).build();
    const optional = new PacketBuilder()
      .ethernet()
      .ipv4({ ...ip, options: [1, 1, 1, 1] })
      .udp(port)
      .build();
    for (const frame of [tagged, optional]) expect(send(lab, 60, frame)).toHaveLength(58);
    expect(takeAll(said)).toEqual([]);
  });

  it.each([
    ['FIN', TCP.FIN | TCP.ACK],
    ['RST', TCP.RST],
    ['SYN', TCP.SYN],
  ])('that was offered is said to have ended by %s; one that never was is not', (_, flags) => {
    const { lab, said } = offeringLab();
    send(lab, 20, tcp());
    send(lab, 8, tcp(TCP.ACK, 4001));
    expect(takeAll(said)).toHaveLength(1);
    lab.run([tcp(flags, 4001), tcp(flags)]);
    expect(takeAll(said).map((record) => [record[FlowRecord.what], record[FlowRecord.ports]])).toEqual([
      [(FlowSaying.ended << 16) | 0x0406, (4000 << 16) | 80],
    ]);
    expect(said.lost).toBe(0);
  });

  it('that was offered and then moves in the table is said to have ended, however few of its packets came since', () => {
    const { lab, said } = offeringLab();
    send(lab, 20, tcp());
    expect(takeAll(said)).toHaveLength(1);
    const { words, places } = lab.flows;
    const slotOf = (): number => {
      let at = 0;
      while (words[at + FlowField.ports] !== ((4000 << 16) | 80) || words[at + FlowField.state] === 0)
        at += FlowField.STRIDE;
      return at;
    };
    const before = slotOf();
    expect(places.makeRoom(before)).toBe(before);
    words.fill(0, before, before + FlowField.lodgers);
    expect(slotOf()).not.toBe(before);
    lab.run([tcp(), tcp()]);
    expect(takeAll(said)).toEqual([]);
    lab.run([tcp(TCP.RST)]);
    expect(takeAll(said).map((record) => record[FlowRecord.what] >>> 16)).toEqual([FlowSaying.ended]);
  });

  it('that loses its backend is said to have ended, before it is offered with another', () => {
    const { lab, said } = offeringLab();
    send(lab, 40, tcp());
    const [first] = takeAll(said);
    const former = first[FlowRecord.backend];
    for (const address of ['10.0.0.11', '10.2.0.13']) lab.setBackend('web', address, { state: 'inactive' });
    lab.run([tcp()]);
    for (const address of ['10.0.0.11', '10.2.0.13']) lab.setBackend('web', address, { state: 'active' });
    send(lab, 40, tcp());
    const sayings = takeAll(said);
    expect(sayings.map((record) => record[FlowRecord.what] >>> 16)).toEqual([FlowSaying.ended, FlowSaying.offer]);
    expect(former).toBeGreaterThanOrEqual(0);
  });

  it('whose packets the kernel sends does not look idle', () => {
    const { lab, offers, said, tell } = offeringLab();
    for (const frame of [tcp(), tcp6(), udp(53)]) send(lab, 20, frame);
    const records = takeAll(said);
    expect(records).toHaveLength(3);
    for (let elapsed = 0; elapsed < 10; elapsed++) {
      lab.nowMs += 1500;
      for (const record of records) {
        tell.record.set(record);
        tell.record[FlowRecord.what] = (FlowSaying.seen << 16) | (record[FlowRecord.what] & 0xffff);
        tell.record[FlowRecord.seenMs] = lab.nowMs;
        tell.put();
      }
      // One that it does not know.
      tell.record[FlowRecord.ports]++;
      tell.put();
      offers.hear(64);
      lab.balancer.sweep(lab.nowMs);
    }
    expect(lab.flows.count).toBe(3);
    const hits = lab.total(Counter.flowHit);
    lab.run([tcp(), tcp6(), udp(53)]);
    expect(lab.total(Counter.flowHit)).toBe(hits + 3);
    // Words from before do not make it older, and nobody speaks of it any more.
    tell.record.set(records[0]);
    tell.record[FlowRecord.seenMs] = lab.nowMs - 100_000;
    tell.put();
    offers.hear(64);
    lab.run([tcp()]);
    expect(lab.total(Counter.flowExpire)).toBe(0);
    lab.nowMs += 20_000;
    lab.balancer.sweep(lab.nowMs);
    expect(lab.flows.count).toBe(0);
  });
});

describe('where there are rules', () => {
  const RULES = `rules:
  - { name: long, match: { protocol: udp, dport: 53, length: 500-65535 }, action: drop }
  - { name: pieces, match: { fragment: true }, action: drop }
  - { name: begins, match: { protocol: tcp, tcp_flags: 'syn,!ack' }, action: count }
  - { name: six, match: { src: '2001:db8:1::/64', sport: 4000, dport: 80, length: 500-65535 }, action: count }
`;
  const ports = (records: Int32Array[]): number[] => records.map((record) => record[FlowRecord.ports] & 0xffff);

  it('flows that one may match are not offered, and the others are; all are where the kernel has the rules', () => {
    for (const ruled of [false, true]) {
      const { lab, said } = offeringLab({ yaml: CONFIG + RULES, ruled });
      for (const frame of [udp(53), tcp6(), tcp()]) send(lab, 40, frame);
      expect(ports(takeAll(said))).toEqual(ruled ? [53, 80, 80] : [80]);
      expect(lab.total(Counter.redirect) + lab.total(Counter.tx)).toBe(120);
    }
  });

  it('rules that come are obeyed at once', () => {
    const { lab, said } = offeringLab();
    for (let i = 0; i < 10; i++) lab.run([udp(53)]);
    lab.adopt(CONFIG + RULES);
    send(lab, 400, udp(53));
    expect(takeAll(said)).toEqual([]);
    lab.adopt(CONFIG);
    send(lab, 240, udp(53));
    expect(ports(takeAll(said))).toEqual([53]);
  });
});

/** Backends of new flows, chosen for a burst in one go: those that the chooser takes one by one. */
import { describe, expect, it } from 'vitest';
import { Ahead, Chosen } from '../../src/dataplane/balance/ahead.js';
import { Chooser } from '../../src/dataplane/balance/choose.js';
import type { Packet } from '../../src/dataplane/packet/packet.js';
import { Decision, Verdict } from '../../src/dataplane/verdict.js';
import { CounterBlock } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed } from '../support/packets.js';

const SERVICES = `
interfaces: [{ name: net0 }]
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.0.0.12, 10.0.0.13] }
  - { name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, flow_table: false, backends: [10.0.0.21, 'fd00::22'] }
  - { name: fields, vip: 198.51.100.11, port: 80, protocol: tcp, hash_fields: [src], backends: [10.0.0.31, 10.0.0.32] }
  - { name: katran, vip: 198.51.100.12, port: 80, protocol: tcp, hash: katran, backends: [10.0.0.41, 10.0.0.42] }
`;

const ip = (n: number, dst: string) => new PacketBuilder().ethernet().ipv4({ src: `192.0.2.${n}`, dst });
const web = (n: number, dst = '198.51.100.10') =>
  ip(n, dst)
    .tcp({ sport: 1000 + n, dport: 80, flags: TCP.SYN })
    .build();
const dns6 = (n: number) =>
  new PacketBuilder()
    .ethernet()
    .ipv6({ src: `2001:db8:1::${n}`, dst: '2001:db8::10' })
    .udp({ sport: 1000 + n, dport: 53 });

function chosen(frames: readonly Uint8Array[], prepare: (packet: Packet) => void = () => undefined) {
  const { snapshot } = new Lab(SERVICES).balancer;
  const packets = frames.map((frame) => parsed(frame));
  const verdicts = new Int32Array(packets.length).fill(Decision.undecided);
  for (const packet of packets) {
    packet.flow = -1;
    packet.chosen = 77;
    prepare(packet);
  }
  new Ahead(snapshot).choose(packets, verdicts, packets.length);
  const chooser = new Chooser(snapshot, new Float64Array(CounterBlock.SIZE));
  return { snapshot, packets, chooser };
}

describe('backends of new flows', () => {
  it('are those that the chooser takes, of either family', () => {
    const frames = Array.from({ length: 100 }, (_, n) => (n % 2 === 0 ? web(n + 1) : dns6(n + 1).build()));
    const { packets, chooser } = chosen(frames);
    for (const packet of packets) {
      const service = chooser.serviceOf(packet);
      expect(packet.service).toBe(service);
      expect(packet.chosen).toBe(chooser.choose(service, packet));
    }
    expect(new Set(packets.map((packet) => packet.chosen)).size).toBe(5);
  });

  it.each([
    ['a service that hashes some fields', web(1, '198.51.100.11')],
    ["Katran's hash", web(1, '198.51.100.12')],
    [
      'a fragment',
      ip(1, '198.51.100.10')
        .ipv4({ src: '192.0.2.1', dst: '198.51.100.10', moreFragments: true })
        .udp({ sport: 1, dport: 80 })
        .build(),
    ],
    ['an echo request', ip(1, '198.51.100.10').icmp({ type: 8 }).build()],
  ])('are left to the chooser for %s', (_, frame) => {
    expect(chosen([frame]).packets[0].chosen).toBe(Chosen.unknown);
  });

  it('are nobody for a packet that is for no service', () => {
    expect(chosen([ip(1, '198.51.100.10').tcp({ sport: 1, dport: 81 }).build()]).packets[0].chosen).toBe(Chosen.nobody);
  });

  it('are not asked for where the flow is known', () => {
    expect(chosen([web(1)], (packet) => (packet.flow = 16)).packets[0].chosen).toBe(Chosen.unknown);
  });

  it('are not asked for where the filters have spoken', () => {
    const { snapshot } = new Lab(SERVICES).balancer;
    const packet = parsed(web(1));
    packet.flow = -1;
    packet.chosen = 77;
    new Ahead(snapshot).choose([packet], Int32Array.of(Verdict.Drop), 1);
    expect(packet.chosen).toBe(Chosen.unknown);
  });
});

describe('packets of one new flow in one burst', () => {
  it('are one flow: those behind the first find it', () => {
    const lab = new Lab(SERVICES);
    const frames = Array.from({ length: 64 }, (_, n) => web(1 + (n % 8)));
    expect(lab.run(frames).sent[0]).toHaveLength(64);
    expect(lab.flows.count).toBe(8);
  });
});

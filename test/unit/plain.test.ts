import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import { Counter, CounterBlock } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { countSteps } from '../support/steps.js';

const CONFIG = `
interfaces: [{ name: net0 }, { name: net1 }]
flows: { timeouts: { udp: 2s, tcp_established: 3s, tcp_syn: 1s, tcp_closing: 1s, other: 1s } }
services:
  - { name: web, vip: 198.51.100.10, port: 80, protocol: tcp, backends: [10.0.0.11, 10.0.0.12, 10.2.0.13, 'fd00::14'] }
  - { name: dns, vip: 198.51.100.10, port: 53, protocol: udp, backends: [10.0.0.21, 10.2.0.22] }
  - { name: web6, vip: '2001:db8::10', port: 80, protocol: tcp, backends: [10.0.0.11, 'fd00::14'] }
  - { name: dns6, vip: '2001:db8::10', port: 53, protocol: udp, encapsulation: gue, backends: [10.0.0.31, 'fd00::32'] }
  - name: gue
    vip: 198.51.100.11
    port: 53
    protocol: udp
    encapsulation: { kind: gue, gue: { port: 6081 } }
    backends: [10.0.0.41, 10.2.0.42, 'fd00::43']
  - name: gue0
    vip: 198.51.100.11
    port: 80
    protocol: tcp
    encapsulation: { kind: gue, gue: { variant: 0 } }
    backends: [10.0.0.41, 'fd00::43']
  - name: summed
    vip: 198.51.100.12
    port: 53
    protocol: udp
    encapsulation: { kind: gue, gue: { checksum: computed } }
    backends: [10.0.0.41, 'fd00::43']
  - name: spread
    vip: 198.51.100.12
    port: 80
    protocol: tcp
    encapsulation: { source: 10.8.0.0/16 }
    backends: [10.0.0.41]
  - { name: ring, vip: 198.51.100.13, port: 53, protocol: udp, flow_table: false, backends: [10.0.0.51, 'fd00::52'] }
  - { name: ring0, vip: 198.51.100.13, port: 80, protocol: tcp, flow_table: false, hash_fields: [src], backends: [10.0.0.51, 10.0.0.52] }
  - { name: ring6, vip: '2001:db8::13', port: any, protocol: any, flow_table: false, encapsulation: gue, backends: [10.0.0.51, 'fd00::52'] }
`;

/** The same configuration twice: with the short way, and with every packet going through the steps. */
function twins(): [Lab, Lab] {
  const short = new Lab(CONFIG, { mtu: 700 });
  const steps = new Lab(CONFIG, { mtu: 700 });
  steps.path.takesShortWay = false;
  return [short, steps];
}

/** Every counter that this traffic can touch, but those that measure time. */
function counted(lab: Lab): Float64Array {
  const counters = lab.counters.slice(0, CounterBlock.backends + 400);
  counters[CounterBlock.totals + Counter.sampledNs] = 0;
  counters[CounterBlock.totals + Counter.sampledPackets] = 0;
  return counters;
}

function frame(next: () => number): Uint8Array {
  const pick = <T>(...of: T[]): T => of[Math.floor(next() * of.length)];
  const builder = new PacketBuilder().ethernet();
  if (next() < 0.05) builder.vlan(7);
  if (next() < 0.4) {
    builder.ipv6({
      src: next() < 0.02 ? '::1' : `2001:db8:1::${1 + Math.floor(next() * 5)}`,
      dst: pick('2001:db8::10', '2001:db8::10', '2001:db8::13'),
      trafficClass: pick(0, 0xb8, 0x03),
      hopLimit: pick(1, 64, 255),
    });
  } else
    builder.ipv4({
      src: `192.0.2.${1 + Math.floor(next() * 5)}`,
      dst: `198.51.100.${pick(10, 11, 12, 13)}`,
      tos: pick(0, 0xb8, 0x03),
      ttl: pick(1, 64, 255),
      id: Math.floor(next() * 65536),
      dontFragment: next() < 0.5,
      options: next() < 0.03 ? [1, 1, 1, 1] : undefined,
      moreFragments: next() < 0.02,
    });
  const sport = 1024 + Math.floor(next() * 4);
  if (next() < 0.6) {
    const flags = pick(TCP.ACK, TCP.ACK, TCP.ACK | TCP.PSH, TCP.SYN, TCP.FIN | TCP.ACK, TCP.RST, TCP.ACK | TCP.URG, 0);
    builder.tcp({ sport, dport: pick(80, 80, 80, 81), flags });
  } else {
    builder.udp({ sport: next() < 0.02 ? 0 : sport, dport: pick(53, 53, 53, 54) });
  }
  const built = builder
    .payload(pick(0, 1, 30, 630, 660, 700))
    .padTo(pick(0, 60, 64))
    .build();
  // Some that are broken somewhere, some cut.
  if (next() < 0.1) built[14 + Math.floor(next() * 40)] ^= 1 << Math.floor(next() * 8);
  return next() < 0.03 ? built.slice(0, 14 + Math.floor(next() * 45)) : built;
}

describe('the short way', () => {
  it('does what the steps do, byte for byte and counter for counter, over any traffic and any change', () => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const [short, steps] = twins();
    const backends = ['10.0.0.11', '10.0.0.12', '10.2.0.13', 'fd00::14', '10.0.0.41'];
    for (let round = 0; round < 150; round++) {
      const frames = Array.from({ length: 1 + Math.floor(next() * 90) }, () => frame(next));
      const elapsed = next() < 0.05 ? 5000 : Math.floor(next() * 300);
      const change = next() < 0.08;
      const backend = backends[Math.floor(next() * backends.length)];
      const state = (['active', 'draining', 'inactive'] as const)[Math.floor(next() * 3)];
      const from = next() < 0.2 ? 1 : 0;
      const results = [short, steps].map((lab) => {
        lab.nowMs += elapsed;
        if (change) lab.setBackend(backend === '10.0.0.41' ? 'gue' : 'web', backend, { state });
        const out = lab.run(frames, from);
        lab.balancer.sweep(lab.nowMs);
        return out;
      });
      // toEqual() takes a hundred times as long, and is for the message.
      if (!isDeepStrictEqual(results[0], results[1])) {
        expect(results[0], `seed ${seed} round ${round}`).toEqual(results[1]);
      }
      expect(
        Buffer.from(counted(short).buffer).equals(Buffer.from(counted(steps).buffer)),
        `seed ${seed} round ${round}`,
      ).toBe(true);
    }
    expect(short.violations()).toEqual([]);
    expect(short.total(Counter.flowHit)).toBeGreaterThan(500);
  });

  const known: [string, (b: PacketBuilder) => PacketBuilder][] = [
    ['IPv4', (b) => b.ipv4({ src: '192.0.2.1', dst: '198.51.100.10' })],
    ['IPv4, to GUE variant 1', (b) => b.ipv4({ src: '192.0.2.1', dst: '198.51.100.11' })],
    ['IPv6, to GUE variant 1', (b) => b.ipv6({ src: '2001:db8:1::1', dst: '2001:db8::10' })],
  ];
  it.each(known)('is really taken: %s, a flow leaves nothing to the steps', (_, ip) => {
    const [short] = twins();
    const packets = [5, 6, 7, 8, 9].map((sport) => {
      const builder = ip(new PacketBuilder().ethernet());
      return builder.udp({ sport, dport: 53 }).payload('x').build();
    });
    const stepped = countSteps(short);
    short.run(packets);
    expect([short.total(Counter.flowInsert), short.total(Counter.flowHit)]).toEqual([5, 0]);
    short.run([...packets, ...packets]);
    expect(short.total(Counter.flowHit)).toBe(10);
    expect(stepped()).toBe(0);
  });

  it('is really taken by services that remember no flows, also by a flow that nobody has seen', () => {
    const [short] = twins();
    const stepped = countSteps(short);
    const to = (dst: string) => new PacketBuilder().ethernet().ipv4({ src: '192.0.2.1', dst });
    short.run([to('198.51.100.13').udp({ sport: 5, dport: 53 }).payload('x').build()]);
    const to6 = new PacketBuilder().ethernet().ipv6({ src: '2001:db8:1::1', dst: '2001:db8::13' });
    short.run([to6.tcp({ sport: 5, dport: 99, flags: TCP.ACK }).build()]);
    expect([stepped(), short.total(Counter.flowMiss)]).toEqual([0, 2]);
    short.run([to('198.51.100.13').tcp({ sport: 5, dport: 80, flags: TCP.ACK }).build()]);
    expect([stepped(), short.total(Counter.flowMiss)]).toEqual([1, 3]);
  });

  it('and the steps find flows wherever they lie in a table that is nearly full', () => {
    const labs = [true, false].map((takesShortWay) => {
      const lab = new Lab(CONFIG, { flowSlots: 64 });
      lab.path.takesShortWay = takesShortWay;
      return lab;
    });
    const frames = Array.from({ length: 58 }, (_, n) =>
      new PacketBuilder()
        .ethernet()
        .ipv4({ src: `192.0.2.${n + 1}`, dst: '198.51.100.10' })
        .udp({ sport: 1000 + n, dport: 53 })
        .build(),
    );
    for (let round = 0; round < 4; round++) {
      const [short, steps] = labs.map((lab) => lab.run(frames, 0));
      expect(short).toEqual(steps);
    }
    for (const lab of labs) {
      expect([lab.total(Counter.flowEvict), lab.total(Counter.flowHit)]).toEqual([0, 3 * 58]);
      // Some are away from their first window.
      const away = lab.flows.words.filter(
        (_, i) => i % FlowField.STRIDE === FlowField.lodgers && lab.flows.words[i] >>> 24 > 0,
      );
      expect(away.length).toBeGreaterThan(0);
    }
  });

  it.each(['IPv4', 'IPv6'])(
    'leaves what follows a SYN of its flow to the steps: the flow may have moved, %s',
    (family) => {
      const frame = (n: number, flags: number): Uint8Array =>
        (family === 'IPv4'
          ? new PacketBuilder().ethernet().ipv4({ src: `192.0.2.${n + 1}`, dst: '198.51.100.10' })
          : new PacketBuilder().ethernet().ipv6({ src: `2001:db8:9::${n + 1}`, dst: '2001:db8::10' })
        )
          .tcp({ sport: 5000 + n, dport: 80, flags })
          .build();
      const flows = Array.from({ length: 20 }, (_, n) => n);
      const [short, steps] = twins().map((lab) => {
        lab.run(flows.map((n) => frame(n, TCP.SYN)));
        lab.run(flows.map((n) => frame(n, TCP.ACK)));
        lab.setBackend(family === 'IPv4' ? 'web' : 'web6', '10.0.0.11', { state: 'draining' });
        const both = flows.flatMap((n) => [frame(n, TCP.SYN), frame(n, TCP.ACK)]);
        return { sent: lab.run(both).sent, counters: counted(lab) };
      });
      expect(short).toEqual(steps);
    },
  );

  it('steps aside for rules, modules, protocol lists and checksum repair', () => {
    const yaml = (extra: string) => `${CONFIG}${extra}`;
    const packet = new PacketBuilder()
      .ethernet()
      .ipv4({ src: '192.0.2.1', dst: '198.51.100.10' })
      .udp({ sport: 5, dport: 53 })
      .payload('x')
      .build();
    const ruled = new Lab(yaml('rules: [{ name: all, match: { protocol: udp }, action: drop }]'));
    expect(ruled.run([packet, packet]).dropped).toHaveLength(2);
    const listed = new Lab(yaml('filters: [{ sanity: { protocols: [tcp] } }]'));
    expect(listed.run([packet, packet]).dropped).toHaveLength(2);
    const seen: number[] = [];
    const watched = new Lab(CONFIG, {
      filter: (p) => {
        seen.push(p.destinationPort);
        return -1;
      },
    });
    watched.run([packet, packet, packet]);
    expect(seen).toEqual([53, 53, 53]);
  });
});

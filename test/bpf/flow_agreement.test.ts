/** Flows in the kernel against none: the same packets give the same bytes and the same counters, whatever changes meanwhile. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { BackendOverride } from '../../src/control/service_plan.js';
import type { CaptureSpec } from '../../src/shared/capture_spec.js';
import { katranConfig, katranNextHop } from '../support/katran_config.js';
import { katranSetup, type KatranSetup } from '../support/katran_setup.js';
import { OffloadLab, useTimers } from '../support/offload_lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { frameOf, glbVectors, katranVectors, NO_VECTORS } from '../support/vectors.js';

beforeEach(useTimers);
afterEach(() => void vi.useRealTimers());

/** Rounds of a list of packets: a flow is offered with its 16th. */
const ROUNDS = 28;

/** The packets again and again, with time between for what workers and main thread have to say. */
function repeat(lab: OffloadLab, frames: readonly (readonly [string, Uint8Array])[]): void {
  lab.pump();
  for (let round = 0; round < ROUNDS; round++) {
    for (const [name, frame] of frames) lab.run(frame, 0, `${name}, round ${round}`);
    if (round % 4 === 3) lab.pump();
  }
  lab.expectSameCounters();
}

describe('test packets of Katran', () => {
  const vectors = katranVectors();
  const suites = Object.keys(vectors?.suites ?? {}).filter((suite) => katranSetup(suite) !== null);

  it.each(suites)('%s', (suite) => {
    const setup = katranSetup(suite) as KatranSetup;
    using lab = new OffloadLab(katranConfig(setup), { nextHop: katranNextHop(setup, 1500) });
    repeat(
      lab,
      vectors!.suites[suite].map((one) => [`${one.n}: ${one.description}`, frameOf(one.in)]),
    );
  });

  it('are there, and some of their flows are served by the kernel', ({ skip }) => {
    skip(vectors === null, NO_VECTORS);
    let served = 0;
    for (const suite of suites) {
      const setup = katranSetup(suite) as KatranSetup;
      using lab = new OffloadLab(katranConfig(setup), { nextHop: katranNextHop(setup, 1500) });
      // Mostly without those that begin or end their connection.
      const plain = vectors!.suites[suite].map((one) => frameOf(one.in)).filter((frame) => frame.length > 60);
      lab.pump();
      for (let round = 0; round < 20; round++) for (const frame of plain) lab.run(frame);
      lab.pump();
      for (let round = 0; round < 5; round++) for (const frame of plain) lab.run(frame);
      served += lab.served;
    }
    expect(served).toBeGreaterThan(30);
  });
});

describe('routes of GLB Director', () => {
  const vectors = glbVectors();
  const FIELDS: Record<string, string> = { src_addr: 'src', dst_addr: 'dst', src_port: 'sport', dst_port: 'dport' };

  it.for([
    ['chains of two, not remembered: nothing is for the kernel', 2, false],
    ['one hop, remembered', 1, true],
  ] as const)('%s', ([, hops, flow_table], { skip }) => {
    skip(vectors === null, NO_VECTORS);
    const { director_config: director, tables, hash_fields } = vectors!;
    const [{ hash_key, seed, backends }] = tables;
    for (const { fields, routes } of hash_fields) {
      const service = {
        name: 'web',
        vip: '1.1.1.1',
        port: 80,
        protocol: 'tcp',
        flow_table,
        hash: 'glb',
        hash_fields: fields.map((name) => FIELDS[name]),
        glb: { hash_key, seed },
        hops,
        backends: backends.map(({ ip }) => ip),
      };
      const gue = { port: director.gue_port, variant: 0 };
      using lab = new OffloadLab(
        JSON.stringify({
          interfaces: ['eth0'],
          encapsulation: { kind: 'gue', source: director.outbound_src_ip, gue },
          services: [service],
        }),
      );
      repeat(
        lab,
        routes.slice(0, 40).map(([src, sport]) => {
          const builder = new PacketBuilder().ethernet().ipv4({ src, dst: '1.1.1.1' }).tcp({ sport, dport: 80 });
          return [`${src}:${sport}`, builder.build()] as const;
        }),
      );
      expect(lab.served > 0).toBe(hops === 1);
    }
  });
});

describe('random packets under churn', () => {
  interface World {
    encapsulation: unknown;
    backends: string[];
    rules: unknown[];
    withDns: boolean;
  }
  const configOf = ({ encapsulation, backends, rules, withDns }: World): string =>
    JSON.stringify({
      interfaces: ['net0', 'net1'],
      rules,
      services: [
        { name: 'web4', vip: '198.51.100.10', port: 80, protocol: 'tcp', encapsulation, backends },
        { name: 'web6', vip: '2001:db8::10', port: 80, protocol: 'tcp', encapsulation, backends },
        ...(withDns
          ? [{ name: 'dns4', vip: '198.51.100.10', port: 53, protocol: 'udp', encapsulation, backends }]
          : []),
        { name: 'dns6', vip: '2001:db8::10', port: 53, protocol: 'udp', hash: 'katran', encapsulation, backends },
      ],
    });
  const KINDS = ['ipip', 'gue', { kind: 'gue', gue: { variant: 0 } }, 'l2', { kind: 'gue', source: '10.8.0.0/20' }];
  const ADDRESSES = ['10.0.0.11', '10.0.0.12', '10.2.0.13', '10.0.0.14', '10.2.0.15'];
  const CAPTURE = { capture: 0, serial: 1, ports: 1, verdicts: 0, reasons: [], rules: null } as unknown as CaptureSpec;
  const RULES = [
    [],
    [{ name: 'long', match: { protocol: 'udp', length: '150-65535' }, action: 'drop' }],
    [{ name: 'client', match: { src: '192.0.2.1' }, action: 'count' }],
  ];

  it.each([1, 2, 3])('of seed %i and the time of day', (number) => {
    const seed = (Date.now() & 0xffff00) + number;
    const next = random(seed);
    const below = (limit: number): number => Math.floor(next() * limit);
    const pick = <T>(list: readonly T[]): T => list[below(list.length)];
    const world: World = { encapsulation: pick(KINDS), backends: ADDRESSES.slice(0, 3), rules: [], withDns: true };
    let mac = 1;
    using lab = new OffloadLab(configOf(world), {
      nextHop: (address) => ({ dmac: Uint8Array.of(2, mac, 0, 0, 1, Number(address.split('.')[3])), mtu: 1480 }),
    });

    const frame = (): Uint8Array => {
      const eth = new PacketBuilder().ethernet();
      const kind = below(120);
      if (kind === 0) eth.vlan(7);
      const client = 1 + below(2);
      if (next() < 0.5) {
        const odd = { options: kind === 1 ? [1, 1, 1, 1] : undefined, moreFragments: kind === 2 };
        eth.ipv4({ src: `192.0.2.${client}`, dst: '198.51.100.10', tos: below(256), ttl: 1 + below(255), ...odd });
      } else {
        eth.ipv6({ src: `2001:db8:1::${client}`, dst: '2001:db8::10', trafficClass: below(256) });
        if (kind === 1) eth.extension(60);
      }
      const flags = kind === 3 ? pick([TCP.SYN, TCP.RST, TCP.FIN | TCP.ACK, 0, TCP.ACK | TCP.URG]) : TCP.ACK;
      const sport = 4000;
      if (next() < 0.5) eth.tcp({ sport, dport: 80, flags });
      else eth.udp({ sport, dport: 53 });
      const bytes = eth.payload(kind === 4 ? 1410 + below(40) : below(200)).build();
      return kind === 5 ? quoted(bytes) : bytes;
    };
    /** An error of a router about a packet that was sent back to the client. */
    const quoted = (bytes: Uint8Array): Uint8Array => {
      const isIpv4 = bytes[12] === 8 && bytes[13] === 0;
      const about = bytes.slice(14, 14 + 60);
      const quote = new PacketBuilder().ethernet();
      if (isIpv4)
        return quote
          .ipv4({ src: '192.0.2.9', dst: '198.51.100.10' })
          .icmp({ type: 3, code: 1 })
          .payload([...about])
          .build();
      return quote
        .ipv6({ src: '2001:db8:2::9', dst: '2001:db8::10' })
        .icmp6({ type: 1, code: 0 })
        .payload([...about])
        .build();
    };

    const override = (key: string, value: BackendOverride): void =>
      lab.change(({ overrides }) => overrides.set(key, value));
    const changes: (() => void)[] = [
      () => override(`web4/${world.backends[0]}`, { state: pick(['active', 'draining', 'inactive']) }),
      () => override(`dns6/${world.backends[1]}`, { weight: pick([0, 1, 50]) }),
      () => {
        mac = 1 + below(9);
        lab.adopt();
      },
      () => {
        world.backends = ADDRESSES.filter(() => next() < 0.7);
        if (world.backends.length < 2) world.backends = ADDRESSES.slice(0, 2);
        for (const each of [lab.off, lab.auto]) each.overrides.clear();
        lab.adopt(configOf(world));
      },
      () => {
        world.encapsulation = pick(KINDS);
        lab.adopt(configOf(world));
      },
      () => {
        world.withDns = !world.withDns;
        lab.adopt(configOf(world));
      },
      () => {
        world.rules = pick(RULES);
        lab.adopt(configOf(world));
      },
      () => lab.setMode(pick(['auto', 'auto', 'off'])),
      () => lab.capture(lab.captures.length > 0 ? [] : [CAPTURE]),
      () => undefined,
    ];
    let count = 0;
    for (let round = 0; round < 30; round++) {
      if (lab.captures.length > 0 && next() < 0.7) lab.capture([]);
      if (lab.mode === 'off' && next() < 0.7) lab.setMode('auto');
      pick(changes)();
      // Packets before, amid and after what takes the control plane its 20, 50 and 200 ms.
      for (const [ms, packets] of [
        [0, 30],
        [60, 160],
        [60, 30],
        [200, 150],
      ]) {
        if (ms > 0) lab.pump(ms);
        for (let i = 0; i < packets; i++) lab.run(frame(), next() < 0.95 ? 0 : 1, `seed ${seed}, packet ${count++}`);
      }
      lab.expectSameCounters(`seed ${seed}, round ${round}`);
    }
    expect(lab.served, `seed ${seed}`).toBeGreaterThan(100);
  });
});

/** GLB Director's tests on the whole data path: chains of two backends, ICMP, sick backends, hash fields, and the properties that its authors state. */
import { beforeAll, describe, expect, it } from 'vitest';
import { RiseFall } from '../../src/control/health/rise_fall.js';
import { buildRendezvous } from '../../src/control/rendezvous.js';
import { parseAddress } from '../../src/shared/addr.js';
import { expectTable } from '../support/compatibility.js';
import { Lab } from '../support/lab.js';
import { readEncapsulated, type Encapsulated } from '../support/outer_reader.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';
import { frameOf, glbVectors, NO_VECTORS, type GlbVectors } from '../support/vectors.js';

const vectors = glbVectors();
const FIELDS: Record<string, string> = { src_addr: 'src', dst_addr: 'dst', src_port: 'sport', dst_port: 'dport' };

/** A director's configuration and one of its tables, here a service for each of its addresses. */
function configOf(
  { director_config: director, tables }: GlbVectors,
  options: { table?: number; fields?: string[]; backends?: string[] } = {},
): string {
  const { table = 0, fields = ['src_addr'] } = options;
  const backends = options.backends ?? tables[table].backends.map(({ ip }) => ip);
  const { hash_key, seed, binds } = tables[table];
  const vips = [...new Set(binds.map(({ ip }) => ip))];
  // JSON is YAML.
  return JSON.stringify({
    interfaces: ['eth0'],
    icmp: { echo: director.forward_icmp_ping_responses ? 'forward' : 'pass' },
    encapsulation: { kind: 'gue', source: director.outbound_src_ip, gue: { port: director.gue_port, variant: 0 } },
    services: vips.map((vip) => ({
      name: serviceOf(vip),
      vip,
      port: binds.filter(({ ip }) => ip === vip).map(({ port }) => port),
      protocol: 'tcp',
      flow_table: false,
      hash: 'glb',
      hash_fields: fields.map((name) => FIELDS[name]),
      glb: { hash_key, seed },
      hops: 2,
      backends,
    })),
  });
}

const serviceOf = (vip: string): string => `to-${vip.replaceAll(':', '-')}`;

interface Flow {
  src?: string;
  dst?: string;
  sport?: number;
  flags?: number;
  bytes?: number;
}

function tcp({ src = '10.11.12.13', dst = '1.1.1.1', sport = 45678, flags = TCP.SYN, bytes = 0 }: Flow): Uint8Array {
  const builder = new PacketBuilder().ethernet();
  const ip = dst.includes(':') ? builder.ipv6({ src, dst }) : builder.ipv4({ src, dst });
  return ip.tcp({ sport, dport: 80, flags }).payload(bytes).build();
}

/** A thousand packets of as many flows. */
function thousand(dst: string, src: (i: number) => string): Uint8Array[] {
  const next = random(5);
  return Array.from({ length: 1000 }, (_, i) =>
    tcp({ src: src(i), dst, sport: 1024 + Math.floor(60000 * next()), bytes: i % 200, flags: TCP.ACK }),
  );
}

const hosts = (i: number): string => `10.${20 + (i >> 8)}.${i & 255}.9`;

/** What is sent for the frames, in pieces that the ports take at once. */
function sentFor(lab: Lab, frames: Uint8Array[]): Encapsulated[] {
  const sent: Encapsulated[] = [];
  for (let i = 0; i < frames.length; i += 100) {
    sent.push(...lab.run(frames.slice(i, i + 100)).sent[0].map(readEncapsulated));
  }
  return sent;
}

const chainOf = ({ dst, gue }: Encapsulated): string[] => [dst, ...(gue?.chain?.hops ?? [])];

describe.skipIf(vectors === null)(`GLB Director's tests${vectors ? '' : `: ${NO_VECTORS}`}`, () => {
  const glb = vectors!;
  let lab: Lab;
  let flow: Encapsulated;

  beforeAll(() => {
    lab = new Lab(configOf(glb));
    [flow] = sentFor(lab, [tcp({})]);
  });

  describe('packet_cases', () => {
    const wanted = (name: string) => glb.packet_cases.find((one) => one.name.startsWith(name))!.expect;

    it('tcp to bind', () => {
      const { outer_src, outer_dst, alternate, udp_dport } = wanted('tcp to bind');
      expect(flow).toMatchObject({ src: outer_src, dst: outer_dst, udp: { dport: udp_dport, checksum: 0 } });
      expect(flow.gue).toEqual({ variant: 0, protocol: 4, chain: { type: 0, nextHop: 0, hops: alternate } });
      expect(Buffer.from(flow.inner).equals(tcp({}).subarray(14))).toBe(true);
      // Don't fragment.
      expect(flow.fragment).toBe(0x4000);
    });

    it('icmp frag-needed about that flow', () => {
      const answer = new PacketBuilder().ipv4({ src: '1.1.1.1', dst: '10.11.12.13' }).tcp({ sport: 80, dport: 45678 });
      const frame = new PacketBuilder()
        .ethernet()
        .ipv4({ src: '10.11.99.99', dst: '1.1.1.1' })
        .icmp({ type: 3, code: 4 })
        .payload(answer.build())
        .build();
      const [sent] = sentFor(lab, [frame]);
      expect(sent.dst).toBe(wanted('icmp frag-needed').outer_dst);
      expect(sent.udp!.sport).toBe(flow.udp!.sport);
      expect(Buffer.from(sent.inner).equals(frame.subarray(14))).toBe(true);
    });

    it('icmp echo request', () => {
      const frame = new PacketBuilder()
        .ethernet()
        .ipv4({ src: '10.11.12.13', dst: '1.1.1.1' })
        .icmp({ type: 8 })
        .build();
      expect(sentFor(lab, [frame])[0].dst).toBe(wanted('icmp echo').outer_dst);
    });

    it('unhealthy primary', () => {
      const sick = new Lab(configOf(glb));
      sick.setBackend(serviceOf('1.1.1.1'), flow.dst, { state: 'draining' });
      const { outer_dst, alternate } = wanted('unhealthy primary');
      expect(chainOf(sentFor(sick, [tcp({})])[0])).toEqual([outer_dst, ...alternate!]);
    });
  });

  it.for(glb?.hash_fields ?? [])('hash_fields: $fields', ({ fields, routes }) => {
    const byFields = new Lab(configOf(glb, { fields }));
    for (const [src, sport, expected] of routes) {
      expect(chainOf(sentFor(byFields, [tcp({ src, sport })])[0]), `${src}:${sport}`).toEqual(expected);
    }
  });

  it('rendezvous_vectors', () => {
    const { seed, hosts: backends, rows } = glb.rendezvous_vectors;
    const active = backends.map((ip) => ({ address: parseAddress(ip), weight: 1, state: 'active' as const }));
    // Two hops of four, so that a row shows who comes first; without the first two, who comes then.
    for (const { index, order } of rows) {
      const rest = active.filter(({ address }) => !order.slice(0, 2).includes(address.text));
      const seen = [active, rest].flatMap((list) => {
        const built = buildRendezvous(list, { rows: 65536, hops: 2, glbSeed: frameOf(seed) })!;
        return [...built.rows.subarray(2 * index, 2 * index + 2)].map((i) => list[i].address.text);
      });
      expect(seen, `row ${index}`).toEqual(order);
    }
  });

  it.for(glb?.health_dampening ?? [])(
    'health_dampening: rise $rise, fall $fall, $in',
    ({ rise, fall, in: results, out }) => {
      const state = new RiseFall(rise, fall);
      const states = [...results].map((result) => {
        state.take(result === 'T');
        return state.up ? 'T' : 'F';
      });
      expect(states.join('')).toBe(out);
    },
  );

  describe('properties', () => {
    const frames = thousand('1.1.1.1', hosts);
    const all = glb?.tables[0].backends.map(({ ip }) => ip) ?? [];

    it('two backends keep their order in a row whatever the others are', () => {
      const of = (backends: string[]): string[][] => sentFor(new Lab(configOf(glb, { backends })), frames).map(chainOf);
      const whole = of(all);
      for (const [a, b] of all.flatMap((one, i) => all.slice(i + 1).map((other) => [one, other]))) {
        of([a, b]).forEach((pair, i) => {
          expect(pair).toHaveLength(2);
          // Of three, two are in the chain: the first of the pair is one of them, and before the second.
          expect(whole[i].filter((backend) => backend === a || backend === b)[0]).toBe(pair[0]);
        });
      }
    });

    it('a change of one state swaps only where that backend was first', () => {
      const [one] = all;
      const changed = new Lab(configOf(glb));
      const before = sentFor(changed, frames).map(chainOf);
      changed.setBackend(serviceOf('1.1.1.1'), one, { state: 'draining' });
      const after = sentFor(changed, frames).map(chainOf);
      expect(before.filter(([first]) => first === one).length).toBeGreaterThan(200);
      expect(after).toEqual(before.map((chain) => (chain[0] === one ? chain.toReversed() : chain)));
    });

    it('all directors with equal tables choose equally', () => {
      const other = new Lab(configOf(glb, { backends: all.toReversed() }));
      expect(sentFor(other, frames).map(chainOf)).toEqual(sentFor(lab, frames).map(chainOf));
    });

    it('1000 packets in, 1000 packets out', () => {
      const second = new Lab(configOf(glb, { table: 1 }));
      const ipv6 = thousand('fdb4:98ce:52d4::42', (i) => `2001:db8::${(i + 1).toString(16)}`);
      for (const [each, traffic] of [
        [lab, frames],
        [second, thousand('1.1.1.2', hosts)],
        [second, ipv6],
      ] as const) {
        const sent = sentFor(each, traffic);
        expect(sent.map(({ inner }) => Buffer.from(inner).toString('hex'))).toEqual(
          traffic.map((frame) => Buffer.from(frame.subarray(14)).toString('hex')),
        );
        expect(new Set(sent.map(({ dst }) => dst)).size).toBe(each === lab ? 3 : 4);
        expect(each.violations()).toEqual([]);
      }
    });

    it('the outer source port is a function of the flow', () => {
      const portsOf = (flags: number, bytes: number): number[] =>
        sentFor(
          new Lab(configOf(glb)),
          Array.from({ length: 200 }, (_, i) => tcp({ src: hosts(i), sport: 2000 + i, flags, bytes })),
        ).map(({ udp }) => udp!.sport);
      const ports = portsOf(TCP.SYN, 0);
      expect(portsOf(TCP.ACK | TCP.PSH, 99)).toEqual(ports);
      expect(Math.min(...ports)).toBeGreaterThanOrEqual(0x8000);
      expect(new Set(ports).size).toBeGreaterThan(190);
    });
  });

  it('pass as docs/compatibility.md says', () => {
    const routes = glb.hash_fields.reduce((sum, each) => sum + each.routes.length, 0);
    const counts: [string, number][] = [
      ['packet_cases', glb.packet_cases.length],
      ['hash_fields', routes],
      ['rendezvous_vectors', glb.rendezvous_vectors.rows.length],
      ['health_dampening', glb.health_dampening.length],
      ['properties', glb.properties.length],
    ];
    // As many as have a test above.
    expect([glb.packet_cases.length, glb.properties.length]).toEqual([4, 5]);
    expectTable(
      'glb',
      counts.map(([suite, cases]) => ({ suite, cases, deviations: [] })),
    );
  });
});

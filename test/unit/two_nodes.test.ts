/** Nodes that were configured in another order, and have come to the same configuration by other ways, send every packet alike. */
import { describe, expect, it } from 'vitest';
import { buildEgress, Egress, FlagsWord } from '../../src/dataplane/balance/egress.js';
import { BackendField, BackendFlag, MAX_PORTS, MAX_SERVICES, ServiceField } from '../../src/shared/layout.js';
import { Lab } from '../support/lab.js';
import { readEncapsulated } from '../support/outer_reader.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { random } from '../support/packets.js';

const KEY = '000102030405060708090a0b0c0d0e0f';
const BACKENDS = ['10.0.0.9', '10.0.0.11', '10.0.0.100', '10.2.0.12', '10.0.0.13', 'fd00::14', 'fd00::9', 'fd02::15'];

interface Kind {
  hash: string;
  encapsulation: object;
  more?: object;
}

const GUE0 = { kind: 'gue', gue: { variant: 0 } };
const GUE1 = { kind: 'gue', gue: { variant: 1 }, source: ['10.3.0.0/16', 'fd03::/64'] };
const IPIP = { kind: 'ipip', source: ['10.3.0.0/16', 'fd03::/64'] };
const GLB = { glb: { hash_key: KEY, seed: KEY } };
const KINDS: [string, Kind][] = [
  ['sluice, IP in IP', { hash: 'sluice', encapsulation: IPIP }],
  ['sluice, GUE', { hash: 'sluice', encapsulation: GUE1, more: { hash_fields: ['src', 'dport'] } }],
  ['sluice, chains', { hash: 'sluice', encapsulation: GUE0, more: { hops: 3 } }],
  ['katran', { hash: 'katran', encapsulation: { kind: 'ipip' } }],
  ['katran-v2', { hash: 'katran-v2', encapsulation: GUE1 }],
  ['glb', { hash: 'glb', encapsulation: GUE1, more: GLB }],
  ['glb, chains', { hash: 'glb', encapsulation: GUE0, more: { ...GLB, hops: 2 } }],
];

interface ServiceText {
  name: string;
  backends: { address: string; weight?: number; state?: string }[];
  [key: string]: unknown;
}

/** Two services: half of the backends, with weights and states, and all of one family. */
function services({ hash, encapsulation, more }: Kind): ServiceText[] {
  const ring = hash === 'glb' ? {} : { ring_size: 1009 };
  const common = { port: 80, protocol: ['tcp', 'udp'], hash, encapsulation, flow_table: false, ...ring, ...more };
  const mixed = BACKENDS.filter((address) => !('hops' in (more ?? {})) || !address.includes(':'));
  return [
    {
      name: 'web',
      vip: '198.51.100.10',
      ...common,
      backends: mixed.map((address, i) => ({
        address,
        weight: 1 + (i % 3),
        ...(i === 2 ? { state: 'draining' } : {}),
      })),
    },
    { name: 'six', vip: '2001:db8:1::10', ...common, backends: BACKENDS.slice(5).map((address) => ({ address })) },
  ];
}

const text = (list: ServiceText[]): string =>
  JSON.stringify({ interfaces: ['eth0', 'eth1'], hash_key: 'a key of the fleet', services: list });

function shuffled<T>(list: readonly T[], next: () => number): T[] {
  return list
    .map((each) => [next(), each] as const)
    .sort(([a], [b]) => a - b)
    .map(([, each]) => each);
}

/** Brings a node to the configuration by adding, removing and draining one thing after another. */
function byOtherWays(list: ServiceText[], next: () => number): Lab {
  const some = <T>(of: readonly T[]): T[] => of.filter(() => next() < 0.6);
  const lab = new Lab(text(some(list)));
  for (let step = 0; step < (list[0].hash === 'glb' ? 2 : 8); step++) {
    const other = shuffled(some(list), next).map((service) => ({
      ...service,
      backends: [
        ...some(shuffled(service.backends, next)),
        { address: service.name === 'six' ? 'fd00::77' : '10.0.0.77' },
      ].map((backend) => ({ ...backend, weight: 1 + Math.floor(next() * 3) })),
    }));
    lab.nowMs += 700_000 * Math.floor(next() * 2);
    lab.adopt(text(other));
  }
  lab.adopt(
    text(
      shuffled(
        list.map((each) => ({ ...each, backends: shuffled(each.backends, next) })),
        next,
      ),
    ),
  );
  return lab;
}

function packets(next: () => number): Uint8Array[] {
  return Array.from({ length: 300 }, (_, n) => {
    const ipv6 = next() < 0.4;
    const id = Math.floor(next() * 60_000);
    const builder = new PacketBuilder().ethernet();
    if (ipv6) builder.ipv6({ src: `2001:db8:9::${(id + 1).toString(16)}`, dst: '2001:db8:1::10' });
    else builder.ipv4({ src: `192.0.${id >> 8}.${id & 255}`, dst: '198.51.100.10' });
    const ports = { sport: 1024 + id, dport: 80 };
    return (n % 2 === 0 ? builder.tcp({ ...ports, flags: TCP.ACK }) : builder.udp(ports)).payload('x').build();
  });
}

describe('nodes of a fleet', () => {
  it.each(KINDS)('send every packet alike, whatever the order of the file and what was before: %s', (_, kind) => {
    const seed = Date.now() | 0;
    const next = random(seed);
    const list = services(kind);
    const first = new Lab(text(list));
    const nodes = [
      new Lab(
        text(
          shuffled(
            list.map((each) => ({ ...each, backends: each.backends.toReversed() })),
            next,
          ),
        ),
      ),
      byOtherWays(list, next),
    ];
    const frames = packets(next);
    const expected = first.run(frames).sent;
    const reached = new Set(expected.flat().map((frame) => readEncapsulated(frame).dst));
    expect(reached.size).toBeGreaterThan(4);
    expect(expected.flat()).toHaveLength(frames.length);
    for (const node of nodes) expect(node.run(frames).sent, `seed ${seed}`).toEqual(expected);
  });
});

/** First backend and further hops of each of these packets, by address. */
function chains(lab: Lab, frames: readonly Uint8Array[]): string[][] {
  return frames.map((frame) => {
    const sent = readEncapsulated(lab.run([frame]).sent.flat()[0]);
    return [sent.dst, ...(sent.gue!.chain?.hops ?? [])];
  });
}

describe('chains of hops', () => {
  it.each(['sluice', 'glb'].flatMap((hash) => [2, 3].map((hops) => [hash, hops] as const)))(
    'hold who had the flow before any one change: hash %s, %d hops',
    (hash, hops) => {
      const seed = Date.now() | 0;
      const next = random(seed);
      const addresses = BACKENDS.filter((address) => !address.includes(':'));
      const kind: Kind = { hash, encapsulation: GUE0, more: { hops, ...(hash === 'glb' ? GLB : {}) } };
      const [web] = services(kind);
      const config = (backends: ServiceText['backends']): string => text([{ ...web, backends }]);
      let backends: ServiceText['backends'] = addresses.map((address) => ({ address }));
      const lab = new Lab(config(backends));
      const frames = packets(next).filter((frame) => frame[12] === 0x08);
      let before = chains(lab, frames);
      let moved = 0;
      const change = (to: ServiceText['backends'], what: string): void => {
        backends = to;
        lab.adopt(config(backends));
        const after = chains(lab, frames);
        before.forEach(([owner], n) => {
          expect(after[n], `seed ${seed}: ${what}, flow ${n}`).toContain(owner);
          if (after[n][0] !== owner) moved++;
        });
        before = after;
      };
      // One change at a time, the next one when nothing drains any more: what GLB promises, and no more.
      for (let round = 0; round < (hash === 'glb' ? 2 : 12); round++) {
        const one = backends[Math.floor(next() * backends.length)].address;
        const others = backends.filter(({ address }) => address !== one);
        change([...others, { address: one, state: 'draining' }], `${one} drains`);
        if (next() < 0.5) change([...others, { address: one }], `${one} is back`);
        else change(others, `${one} is gone`);
        change([...backends, { address: `10.0.0.${20 + round}` }], 'one is new');
      }
      expect(moved).toBeGreaterThan(20);
    },
  );
});

describe('the egress table', () => {
  it('has room for every service number beside every port and flag', () => {
    const flags =
      BackendFlag.valid |
      BackendFlag.active |
      BackendFlag.draining |
      BackendFlag.ipv6 |
      BackendFlag.resolved |
      BackendFlag.special |
      BackendFlag.steered |
      BackendFlag.clamps;
    const records = new Int32Array(BackendField.STRIDE);
    records[BackendField.flags] = flags;
    records[BackendField.service] = MAX_SERVICES - 1;
    records[BackendField.port] = MAX_PORTS - 1;
    const word = buildEgress(records, new Int32Array(MAX_SERVICES * ServiceField.STRIDE))[Egress.flags];
    expect(word >>> FlagsWord.SERVICE_SHIFT).toBe(MAX_SERVICES - 1);
    expect((word >>> FlagsWord.PORT_SHIFT) & FlagsWord.PORT_MASK).toBe(MAX_PORTS - 1);
    expect(word & ((1 << FlagsWord.PORT_SHIFT) - 1)).toBe(flags);
  });
});

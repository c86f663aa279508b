/** bpf/flow_cache.bpf.c against the data path of TypeScript: the same flows, the same tables, the same bytes. */
import { describe, expect, it } from 'vitest';
import {
  FLOW_BACKEND_BYTES,
  FLOW_BACKENDS,
  FLOW_STATS,
  FLOW_WAYS,
  FLOW_WORDS,
  leftToUserSpace,
} from '../../src/control/ebpf/flow_layout.js';
import { XDP } from '../support/bpf.js';
import { FlowRecord } from '../../src/shared/flow_ring.js';
import { FlowCache, recordOf, tupleOf } from '../support/flow_cache.js';
import { Lab } from '../support/lab.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import { parsed, random } from '../support/packets.js';

/** A service of each kind on one VIP a family; ports tell them apart. */
const KINDS: [string, string][] = [
  ['ipip', '{ kind: ipip }'],
  ['ipip from a prefix', '{ kind: ipip, source: [10.8.0.0/16, "fd08::/96"] }'],
  ['ipip from a prefix of two', '{ kind: ipip, source: [10.8.0.0/31, "fd08::/127"] }'],
  ['gue variant 1', '{ kind: gue, gue: { variant: 1, port: 6081 } }'],
  ['gue variant 1 from a prefix', '{ kind: gue, source: [10.8.0.0/20, "fd08::/100"], gue: { variant: 1 } }'],
  ['gue variant 0', '{ kind: gue, gue: { variant: 0 } }'],
  ['l2', '{ kind: l2 }'],
];
const HASHES: [string, string][] = [
  ['', ''],
  [", Katran's", 'hash: katran, '],
];
interface Service {
  name: string;
  port: number;
}
const SERVICES: Service[] = [];
const lines: string[] = [];
for (const [hash, key] of HASHES) {
  for (const [kind, encapsulation] of KINDS) {
    for (const [family, address] of [
      ['4', '10.0.0.11'],
      ['4, by another interface', '10.2.0.12'],
      ['6', 'fd00::11'],
      ['6, by another interface', 'fd02::12'],
    ]) {
      const port = 1000 + SERVICES.length;
      SERVICES.push({ name: `${kind}${hash}, outside IPv${family}`, port });
      const sourced = encapsulation.replace(
        /source: \[(.*?), "(.*?)"\]/,
        (_, four, six) => `source: ${family[0] === '4' ? four : `'${six}'`}`,
      );
      for (const [vip, n] of [
        ['198.51.100.10', 4],
        ["'2001:db8::10'", 6],
      ] as const) {
        for (const protocol of ['tcp', 'udp']) {
          lines.push(
            `  - { name: s${port}-${n}-${protocol}, vip: ${vip}, port: ${port}, protocol: ${protocol}, ${key}encapsulation: ${sourced}, backends: ['${address}'] }`,
          );
        }
      }
    }
  }
}
const CONFIG = `interfaces: [{ name: net0 }, { name: net1 }]\nservices:\n${lines.join('\n')}\n`;
const MTU = 700;

interface Shape {
  family: 4 | 6;
  protocol: 'tcp' | 'udp';
  port: number;
  sport?: number;
  tos?: number;
  ttl?: number;
  payload?: number;
  padTo?: number;
  flags?: number;
  id?: number;
}

function frameOf({ family, protocol, port, sport = 4000, tos = 0, ttl = 64, payload = 10, padTo = 0, ...rest }: Shape) {
  const builder = new PacketBuilder().ethernet();
  if (family === 4) builder.ipv4({ src: '192.0.2.1', dst: '198.51.100.10', tos, ttl, id: rest.id ?? 7 });
  else
    builder.ipv6({ src: '2001:db8:1::1', dst: '2001:db8::10', trafficClass: tos, hopLimit: ttl, flowLabel: 0xabcde });
  if (protocol === 'tcp') builder.tcp({ sport, dport: port, flags: rest.flags ?? TCP.ACK });
  else builder.udp({ sport, dport: port });
  return builder.payload(payload).padTo(padTo).build();
}

/** Has the lab remember the flow, and be sure of it. */
function establish(lab: Lab, shape: Shape): void {
  const small = { ...shape, payload: 10, padTo: 0 };
  if (shape.protocol === 'tcp') lab.run([frameOf({ ...small, flags: TCP.SYN })]);
  lab.run([frameOf({ ...small, flags: TCP.ACK })]);
  lab.run([frameOf({ ...small, flags: TCP.ACK })]);
}

describe('structures', () => {
  it('have the sizes of bpf/types.h', () => {
    using cache = new FlowCache();
    for (const family of [4, 6] as const) {
      const valueSize = 4 * FLOW_WORDS[family] * FLOW_WAYS;
      expect(cache.object.map(`flows${family}`)).toMatchObject({ valueSize, maxEntries: cache.flows[family].sets });
    }
    expect(cache.object.map('flow_backends')).toMatchObject({
      valueSize: FLOW_BACKEND_BYTES,
      maxEntries: FLOW_BACKENDS,
    });
    expect(cache.object.map('flow_counts')).toMatchObject({ valueSize: 16, maxEntries: FLOW_BACKENDS });
    expect(cache.object.map('flow_stats').valueSize).toBe(8 * FLOW_STATS.length);
  });

  it('are read back as they were written', () => {
    using cache = new FlowCache();
    for (const family of [4, 6] as const) {
      const tuple = tupleOf(parsed(frameOf({ family, protocol: 'udp', port: 53 })));
      cache.install(tuple, 4095, { sport: 0xc001, label: 0xfffff, host: -5 }, { generation: 8, seenMs: 123456789 });
      const sets = cache.flows[family];
      const place = sets.find(recordOf(tuple));
      const record = new Int32Array(FlowRecord.STRIDE);
      sets.read(place, record);
      const expected = recordOf(tuple);
      expect([...record.subarray(1, 10)]).toEqual([...expected.subarray(1, 10)]);
      expect(record[FlowRecord.what]).toBe(expected[FlowRecord.what] & 0xffff);
      expect([sets.backend(place), sets.generation(place), sets.worker(place)]).toEqual([4095, 8, 3]);
      expect(sets.idleMs(place, 123456790)).toBe(1);
      expect(sets.find(recordOf({ ...tuple, ports: tuple.ports ^ 1 }))).toBe(-1);
    }
  });
});

describe('a cached flow', () => {
  const lab = new Lab(CONFIG, { mtu: MTU });

  it.each(SERVICES)('$name: leaves with the bytes that TypeScript would have written', ({ port }) => {
    using cache = new FlowCache();
    cache.adopt(lab);
    for (const family of [4, 6] as const) {
      for (const protocol of ['tcp', 'udp'] as const) {
        const flow = { family, protocol, port } as const;
        for (const sport of [1, 4000, 65535]) {
          establish(lab, { ...flow, sport });
          const backend = cache.learn(lab, frameOf({ ...flow, sport }));
          const { backends, services } = lab.balancer.snapshot;
          expect(leftToUserSpace(backends, services, backend)).toBe('');
          const before = cache.counts(backend);
          let packets = 0;
          let bytes = 0;
          for (const [tos, ttl, payload, padTo] of [
            [0, 64, 0, 0],
            [0, 64, 0, 60],
            [0xb9, 1, 1, 64],
            [0xff, 255, 301, 400],
            [3, 64, 500, 0],
          ]) {
            const frame = frameOf({ ...flow, sport, tos, ttl, payload, padTo, id: 0xffff });
            const [own, other] = lab.run([frame]).sent;
            const { retval, data } = cache.run(frame);
            expect(retval).toBe(own.length > 0 ? XDP.TX : XDP.REDIRECT);
            expect(Buffer.from(data).toString('hex')).toBe(Buffer.from([...own, ...other][0]).toString('hex'));
            packets++;
            bytes += family === 4 ? (frame[16] << 8) | frame[17] : 40 + ((frame[18] << 8) | frame[19]);
          }
          expect(cache.counts(backend)).toEqual([before[0] + packets, before[1] + bytes]);
        }
      }
    }
  });

  it.each(SERVICES)(
    '$name: is handed on unchanged when it no longer fits, at the same size as in TypeScript',
    ({ port }) => {
      using cache = new FlowCache();
      cache.adopt(lab);
      for (const family of [4, 6] as const) {
        const flow = { family, protocol: 'udp', port } as const;
        establish(lab, flow);
        const backend = cache.learn(lab, frameOf(flow));
        const headers = family === 4 ? 28 : 48;
        let largest = 0;
        for (let payload = MTU - 110; payload + headers <= MTU + 1; payload++) {
          const frame = frameOf({ ...flow, payload });
          const { sent } = lab.run([frame]);
          const tooBig = [...sent[0], ...sent[1]].every((out) => out.length < 600);
          const { retval, data } = cache.run(frame);
          expect(retval === XDP.PASS).toBe(tooBig);
          if (tooBig) expect(Buffer.from(data).equals(Buffer.from(frame))).toBe(true);
          else largest = payload;
        }
        expect(largest).toBeGreaterThan(0);
        expect(cache.stats().too_big).toBeGreaterThan(0);
        expect(backend).toBeGreaterThanOrEqual(0);
      }
    },
  );

  it('counts packets and bytes by the way they leave', () => {
    using cache = new FlowCache();
    cache.adopt(lab);
    const sent = { tx: 0, redirect: 0, rx_bytes: 0, tx_bytes: 0 };
    for (const { port } of SERVICES) {
      const shape = { family: 4, protocol: 'udp', port, padTo: 200 } as const;
      establish(lab, shape);
      cache.learn(lab, frameOf(shape));
      const { retval, data } = cache.run(frameOf(shape));
      sent[retval === XDP.TX ? 'tx' : 'redirect']++;
      sent.rx_bytes += 200;
      sent.tx_bytes += data.length;
    }
    expect(sent.tx).toBe(SERVICES.length / 2);
    expect(cache.stats()).toEqual(sent);
  });

  it('random packets of random flows: either the bytes of TypeScript, or handed on unchanged', () => {
    using cache = new FlowCache();
    cache.adopt(lab);
    const seed = Date.now() | 0;
    const next = random(seed);
    const pick = <T>(list: readonly T[]): T => list[Math.floor(next() * list.length)];
    let served = 0;
    for (let round = 0; round < 1500; round++) {
      const { port } = pick(SERVICES);
      const flow = {
        family: pick([4, 6] as const),
        protocol: pick(['tcp', 'udp'] as const),
        port,
        sport: 5000 + round,
      };
      establish(lab, flow);
      cache.learn(lab, frameOf(flow));
      const frame = frameOf({
        ...flow,
        tos: Math.floor(next() * 256),
        payload: Math.floor(next() * 650),
        padTo: pick([0, 60, 300]),
      });
      // Some are damaged somewhere, some cut.
      if (next() < 0.5) frame[14 + Math.floor(next() * 40)] ^= 1 << Math.floor(next() * 8);
      const data = next() < 0.2 ? frame.slice(0, 14 + Math.floor(next() * (frame.length - 14))) : frame;
      const { retval, data: out } = cache.run(data);
      if (retval === XDP.PASS) {
        expect(Buffer.from(out).equals(Buffer.from(data)), `seed ${seed} round ${round}`).toBe(true);
        continue;
      }
      served++;
      const [own, other] = lab.run([data]).sent;
      expect(Buffer.from(out).toString('hex'), `seed ${seed} round ${round}`).toBe(
        Buffer.from([...own, ...other][0] ?? []).toString('hex'),
      );
    }
    expect(served).toBeGreaterThan(500);
  });
});

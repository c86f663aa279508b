/**
 * What both sides of the path bench work on: frames of N flows to one service, and the tables of a configuration with that service.
 * Written once to a file, read by the TypeScript and by the C++ child alike.
 *
 * File, int32 little-endian: [magic, flows, frameBytes, flowSlots, ring hash key × 4, flow hash key × 4, service key words, services words,
 * backend list words, backends words, ring entries, ms of the clock a burst, inner family, outer family, GUE, flow table], then those five parts in this
 * order (the ring as uint16, padded to 4 bytes), then the frames.
 */
import { openSync, closeSync, writeSync } from 'node:fs';
import { parseConfig } from '../../src/control/config/index.js';
import { Publisher } from '../../src/control/publish.js';
import { Registry } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import type { Tables } from '../../src/shared/layout.js';
import { parseAddress } from '../../src/shared/addr.js';
import { fold, sumBytes } from '../../src/dataplane/packet/checksum.js';

export const MAGIC = 0x736c7563;
/** Of an Ethernet frame as it lies in memory: 60 bytes on the wire without FCS would be the minimum; xdpsock and others send 64. */
export const FRAME_BYTES = 64;
export const FLOW_SECRET = [0x1234567, 0x2345678, 0x3456789, 0x456789a];

export const HEADER_WORDS = 22;

const BACKENDS = 16;

/** What packets are like and what becomes of them. */
export interface Way {
  /** Family of the packets, and of what stands in front of them when they leave. */
  inner: 4 | 6;
  outer: 4 | 6;
  /** GUE variant 1 is UDP with nothing between it and the packet; its UDP checksum is 0. */
  kind: 'ipip' | 'gue';
  /** False: each packet is balanced by the ring alone. */
  flowTable: boolean;
}

export interface FixtureOptions {
  /** A multiple of the burst. */
  flows: number;
  /** Slots of the flow table. */
  flowSlots: number;
  way?: Way;
  /** What the path's clock goes on by with each burst, ms; 0, the default: it stands still. */
  clockStepMs?: number;
}

/** IPv4 in IPv4, flows remembered. */
export const PLAIN_WAY: Way = { inner: 4, outer: 4, kind: 'ipip', flowTable: true };

/** Bytes that a packet grows by. */
export function outerBytes({ outer, kind }: Way): number {
  return (outer === 4 ? 20 : 40) + (kind === 'gue' ? 8 : 0);
}

/** 16 backends, everything on one interface, default filters (all sanity checks, no rules). */
export function benchTables(way: Way = PLAIN_WAY): Tables {
  const { inner, outer, kind, flowTable } = way;
  const backends = Array.from({ length: BACKENDS }, (_, i) => (outer === 4 ? `10.0.0.${10 + i}` : `fd00::${10 + i}`));
  const config = parseConfig(`
interfaces: [{ name: net0 }]
flows: { max_new_per_second: 0, timeouts: { udp: 1h } }
services:
  - name: bench
    vip: '${inner === 4 ? '198.51.100.10' : '2001:db8::10'}'
    port: 443
    protocol: udp
    flow_table: ${flowTable}
    encapsulation: ${kind}
    backends: ['${backends.join("', '")}']
`);
  const source = parseAddress(outer === 4 ? '10.0.0.2' : 'fd00::2');
  const hops = backends.map((address, i): [string, NextHop] => [
    address,
    {
      address,
      interface: 'net0',
      gateway: null,
      source,
      smac: Uint8Array.of(2, 0, 0, 0, 0, 1),
      dmac: Uint8Array.of(2, 0, 0, 0, 1, i),
      mtu: 1500,
      resolved: true,
      error: null,
    },
  ]);
  const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: (path) => path });
  return publisher.build(config, {
    nextHops: new Map(hops),
    overrides: new Map(),
    ports: [{ name: 'net0', index: 0, repairChecksum: false }],
  });
}

/** UDP frames, flow n from 10.1.0.0 (or 2001:db8:1::) + n / 1000 port 1024 + n % 1000. Their hash spreads them over the table. */
export function benchFrames(flows: number, inner: 4 | 6 = 4): Uint8Array {
  const bytes = new Uint8Array(flows * FRAME_BYTES);
  const view = new DataView(bytes.buffer);
  const header = inner === 4 ? 20 : 40;
  for (let n = 0; n < flows; n++) {
    const at = n * FRAME_BYTES;
    bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2], at);
    if (inner === 4) writeIpv4(view, at, n);
    else writeIpv6(view, at, n);
    const l4 = at + 14 + header;
    view.setUint16(l4, 1024 + (n % 1000));
    view.setUint16(l4 + 2, 443);
    view.setUint16(l4 + 4, FRAME_BYTES - 14 - header);
  }
  return bytes;
}

function writeIpv4(view: DataView, at: number, n: number): void {
  view.setUint16(at + 12, 0x0800);
  view.setInt32(at + 14, 0x45000000 | (FRAME_BYTES - 14) | 0);
  view.setInt32(at + 18, 0x00004000);
  view.setInt32(at + 22, 0x40110000);
  view.setInt32(at + 26, (0x0a010000 + Math.floor(n / 1000)) | 0);
  view.setInt32(at + 30, 0xc633640a | 0);
  view.setUint16(at + 24, ~fold(sumBytes(view, at + 14, 20)) & 0xffff);
}

function writeIpv6(view: DataView, at: number, n: number): void {
  view.setUint16(at + 12, 0x86dd);
  view.setInt32(at + 14, 0x60000000);
  view.setInt32(at + 18, ((FRAME_BYTES - 54) << 16) | (17 << 8) | 64);
  view.setInt32(at + 22, 0x20010db8);
  view.setInt32(at + 26, 0x00010000);
  view.setInt32(at + 34, Math.floor(n / 1000) + 1);
  view.setInt32(at + 38, 0x20010db8);
  view.setInt32(at + 50, 0x10);
}

export function writeFixture(
  path: string,
  { flows, flowSlots, way = PLAIN_WAY, clockStepMs = 0 }: FixtureOptions,
): void {
  const tables = benchTables(way);
  const parts = [tables.serviceKeys, tables.services, tables.backendList, tables.backends].map(
    (part) => new Int32Array(part),
  );
  const ring = new Uint16Array(tables.rings[0]);
  const header = Int32Array.from([
    MAGIC,
    flows,
    FRAME_BYTES,
    flowSlots,
    ...tables.settings.hashKey,
    ...FLOW_SECRET,
    ...parts.map((part) => part.length),
    ring.length,
    clockStepMs,
    way.inner,
    way.outer,
    way.kind === 'gue' ? 1 : 0,
    way.flowTable ? 1 : 0,
  ]);
  const padded = new Uint16Array((ring.length + 1) & ~1);
  padded.set(ring);
  const file = openSync(path, 'w');
  for (const part of [header, ...parts, padded, benchFrames(flows, way.inner)]) {
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let done = 0; done < bytes.length;)
      done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 26));
  }
  closeSync(file);
}

/** What a fixture file holds, as its header says. */
export interface Fixture extends Required<FixtureOptions> {
  frames: Uint8Array[];
}

/** Throws when the bytes are no fixture. */
export function readFixture(file: Uint8Array): Fixture {
  const header = new Int32Array(file.buffer, file.byteOffset, HEADER_WORDS);
  if (header[0] !== MAGIC) throw new Error('that is no fixture');
  const [, flows, , flowSlots] = header;
  const [clockStepMs, inner, outer, gue, flowTable] = header.subarray(17);
  const way: Way = {
    inner: inner === 6 ? 6 : 4,
    outer: outer === 6 ? 6 : 4,
    kind: gue === 1 ? 'gue' : 'ipip',
    flowTable: flowTable === 1,
  };
  const start = file.length - flows * FRAME_BYTES;
  const frame = (_: unknown, n: number): Uint8Array =>
    file.subarray(start + n * FRAME_BYTES, start + (n + 1) * FRAME_BYTES);
  return { flows, flowSlots, way, clockStepMs, frames: Array.from({ length: flows }, frame) };
}

/**
 * What both sides of the path bench work on: frames of N flows to one service, and the tables of a configuration with that service.
 * Written once to a file, read by the TypeScript and by the C++ child alike.
 *
 * File, int32 little-endian: [magic, flows, frameBytes, flowSlots, ring hash key × 4, flow hash key × 4, service key words, services words,
 * backend list words, backends words, ring entries], then those five parts in this order (the ring as uint16, padded to 4 bytes), then the frames.
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

const BACKENDS = 16;

/** 16 backends, everything on one interface, default filters (all sanity checks, no rules). */
export function benchTables(maxNew = 0): Tables {
  const backends = Array.from({ length: BACKENDS }, (_, i) => `10.0.0.${10 + i}`);
  const config = parseConfig(`
interfaces: [{ name: net0 }]
flows: { max_new_per_second: ${maxNew}, timeouts: { udp: 1h } }
services: [{ name: bench, vip: 198.51.100.10, port: 443, protocol: udp, backends: [${backends.join(', ')}] }]
`);
  const hops = backends.map((address, i): [string, NextHop] => [
    address,
    {
      address,
      interface: 'net0',
      gateway: null,
      source: parseAddress('10.0.0.2'),
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

/** UDP frames, flow n from 10.1.0.0 + n / 1000 port 1024 + n % 1000. Their hash spreads them over the table. */
export function benchFrames(flows: number): Uint8Array {
  const bytes = new Uint8Array(flows * FRAME_BYTES);
  const view = new DataView(bytes.buffer);
  for (let n = 0; n < flows; n++) {
    const at = n * FRAME_BYTES;
    bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0], at);
    view.setInt32(at + 14, 0x45000000 | (FRAME_BYTES - 14) | 0);
    view.setInt32(at + 18, 0x00004000);
    view.setInt32(at + 22, 0x40110000);
    view.setInt32(at + 26, (0x0a010000 + Math.floor(n / 1000)) | 0);
    view.setInt32(at + 30, 0xc633640a | 0);
    view.setUint16(at + 24, ~fold(sumBytes(view, at + 14, 20)) & 0xffff);
    view.setUint16(at + 34, 1024 + (n % 1000));
    view.setUint16(at + 36, 443);
    view.setUint16(at + 38, FRAME_BYTES - 34);
  }
  return bytes;
}

export function writeFixture(path: string, flows: number, flowSlots: number): void {
  const tables = benchTables();
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
  ]);
  const padded = new Uint16Array((ring.length + 1) & ~1);
  padded.set(ring);
  const file = openSync(path, 'w');
  for (const part of [header, ...parts, padded, benchFrames(flows)]) {
    const bytes = new Uint8Array(part.buffer, part.byteOffset, part.byteLength);
    for (let done = 0; done < bytes.length;)
      done += writeSync(file, bytes, done, Math.min(bytes.length - done, 1 << 26));
  }
  closeSync(file);
}

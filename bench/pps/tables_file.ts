import { writeFileSync } from 'node:fs';
import type { Tables } from '../../src/shared/layout.js';
import { FLOW_SECRET, FRAME_BYTES, HEADER_WORDS, MAGIC } from '../path/fixture.js';

/** Writes the tables of a service for `lb.cc`: a fixture of the path bench (bench/path/fixture.ts) without frames. */
export function writeTables(path: string, tables: Tables): void {
  const parts = [tables.serviceKeys, tables.services, tables.backendList, tables.backends].map(
    (part) => new Int32Array(part),
  );
  const ring = new Uint16Array(tables.rings[0]);
  const words = [
    MAGIC,
    0,
    FRAME_BYTES,
    0,
    ...tables.settings.hashKey,
    ...FLOW_SECRET,
    ...parts.map(({ length }) => length),
    ring.length,
  ];
  const header = new Int32Array(HEADER_WORDS);
  header.set(words);
  const padded = new Uint16Array((ring.length + 1) & ~1);
  padded.set(ring);
  const bytes = [header, ...parts, padded].map((part) => Buffer.from(part.buffer, part.byteOffset, part.byteLength));
  writeFileSync(path, Buffer.concat(bytes));
}

/** Backend records for tests of the data plane, written by the control plane's own writer. */
import { writeBackendRecord } from '../../src/control/backend_records.js';
import { outerSource } from '../../src/control/outer_source.js';
import { parseAddress, parseMac, parsePrefix } from '../../src/shared/addr.js';
import type { EncapsulationConfig } from '../../src/shared/config.js';
import { BackendField, BackendFlag } from '../../src/shared/layout.js';
import { makeNextHop } from './configs.js';

export const SMAC = '02:00:00:00:00:aa';
export const DMAC = '02:00:00:00:00:bb';

export interface BackendSketch {
  kind?: EncapsulationConfig['kind'];
  variant?: 0 | 1;
  checksum?: 'zero' | 'computed';
  port?: number;
  /** Outer destination. */
  address?: string;
  /** Outer source: an address, or a prefix. '': none is configured. */
  source?: string;
  katran?: boolean;
  mtu?: number;
  gateway?: string;
}

/** The record of one backend, as number `number` of a table; its word index is `number * BackendField.STRIDE`. */
export function backendRecord(sketch: BackendSketch, number = 0): Int32Array {
  const address = parseAddress(sketch.address ?? '10.0.0.11');
  const prefix = sketch.source ? parsePrefix(sketch.source) : null;
  const encapsulation: EncapsulationConfig = {
    kind: sketch.kind ?? 'ipip',
    source4: prefix?.family === 4 ? prefix : null,
    source6: prefix?.family === 6 ? prefix : null,
    gue: { port: sketch.port ?? 6080, variant: sketch.variant ?? 1, checksum: sketch.checksum ?? 'zero' },
  };
  const nextHop = makeNextHop(address.text, {
    smac: parseMac(SMAC),
    dmac: parseMac(DMAC),
    mtu: sketch.mtu ?? 1500,
    gateway: sketch.gateway ?? null,
  });
  const katran = sketch.katran ?? false;
  const words = new Int32Array((number + 1) * BackendField.STRIDE);
  writeBackendRecord(words, number, {
    flags: BackendFlag.valid | BackendFlag.active,
    incarnation: 1,
    service: 0,
    port: 0,
    address,
    encapsulation,
    katran,
    source: outerSource(encapsulation, katran, address, nextHop),
    nextHop,
  });
  return words;
}

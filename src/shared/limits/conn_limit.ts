/**
 * connlimit: how many connections an address or prefix has open at a time. Semantics of xt_connlimit and nf_conncount (Linux 6.18):
 *
 * - a connection counts from its first packet that got through, of any protocol, until it is closed (TCP: TIME_WAIT and CLOSE no longer
 *   count) or its tracker forgets it;
 * - the packet that opens a connection counts that connection; the packets that follow see the number as it is;
 * - what was dropped before the connection came to be never counts.
 */
import { SluiceError } from '../../errors.js';
import { allocateTable, MAX_TABLE_ENTRIES, TableEntry } from './key_table.js';

export interface ConnLimitSpec {
  /** Connections, 0 to 2^31 - 1. */
  limit: number;
  /** The rule matches while there are up to `limit`, or when there are more. */
  direction: 'upto' | 'above';
  /** Whose connections. Default: the source's. */
  side?: 'source' | 'destination';
  /** Prefix lengths that addresses are cut to. Default: whole addresses. */
  mask4?: number;
  mask6?: number;
  /** Most prefixes with open connections. Default 65536. The kernel has no such bound but memory, and drops when that is out. */
  max?: number;
}

export interface ConnLimitShared {
  limit: number;
  side: 'source' | 'destination';
  mask4: number;
  mask6: number;
  table: SharedArrayBuffer;
}

/** Makes the table for that many workers. Throws SluiceError when the spec cannot be met. */
export function allocateConnLimit(spec: ConnLimitSpec, workers: number): ConnLimitShared {
  const { limit, mask4 = 32, mask6 = 128, max = 65536 } = spec;
  if (!Number.isInteger(limit) || limit < 0 || limit > 0x7fffffff)
    throw refuse(`a limit of ${limit}`, '0 to 2147483647');
  if (!Number.isInteger(mask4) || mask4 < 0 || mask4 > 32) throw refuse(`an IPv4 prefix of ${mask4} bits`, '0 to 32');
  if (!Number.isInteger(mask6) || mask6 < 0 || mask6 > 128) throw refuse(`an IPv6 prefix of ${mask6} bits`, '0 to 128');
  if (!Number.isInteger(max) || max < 1 || max > MAX_TABLE_ENTRIES) {
    throw refuse(`a table of ${max} prefixes`, `1 to ${MAX_TABLE_ENTRIES}`);
  }
  // Every worker counts in a word of its own, so that what a lost worker counted can be taken back.
  const stride = Math.ceil((TableEntry.payload + workers) / 8) * 8;
  return { limit, side: spec.side ?? 'source', mask4, mask6, table: allocateTable(max, Math.max(stride, 16)) };
}

function refuse(what: string, range: string): SluiceError {
  return new SluiceError('SLUICE_CONFIG', `connlimit cannot have ${what}`, `Allowed: ${range}.`);
}

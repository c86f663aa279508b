/**
 * Server ids: what a packet may carry to say which backend it is for, and the table from ids to backends.
 *
 * Two kinds, which never meet in a look-up:
 * - *numbers*, unsigned 32 bit, not 0: Katran's connection ids (versions 1-3), stable UDP and the TCP option. Id length 0, the number in word 0.
 * - *byte strings* of 1-15 bytes: QUIC-LB. Left-aligned in four big-endian words, zero behind the last byte.
 *
 * The table is an Int32Array over a SharedArrayBuffer: control builds it, workers look up. Open addressing, at most half full,
 * 32 bytes a slot: header [mask, longest probe, entries, 0], then slots [w0, w1, w2, w3, id length, position, 0, 0],
 * position -1 where empty. What is in it comes from the config alone, and no look-up probes further than the longest entry lies.
 */
import { SluiceError } from '../errors.js';

/** Longest server id in bytes: QUIC-LB leaves 19 bytes, at least 4 of them for the nonce. */
export const MAX_SERVER_ID_BYTES = 15;

export interface ServerId {
  /** 0 for a number, else bytes. */
  readonly length: number;
  /** int32. */
  readonly words: readonly [number, number, number, number];
}

export interface ServerIdEntry {
  readonly id: ServerId;
  /** What the look-up returns, 0 or more: the backend's position in its service's list. */
  readonly position: number;
  /** Who has the id, for the message about duplicates. */
  readonly owner: string;
}

/** No backend has the id. */
export const NO_SERVER = -1;

const enum Slot {
  HEADER = 4,
  SHIFT = 3,
  w0 = 0,
  w1 = 1,
  w2 = 2,
  w3 = 3,
  idLength = 4,
  position = 5,
}

const MASK = 0;
const LONGEST = 1;
const COUNT = 2;

/**
 * Reads an id as configs spell it: a number 1-4294967295, or "hex:" with 1-15 bytes. Throws SluiceError (SLUICE_FORMAT) for all else.
 */
export function parseServerId(value: number | string): ServerId {
  if (typeof value === 'number') {
    if (Number.isInteger(value) && value > 0 && value <= 0xffffffff) return { length: 0, words: [value | 0, 0, 0, 0] };
    throw new SluiceError(
      'SLUICE_FORMAT',
      `${value} is not a server id: a number must be from 1 to 4294967295`,
      'Ids that are byte strings (QUIC-LB) are written "hex:0a0b0c0d".',
    );
  }
  const match = /^hex:((?:[0-9a-f]{2})+)$/i.exec(value.slice(0, 64));
  if (!match || match[1].length > 2 * MAX_SERVER_ID_BYTES) {
    throw new SluiceError(
      'SLUICE_FORMAT',
      `${JSON.stringify(value.slice(0, 64))} is not a server id`,
      `Write "hex:" and 1 to ${MAX_SERVER_ID_BYTES} bytes of two hex digits each, or a number.`,
    );
  }
  return serverIdOfBytes(Buffer.from(match[1], 'hex'));
}

/** A byte string as an id. Throws RangeError unless it has 1-15 bytes. */
export function serverIdOfBytes(bytes: Uint8Array): ServerId {
  if (bytes.length < 1 || bytes.length > MAX_SERVER_ID_BYTES) throw new RangeError('a server id has 1 to 15 bytes');
  const view = new DataView(new ArrayBuffer(16));
  bytes.forEach((byte, i) => view.setUint8(i, byte));
  return { length: bytes.length, words: [view.getInt32(0), view.getInt32(4), view.getInt32(8), view.getInt32(12)] };
}

/** The opposite of `parseServerId`: "1025", "hex:0a0b0c0d". */
export function formatServerId(id: ServerId): string {
  if (id.length === 0) return String(id.words[0] >>> 0);
  const digits = id.words.map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
  return `hex:${digits.slice(0, 2 * id.length)}`;
}

/**
 * Table of the entries. Throws SluiceError (SLUICE_CONFIG) when two owners have the same id, naming both; an owner may repeat its own.
 */
export function buildServerIds(entries: readonly ServerIdEntry[]): Int32Array {
  let slots = 4;
  while (slots < 2 * entries.length) slots <<= 1;
  const words = new Int32Array(new SharedArrayBuffer((Slot.HEADER + (slots << Slot.SHIFT)) * 4));
  words[MASK] = slots - 1;
  for (let slot = 0; slot < slots; slot++) words[Slot.HEADER + (slot << Slot.SHIFT) + Slot.position] = NO_SERVER;
  const owners = new Array<string | undefined>(slots);
  for (const entry of entries) insert(words, owners, entry);
  return words;
}

function insert(words: Int32Array, owners: (string | undefined)[], { id, position, owner }: ServerIdEntry): void {
  if (!(Number.isInteger(position) && position >= 0)) throw new RangeError(`position ${position} of server id`);
  const [w0, w1, w2, w3] = id.words;
  const mask = words[MASK];
  let slot = idHash(id.length, w0, w1, w2, w3) & mask;
  for (let probe = 1; ; probe++) {
    const at = Slot.HEADER + (slot << Slot.SHIFT);
    if (words[at + Slot.position] === NO_SERVER) {
      words.set([w0, w1, w2, w3, id.length, position], at);
      owners[slot] = owner;
      words[LONGEST] = Math.max(words[LONGEST], probe);
      words[COUNT]++;
      return;
    }
    if (sameId(words, at, id.length, w0, w1, w2, w3)) {
      if (words[at + Slot.position] === position) return;
      throw new SluiceError(
        'SLUICE_CONFIG',
        `server id ${formatServerId(id)} belongs to both ${owners[slot]} and ${owner}`,
        'Give every backend of a service ids of its own.',
      );
    }
    slot = (slot + 1) & mask;
  }
}

/** Position of the backend that has the id, or NO_SERVER. Hot: int32 arithmetic only, nothing allocated. */
export function findServerId(
  words: Int32Array,
  idLength: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): number {
  const mask = words[MASK] | 0;
  let slot = idHash(idLength, w0, w1, w2, w3) & mask;
  for (let left = words[LONGEST] | 0; left > 0; left--) {
    const at = (Slot.HEADER + (slot << Slot.SHIFT)) | 0;
    const position = words[at + Slot.position] | 0;
    if (position === NO_SERVER || sameId(words, at, idLength, w0, w1, w2, w3)) return position;
    slot = (slot + 1) & mask;
  }
  return NO_SERVER;
}

function sameId(
  words: Int32Array,
  at: number,
  idLength: number,
  w0: number,
  w1: number,
  w2: number,
  w3: number,
): boolean {
  return (
    words[at + Slot.w0] === w0 &&
    words[at + Slot.idLength] === idLength &&
    words[at + Slot.w1] === w1 &&
    words[at + Slot.w2] === w2 &&
    words[at + Slot.w3] === w3
  );
}

function idHash(idLength: number, w0: number, w1: number, w2: number, w3: number): number {
  let hash = Math.imul((w0 + Math.imul(idLength, 0x9e3779b1)) ^ (w0 >>> 15), 0x85ebca6b);
  hash = Math.imul((hash ^ (hash >>> 13)) + w1, 0xc2b2ae35);
  hash = Math.imul((hash ^ (hash >>> 14)) + w2, 0x27d4eb2f);
  hash = Math.imul((hash ^ (hash >>> 15)) + w3, 0x2c1b3c6d);
  return hash ^ (hash >>> 16);
}

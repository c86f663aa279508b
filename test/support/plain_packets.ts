/** Plain packets as the first loops of the short way leave them to those of the filters. */
import { FlowHash } from '../../src/dataplane/balance/hash.js';
import { Heading } from '../../src/dataplane/plain_heading.js';
import { PlainHeaders } from '../../src/dataplane/plain_headers.js';
import { random } from './packets.js';

export const SEED = Number(process.env.SEED ?? 20261122);
/** Most packets of a burst. */
export const SLOTS = 256;
export const BURSTS = [1, 63, 64, SLOTS];
/** Bytes of a packet's place in memory. */
export const PLACE = 128;
/** A home that no loop may take for another's. */
export const HOME = 48;

/** A number from 0 that is less than this one. */
export type Below = (most: number) => number;

export function chooser(seed: number): Below {
  const next = random(seed);
  return (most) => Math.floor(next() * most);
}

export const pick = <T>(below: Below, of: readonly T[]): T => of[below(of.length)];

export interface Five {
  family: 4 | 6;
  protocol: number;
  src: number[];
  dst: number[];
  sport: number;
  dport: number;
}

const HASH = new FlowHash([1, 2, 3, 4]);

/** Headers as the first loops leave them, with memory for those who read the packet itself. */
export function emptyHeaders() {
  const view = new DataView(new ArrayBuffer(SLOTS * PLACE));
  return { view, headers: new PlainHeaders(view, HASH, 0xffff, HASH, SLOTS) };
}

/** Writes a packet to position `i`. `home`: negative for one that is not plain. */
export function put({ view, headers }: ReturnType<typeof emptyHeaders>, i: number, five: Five, home = HOME): void {
  const { family, protocol, src, dst, sport, dport } = five;
  const start = i * PLACE;
  headers.start[i] = start;
  headers.home[i] = home;
  const word = (protocol << Heading.PROTOCOL_SHIFT) | (0xa5 << Heading.TOS_SHIFT) | (40 + i);
  headers.heading[i] = family === 6 ? word | Heading.ipv6 : word;
  [headers.src0[i], headers.src1[i], headers.src2[i], headers.src3[i]] = src;
  [headers.dst0[i], headers.dst1[i], headers.dst2[i], headers.dst3[i]] = dst;
  headers.ports[i] = (sport << 16) | dport;
  view.setUint8(start + 20, protocol);
  for (let w = 0; w < 4; w++) {
    view.setInt32(start + 22 + 4 * w, src[w]);
    view.setInt32(start + 38 + 4 * w, dst[w]);
  }
  view.setInt32(start + 54, (sport << 16) | dport);
}

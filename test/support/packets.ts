import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';

export const CHUNK = 2048;
export const HEADROOM = 256;

/** A frame in the middle of three chunks, the others filled with 0xee so that stray reads and writes show. */
export function place(frame: Uint8Array, headroom = HEADROOM): Packet {
  const memory = new Uint8Array(3 * CHUNK).fill(0xee);
  memory.set(frame, CHUNK + headroom);
  const packet = new Packet(new DataView(memory.buffer), CHUNK);
  packet.place(CHUNK + headroom, frame.length);
  return packet;
}

/** The same, parsed. */
export function parsed(frame: Uint8Array, headroom = HEADROOM): Packet {
  const packet = place(frame, headroom);
  parse(packet);
  return packet;
}

/** The packet's bytes as they are now, copied. */
export function bytesOf(packet: Packet): Uint8Array {
  return new Uint8Array(packet.view.buffer.slice(packet.data, packet.dataEnd));
}

/** Small seeded generator (mulberry32), so that a failing run can be repeated: print the seed. */
export function random(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

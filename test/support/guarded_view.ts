import { Packet } from '../../src/dataplane/packet/packet.js';
import { parse } from '../../src/dataplane/packet/parse.js';
import { CHUNK, HEADROOM } from './packets.js';

/**
 * A DataView that throws on every read outside a window, which by default is all of it. For tests that a reader stays in its packet: what
 * lies behind is poison, and reading it is a failure even when the value is thrown away.
 */
export class GuardedView extends DataView<ArrayBuffer> {
  private first = 0;
  private end = Infinity;

  guard(first: number, end: number): this {
    this.first = first;
    this.end = end;
    return this;
  }

  private check(at: number, bytes: number): void {
    if (at < this.first || at + bytes > this.end) {
      throw new Error(`read of ${bytes} bytes at ${at}, outside ${this.first}-${this.end}`);
    }
  }

  override getUint8(at: number): number {
    this.check(at, 1);
    return super.getUint8(at);
  }

  override getUint16(at: number, littleEndian?: boolean): number {
    this.check(at, 2);
    return super.getUint16(at, littleEndian);
  }

  override getInt32(at: number, littleEndian?: boolean): number {
    this.check(at, 4);
    return super.getInt32(at, littleEndian);
  }

  override getUint32(at: number, littleEndian?: boolean): number {
    this.check(at, 4);
    return super.getUint32(at, littleEndian);
  }
}

/** Bytes alone in memory at offset `at`, poison around, and reads allowed inside only. */
export function guardedBytes(bytes: Uint8Array, at = 64): GuardedView {
  const memory = new Uint8Array(at + bytes.length + 64).fill(0xee);
  memory.set(bytes, at);
  return new GuardedView(memory.buffer).guard(at, at + bytes.length);
}

/** A parsed packet whose memory can be read from its first to its last byte only. */
export function guardedPacket(frame: Uint8Array): Packet {
  const memory = new Uint8Array(3 * CHUNK).fill(0xee);
  memory.set(frame, CHUNK + HEADROOM);
  const view = new GuardedView(memory.buffer);
  const packet = new Packet(view, CHUNK);
  packet.place(CHUNK + HEADROOM, frame.length);
  parse(packet);
  view.guard(packet.data, packet.dataEnd);
  return packet;
}

import { Block, BYTE_ORDER_MAGIC } from './format.js';

/** Longest block that is taken for one, bytes. */
const BLOCK_MOST = 1 << 20;

/**
 * Cuts a stream of little-endian pcapng of one section into pieces that are files of their own: the section header and the interfaces stand in front
 * of each. So what reads files reads streams, a piece at a time.
 */
export class BlockStream {
  private head: Uint8Array = new Uint8Array(0);
  private rest: Uint8Array = new Uint8Array(0);

  /** Takes what has come. The whole blocks in it as a file; null when there are none but headers. Throws Error for what is no such stream. */
  push(chunk: Uint8Array): Uint8Array | null {
    const bytes = this.rest.length === 0 ? chunk : join(this.rest, chunk);
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    let at = 0;
    let headEnd = 0;
    while (bytes.length - at >= 12) {
      const type = view.getUint32(at, true);
      if (type === Block.sectionHeader && view.getUint32(at + 8, true) !== BYTE_ORDER_MAGIC) {
        throw new Error('the capture is not little-endian pcapng');
      }
      const length = view.getUint32(at + 4, true);
      if (length < 12 || length % 4 !== 0 || length > BLOCK_MOST) throw new Error(`a block of ${length} bytes`);
      if (bytes.length - at < length) break;
      const isHead = type === Block.sectionHeader || type === Block.interfaceDescription;
      if (isHead && at === headEnd) headEnd += length;
      at += length;
    }
    if (headEnd > 0) this.head = join(this.head, bytes.subarray(0, headEnd));
    const blocks = bytes.subarray(headEnd, at);
    this.rest = bytes.slice(at);
    return blocks.length === 0 ? null : join(this.head, blocks);
  }
}

function join(one: Uint8Array, two: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(one.length + two.length);
  bytes.set(one);
  bytes.set(two, one.length);
  return bytes;
}

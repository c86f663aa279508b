/** Options of pcapng blocks as bytes: little-endian, each padded to four bytes, the end marker behind the last. */
import { Option, padded, VERDICT_XDP } from './format.js';

const MAX_OPTION_BYTES = 0xffff;
const encoder = new TextEncoder();

/** What a packet block may say beside the packet: draft-ietf-opsawg-pcapng, section 4.3.1. */
export interface PacketMetadata {
  comment?: string;
  direction?: 'in' | 'out';
  /** The same for the frames of one packet, where it was captured more than once. 0 to 2^64 - 1. */
  packetId?: bigint;
  /** Queue of the interface. */
  queue?: number;
  /** enum xdp_action (include/uapi/linux/bpf.h). */
  verdict?: number;
}

/** Counters of an interface: section 4.6. Times are ns since the epoch. */
export interface InterfaceStatistics {
  /** What `addInterface` returned; from a reader: position in `Capture.interfaces`. */
  interfaceId: number;
  startNs: bigint;
  endNs: bigint;
  /** Packets that came in while the capture ran: isb_ifrecv. */
  received: number;
  /** Frames that met its conditions: isb_filteraccept. */
  accepted: number;
  /** Of these, those that were lost: isb_osdrop. */
  lost: number;
  /** Of these, those that were handed on: isb_usrdeliv. */
  delivered: number;
}

type OptionBytes = readonly [code: Option, value: Uint8Array];

/** The options of a packet block; no byte at all when there is none. */
export function packetOptions({ comment, direction, packetId, queue, verdict }: PacketMetadata): Uint8Array {
  const options: OptionBytes[] = [];
  if (comment !== undefined) options.push([Option.comment, encodeText(comment)]);
  if (direction !== undefined) options.push([Option.epbFlags, uint32(direction === 'in' ? 1 : 2)]);
  if (packetId !== undefined) options.push([Option.epbPacketId, uint64(packetId)]);
  if (queue !== undefined) options.push([Option.epbQueue, uint32(queue)]);
  if (verdict !== undefined) options.push([Option.epbVerdict, Uint8Array.of(VERDICT_XDP, ...uint64(BigInt(verdict)))]);
  return encodeOptions(options);
}

export function statisticsOptions(statistics: InterfaceStatistics): Uint8Array {
  return encodeOptions([
    [Option.isbStartTime, timestamp(statistics.startNs)],
    [Option.isbEndTime, timestamp(statistics.endNs)],
    [Option.isbIfRecv, uint64(BigInt(statistics.received))],
    [Option.isbFilterAccept, uint64(BigInt(statistics.accepted))],
    [Option.isbOsDrop, uint64(BigInt(statistics.lost))],
    [Option.isbUsrDeliv, uint64(BigInt(statistics.delivered))],
  ]);
}

/** UTF-8 of an option's text, cut at a character's end to what the option's 16-bit length can say. */
export function encodeText(text: string): Uint8Array {
  const bytes = encoder.encode(text);
  if (bytes.length <= MAX_OPTION_BYTES) return bytes;
  let end = MAX_OPTION_BYTES;
  while ((bytes[end]! & 0xc0) === 0x80) end--;
  return bytes.subarray(0, end);
}

/** The options in order, and the end marker; no byte at all when there is none. */
export function encodeOptions(options: readonly OptionBytes[]): Uint8Array {
  if (options.length === 0) return new Uint8Array(0);
  const bytes = new Uint8Array(options.reduce((sum, [, value]) => sum + 4 + padded(value.length), 4));
  const view = new DataView(bytes.buffer);
  let at = 0;
  for (const [code, value] of options) {
    view.setUint16(at, code, true);
    view.setUint16(at + 2, value.length, true);
    bytes.set(value, at + 4);
    at += 4 + padded(value.length);
  }
  return bytes;
}

function uint32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function uint64(value: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, value, true);
  return bytes;
}

/** Two words, the upper one first, as packet blocks have it. */
function timestamp(ns: bigint): Uint8Array {
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, Number(ns >> 32n), true);
  view.setUint32(4, Number(ns & 0xffff_ffffn), true);
  return bytes;
}

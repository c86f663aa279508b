import { IpProtocol } from './wire.js';

/**
 * One packet of the burst in hand: where its bytes are, and what `parse()` found in them.
 *
 * A worker has one Packet object for each slot of its burst, made once and filled again and again. It is valid until the
 * next `exchange()`; keep nothing of it. All numbers are int32. `data` and the other positions are byte offsets
 * in `view`, which spans the whole packet memory: read with `packet.view.getUint8(packet.data + 12)`.
 *
 *   dataHardStart ≤ dataMeta ≤ data < dataEnd ≤ dataHardEnd        (one chunk)
 */
export class Packet {
  /** The same memory as `view`, as words and half words of this machine. */
  readonly words: Int32Array;
  readonly halves: Int16Array;

  // In the order in which they lie in memory: what every IPv4 packet needs is in three cache lines, with the constructor's parameters in front.
  // Where it is
  data = 0;
  dataEnd = 0;
  /** Bytes of metadata in front of `data`. */
  metaLength = 0;

  // What parse() found
  /** EtherType behind any VLAN tags. */
  etherType = 0;
  /** Number of VLAN tags, 0-2. */
  vlanTags = 0;
  /** 4, 6, or 0 when it is not IP. */
  family = 0;
  /** Offset of the IP header; of the layer-3 payload when it is not IP. */
  l3 = 0;
  /** Bytes from the IP header to the end of the IP packet, as the header says; never more than the frame has. */
  l3Length = 0;
  /** Offset of the transport header, 0 when there is none: not IP, or a later fragment. */
  l4 = 0;
  /** IP protocol of the transport header, behind any IPv6 extension headers. */
  protocol = 0;
  /** Addresses in network byte order: IPv4 in word 0, words 1-3 (below) zero. */
  src0 = 0;
  dst0 = 0;
  /** Source port << 16 | destination port, as on the wire; 0 where there are none. */
  ports = 0;
  /** PacketFlag bits. */
  flags = 0;
  /** DropReason of the parser, 0 when well-formed. */
  malformed = 0;

  // What the data path notes, not parse()
  /** Keyed hash of the flow's five-tuple. */
  flowHash = 0;
  /** Where the flow table has the flow, −1: nowhere. */
  flow = -1;
  /** Where the flow is new: backend that the tables choose for it, or a Chosen; and its service. See balance/ahead.ts. */
  chosen = -1;
  service = -1;
  /** DecisionWord.rules, where the kernel has decided something: rules that this packet got past. */
  decided = 0;
  /** For Verdict.Redirect: number of the port to leave by. */
  target = 0;

  // The rest of IPv6 addresses
  src1 = 0;
  src2 = 0;
  src3 = 0;
  dst1 = 0;
  dst2 = 0;
  dst3 = 0;

  // What does not change from packet to packet
  /** Interface and queue that it came in on. */
  ifindex = 0;
  queue = 0;
  /** Number of the port it came in on. */
  port = 0;
  /** Which of its port's packet objects it is. */
  position = 0;

  /** `view`: all packet memory. Network byte order: DataView's default. */
  constructor(
    readonly view: DataView,
    readonly chunkSize: number,
  ) {
    this.words = new Int32Array(view.buffer, 0, view.buffer.byteLength >> 2);
    this.halves = new Int16Array(view.buffer, 0, view.buffer.byteLength >> 1);
  }

  /** Points it at a packet, before parse(). */
  place(offset: number, length: number): void {
    this.data = offset;
    this.dataEnd = (offset + length) | 0;
    this.metaLength = 0;
  }

  /** First byte of the packet's chunk. */
  get dataHardStart(): number {
    return this.data & -this.chunkSize;
  }

  /** Behind the last byte of the packet's chunk. */
  get dataHardEnd(): number {
    return (this.data & -this.chunkSize) + this.chunkSize;
  }

  /** Start of the metadata area, which ends where the packet starts. */
  get dataMeta(): number {
    return this.data - this.metaLength;
  }

  /** Bytes of the frame. */
  get length(): number {
    return this.dataEnd - this.data;
  }

  get sourcePort(): number {
    return this.ports >>> 16;
  }

  get destinationPort(): number {
    return this.ports & 0xffff;
  }

  /** TCP flags byte (FIN 1, SYN 2, RST 4, PSH 8, ACK 16, URG 32, ECE 64, CWR 128); 0 for other protocols and later fragments. */
  get tcpFlags(): number {
    return this.protocol === IpProtocol.tcp && this.l4 !== 0 ? this.view.getUint8(this.l4 + 13) : 0;
  }

  /** TOS (IPv4) or traffic class (IPv6); 0 when it is not IP. */
  get tos(): number {
    if (this.family === 4) return this.view.getUint8(this.l3 + 1);
    return this.family === 6 ? (this.view.getUint16(this.l3) >>> 4) & 0xff : 0;
  }

  /** TTL (IPv4) or hop limit (IPv6); 0 when it is not IP. */
  get ttl(): number {
    if (this.family === 4) return this.view.getUint8(this.l3 + 8);
    return this.family === 6 ? this.view.getUint8(this.l3 + 7) : 0;
  }

  get isFragment(): boolean {
    return (this.flags & PacketFlag.fragment) !== 0;
  }

  /**
   * Moves the packet's start by `delta` bytes, negative to make room in front (bpf_xdp_adjust_head). The bytes that come in are
   * whatever was there. Drops metadata. False, and nothing changed, when it would leave the chunk or cut below 14 bytes.
   */
  adjustHead(delta: number): boolean {
    const data = (this.data + delta) | 0;
    if (data < this.dataHardStart || data + 14 > this.dataEnd) return false;
    this.data = data;
    this.metaLength = 0;
    return true;
  }

  /**
   * Moves the packet's end by `delta` bytes, negative to cut (bpf_xdp_adjust_tail). Bytes that come in are zero: the chunk may hold
   * those of an earlier packet. False when it would leave the chunk or cut below 14 bytes.
   */
  adjustTail(delta: number): boolean {
    const end = (this.dataEnd + delta) | 0;
    if (end > this.dataHardEnd || end < this.data + 14) return false;
    for (let at = this.dataEnd; at < end; at++) this.view.setUint8(at, 0);
    this.dataEnd = end;
    return true;
  }

  /** Moves the start of the metadata area in front of the packet (bpf_xdp_adjust_meta). False when it would leave dataHardStart..data. */
  adjustMeta(delta: number): boolean {
    const meta = (this.dataMeta + delta) | 0;
    if (meta < this.dataHardStart || meta > this.data) return false;
    this.metaLength = this.data - meta;
    return true;
  }
}

export const enum PacketFlag {
  /** Part of a fragmented datagram: more fragments follow, or the offset is not zero. An IPv6 atomic fragment is none. */
  fragment = 1,
  /** A fragment that does not start the datagram: it has no transport header. */
  laterFragment = 2,
  /** IPv4 options, or IPv6 extension headers other than a fragment header. */
  options = 4,
  dontFragment = 8,
  /** `ports` holds ports (TCP, UDP, UDP-Lite, SCTP, DCCP with a whole header). */
  hasPorts = 16,
}

import type { FlowHash } from './balance/hash.js';
import { FlowField } from './balance/flow_entry.js';
import { IpProtocol } from './packet/wire.js';
import type { Burst } from './port.js';

/** First 24 bits behind the addresses of an untagged frame with IPv4 without options, and first 20 with IPv6. */
const IPV4_PLAIN = 0x080045;
const IPV6_PLAIN = 0x86dd6;

/** TCP flags of a packet in the middle of a connection: ACK, perhaps PSH, ECE, CWR; nothing else. */
const MIDDLE_MASK = 0x37;
const MIDDLE_FLAGS = 0x10;
const SYN = 0x02;

/** Marks of homes of SYNs in the burst in hand; a power of two. Two homes with one mark cost a packet the short way, no more. */
const SYN_MARKS = 256;

/** What `PlainHeaders` notes of a packet: protocol << 24 | TOS << 16 | total length; with this bit it is IPv6. */
export const enum Heading {
  ipv6 = 0x80000000 | 0,
  PROTOCOL_SHIFT = 24,
  PROTOCOL_MASK = 0x7f,
  TOS_SHIFT = 16,
}

/**
 * First loop of the short way: which packets of a burst are plain, and where would their flows be? Plain is: untagged IPv4
 * without options or IPv6 without extension headers, no fragment, TCP in mid-connection or UDP, nothing in it that any check could
 * object to.
 */
export class PlainHeaders {
  /** By position in the burst: word index of the flow's home slot, −1: not plain. */
  readonly home: Int32Array;
  /** By position in the burst; see Heading. */
  readonly heading: Int32Array;
  /** By position in the burst: hash of the five-tuple that picks ring slots and GUE ports, when `wantsRingHash`. */
  readonly ringHashes: Int32Array;
  wantsRingHash = false;
  /** By home: number of the burst that last had a SYN there. */
  private readonly synMarks = new Int32Array(SYN_MARKS);
  private burst = 0;

  constructor(
    private readonly view: DataView,
    private readonly hash: FlowHash,
    /** Words of the flow table − 1. */
    private readonly mask: number,
    private ringHash: FlowHash,
    slots: number,
  ) {
    this.ringHashes = new Int32Array(slots);
    this.home = new Int32Array(slots);
    this.heading = new Int32Array(slots);
  }

  /** `wanted`: whether anything in the tables is by the ring's hash. */
  adopt(ringHash: FlowHash, wanted: boolean): void {
    this.ringHash = ringHash;
    this.wantsRingHash = wanted;
  }

  /**
   * A SYN takes the steps, and may give its flow another backend; so what comes behind it in its flow takes them too. No other
   * packet changes what a later one of its burst finds.
   */
  locate({ offset, length }: Burst, count: number): void {
    this.burst = (this.burst + 1) | 0;
    const view = this.view;
    const home = this.home;
    const heading = this.heading;
    const hash = this.hash;
    const mask = this.mask;
    const ringHash = this.ringHash;
    const ringHashes = this.ringHashes;
    const wantsRingHash = this.wantsRingHash;
    for (let i = 0; i < count; i++) {
      const data = offset[i];
      const available = (length[i] - 14) | 0;
      home[i] = -1;
      if (available < 28) continue;
      const typeAndTos = view.getInt32(data + 12);
      if (typeAndTos >>> 8 !== IPV4_PLAIN) {
        if (typeAndTos >>> 12 === IPV6_PLAIN) this.locate6(i, data, available);
        continue;
      }
      const lengthAndId = view.getInt32(data + 16);
      const fragmentAndProtocol = view.getInt32(data + 20);
      const checksum = view.getUint16(data + 24);
      const src = view.getInt32(data + 26);
      const dst = view.getInt32(data + 30);
      const ports = view.getInt32(data + 34);
      const totalLength = lengthAndId >>> 16;
      const protocol = fragmentAndProtocol & 0xff;
      if ((fragmentAndProtocol & 0x3fff0000) !== 0 || totalLength > available) continue;
      if (protocol === IpProtocol.udp) {
        const udpLength = view.getUint16(data + 38);
        if (totalLength < 28 || udpLength < 8 || udpLength > ((totalLength - 20) | 0)) continue;
      } else if (protocol === IpProtocol.tcp) {
        if (totalLength < 40) continue;
        const offsetAndFlags = view.getUint16(data + 46);
        const headerBytes = (offsetAndFlags >>> 10) & 0x3c;
        if (headerBytes < 20 || headerBytes > ((totalLength - 20) | 0)) continue;
        if ((offsetAndFlags & MIDDLE_MASK) !== MIDDLE_FLAGS) {
          if ((offsetAndFlags & SYN) !== 0) this.noteSyn(hash.ipv4(src, dst, ports, protocol));
          continue;
        }
      } else {
        continue;
      }
      let sum = ((typeAndTos & 0xffff) + totalLength + (lengthAndId & 0xffff) + checksum) | 0;
      sum = (sum + (fragmentAndProtocol >>> 16) + (fragmentAndProtocol & 0xffff)) | 0;
      sum = (sum + (src >>> 16) + (src & 0xffff) + (dst >>> 16) + (dst & 0xffff)) | 0;
      sum = ((sum & 0xffff) + (sum >>> 16)) | 0;
      const first = src >>> 24;
      if (
        (((sum & 0xffff) + (sum >>> 16)) | 0) !== 0xffff ||
        first === 0 ||
        first === 127 ||
        first >= 224 ||
        src === dst ||
        (ports & 0xffff) === 0 ||
        ports >>> 16 === 0
      ) {
        continue;
      }
      heading[i] = (protocol << Heading.PROTOCOL_SHIFT) | ((typeAndTos & 0xff) << Heading.TOS_SHIFT) | totalLength;
      if (wantsRingHash) ringHashes[i] = ringHash.ipv4(src, dst, ports, protocol);
      const flowHash = hash.ipv4(src, dst, ports, protocol);
      if (!this.isBehindSyn(flowHash)) home[i] = (flowHash << FlowField.STRIDE_SHIFT) & mask;
    }
  }

  private locate6(i: number, data: number, available: number): void {
    // 40 and a UDP header.
    if (available < 48) return;
    const view = this.view;
    const first = view.getInt32(data + 14);
    const second = view.getInt32(data + 18);
    const payload = second >>> 16;
    const protocol = (second >>> 8) & 0xff;
    const totalLength = (payload + 40) | 0;
    if (totalLength > available) return;
    if (protocol === IpProtocol.udp) {
      const udpLength = view.getUint16(data + 58);
      if (payload < 8 || udpLength < 8 || udpLength > payload) return;
    } else if (protocol === IpProtocol.tcp) {
      if (payload < 20) return;
      const offsetAndFlags = view.getUint16(data + 66);
      const headerBytes = (offsetAndFlags >>> 10) & 0x3c;
      if (headerBytes < 20 || headerBytes > payload) return;
      if ((offsetAndFlags & MIDDLE_MASK) !== MIDDLE_FLAGS) {
        if ((offsetAndFlags & SYN) !== 0) this.noteSyn(this.hash6(data, protocol));
        return;
      }
    } else {
      return;
    }
    const src0 = view.getInt32(data + 22);
    const src1 = view.getInt32(data + 26);
    const src2 = view.getInt32(data + 30);
    const src3 = view.getInt32(data + 34);
    const dst0 = view.getInt32(data + 38);
    const dst1 = view.getInt32(data + 42);
    const dst2 = view.getInt32(data + 46);
    const dst3 = view.getInt32(data + 50);
    const ports = view.getInt32(data + 54);
    if (
      src0 >>> 24 === 0xff ||
      ((src0 | src1 | src2) === 0 && src3 >>> 1 === 0) ||
      ((src0 ^ dst0) | (src1 ^ dst1) | (src2 ^ dst2) | (src3 ^ dst3)) === 0 ||
      (ports & 0xffff) === 0 ||
      ports >>> 16 === 0
    ) {
      return;
    }
    const tos = (first >>> 20) & 0xff;
    this.heading[i] = Heading.ipv6 | (protocol << Heading.PROTOCOL_SHIFT) | (tos << Heading.TOS_SHIFT) | totalLength;
    if (this.wantsRingHash) {
      this.ringHashes[i] = this.ringHash.ipv6(src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, protocol);
    }
    const flowHash = this.hash.ipv6(src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, protocol);
    if (!this.isBehindSyn(flowHash)) this.home[i] = (flowHash << FlowField.STRIDE_SHIFT) & this.mask;
  }

  private hash6(data: number, protocol: number): number {
    const view = this.view;
    return this.hash.ipv6(
      view.getInt32(data + 22),
      view.getInt32(data + 26),
      view.getInt32(data + 30),
      view.getInt32(data + 34),
      view.getInt32(data + 38),
      view.getInt32(data + 42),
      view.getInt32(data + 46),
      view.getInt32(data + 50),
      view.getInt32(data + 54),
      protocol,
    );
  }

  private noteSyn(flowHash: number): void {
    this.synMarks[flowHash & (SYN_MARKS - 1)] = this.burst;
  }

  private isBehindSyn(flowHash: number): boolean {
    return this.synMarks[flowHash & (SYN_MARKS - 1)] === this.burst;
  }
}

import type { FlowHash } from './balance/hash.js';
import { FlowField } from './balance/flow_entry.js';
import { IpProtocol } from './packet/wire.js';
import { homeHasher4, homeHasher6, ringHasher4, ringHasher6, type HashLoop } from './plain_hashes.js';
import { Heading } from './plain_heading.js';
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

/** In `home`, while headers are looked at. */
const NOT_PLAIN = -1;
const IS_SYN = -4;

/** Goes over the first `count` packets of a burst; returns a set of Met. Without hashes for homes these are 0. */
type Locate = (burst: Burst, count: number, hashes: Hashes) => number;

/** Which hashes of the five-tuples are wanted at once; a set. */
const enum Hashes {
  none = 0,
  home = 1,
  /** Of IPv4. Two hashes of IPv6 in one loop take longer than a loop for each. */
  ring4 = 2,
}

/** What it met that needs another loop. */
const enum Met {
  ipv4 = 1,
  ipv6 = 2,
  syn = 4,
}

/**
 * First loop of the short way, and what goes with it: which packets of a burst are plain, and where would their flows be? Plain is: untagged IPv4
 * without options or IPv6 without extension headers, on a word boundary, no fragment, TCP in mid-connection or UDP, nothing in it that any
 * check could object to.
 *
 * The loops here and in plain_flows, plain_ring, plain_judge and plain_outer are closures, made once over arrays that stay. Of a closure that is the only one
 * of its function V8 takes what it captures for constants, so it knows where each array lies and how long it is; else it would check and read
 * that in every iteration, a loop's stack check being a call that may change anything. That ends where a loop has another within it, or
 * calls what is not inlined; so none does. (A second path in one thread works as well, and slower.)
 */
export class PlainHeaders {
  /** By position in the burst: where the packet starts, as it came. */
  readonly start: Int32Array;
  /** By position in the burst: five-tuples of what is plain, as words in network order, so that no later loop reads packets. */
  readonly src0: Int32Array;
  readonly src1: Int32Array;
  readonly src2: Int32Array;
  readonly src3: Int32Array;
  readonly dst0: Int32Array;
  readonly dst1: Int32Array;
  readonly dst2: Int32Array;
  readonly dst3: Int32Array;
  /** Source << 16 | destination. */
  readonly ports: Int32Array;
  /** By position in the burst: word index of the flow's home slot, negative: not plain. */
  readonly home: Int32Array;
  /** By position in the burst; see Heading. */
  readonly heading: Int32Array;
  /** By position in the burst: hash of the five-tuple that picks ring slots and GUE ports, when `wantsRingHash`. */
  readonly ringHashes: Int32Array;
  wantsRingHash = false;
  /** Whether the burst in hand has plain packets of either family. */
  hasIpv4 = false;
  hasIpv6 = false;
  /** One word: bytes of all packets of the burst in hand. */
  readonly bytes = new Int32Array(1);
  private hasSyn = false;
  /** By home: number of the burst that last had a SYN there. */
  private readonly synMarks = new Int32Array(SYN_MARKS);
  private burst = 0;
  private locateAll: Locate;
  private readonly hashHomes4: HashLoop;
  private readonly hashHomes6: HashLoop;
  private hashForRing4: HashLoop;
  private hashForRing6: HashLoop;

  constructor(
    private readonly view: DataView,
    private readonly hash: FlowHash,
    /** Words of the flow table − 1. */
    private readonly mask: number,
    private ringHash: FlowHash,
    slots: number,
  ) {
    this.ringHashes = new Int32Array(slots);
    this.start = new Int32Array(slots);
    this.src0 = new Int32Array(slots);
    this.src1 = new Int32Array(slots);
    this.src2 = new Int32Array(slots);
    this.src3 = new Int32Array(slots);
    this.dst0 = new Int32Array(slots);
    this.dst1 = new Int32Array(slots);
    this.dst2 = new Int32Array(slots);
    this.dst3 = new Int32Array(slots);
    this.ports = new Int32Array(slots);
    this.home = new Int32Array(slots);
    this.heading = new Int32Array(slots);
    this.locateAll = locator(view, hash, ringHash, mask, this);
    this.hashHomes4 = homeHasher4(hash, mask, this);
    this.hashHomes6 = homeHasher6(hash, mask, this);
    this.hashForRing4 = ringHasher4(ringHash, this);
    this.hashForRing6 = ringHasher6(ringHash, this);
  }

  /** `wanted`: whether anything in the tables is by the ring's hash. */
  adopt(ringHash: FlowHash, wanted: boolean): void {
    this.wantsRingHash = wanted;
    if (ringHash.equals(this.ringHash)) return;
    this.ringHash = ringHash;
    this.locateAll = locator(this.view, this.hash, ringHash, this.mask, this);
    this.hashForRing4 = ringHasher4(ringHash, this);
    this.hashForRing6 = ringHasher6(ringHash, this);
  }

  /**
   * A SYN takes the steps, and may give its flow another backend; so what comes behind it in its flow takes them too. No other
   * packet changes what a later one of its burst finds.
   */
  locate(burst: Burst, count: number): void {
    this.readAnd(burst, count, this.wantsRingHash ? Hashes.home | Hashes.ring4 : Hashes.home);
    if (this.hasSyn) this.leaveBehindSyns(count);
    if (this.wantsRingHash && this.hasIpv6) this.hashForRing6(count);
  }

  /**
   * As `locate`, in two halves: between `read` and `place`, homes of plain packets say that they are, and not where. What is dropped
   * then needs no hash.
   */
  read(burst: Burst, count: number): void {
    this.readAnd(burst, count, Hashes.none);
  }

  private readAnd(burst: Burst, count: number, hashes: Hashes): void {
    const met = this.locateAll(burst, count, hashes);
    this.hasIpv4 = (met & Met.ipv4) !== 0;
    this.hasIpv6 = (met & Met.ipv6) !== 0;
    this.hasSyn = (met & Met.syn) !== 0;
  }

  place(count: number): void {
    if (this.hasIpv4) this.hashHomes4(count);
    if (this.hasIpv6) this.hashHomes6(count);
    if (this.hasSyn) this.leaveBehindSyns(count);
    if (this.wantsRingHash) {
      if (this.hasIpv4) this.hashForRing4(count);
      if (this.hasIpv6) this.hashForRing6(count);
    }
  }

  /** Only for bursts with a SYN: marks the homes of SYNs, and takes those that come later and have such a home out. */
  private leaveBehindSyns(count: number): void {
    const { view, start, home, heading, hash, mask, synMarks } = this;
    const burst = (this.burst = (this.burst + 1) | 0);
    for (let i = 0; i < count; i++) {
      const at = home[i];
      if (at >= 0) {
        if (synMarks[(at >>> FlowField.STRIDE_SHIFT) & (SYN_MARKS - 1)] === burst) home[i] = NOT_PLAIN;
      } else if (at === IS_SYN) {
        home[i] = NOT_PLAIN;
        const flowHash = hashAt(hash, view, start[i], heading[i]);
        synMarks[flowHash & (mask >>> FlowField.STRIDE_SHIFT) & (SYN_MARKS - 1)] = burst;
      }
    }
  }
}

/**
 * One loop for both families, though it is long: packets lie 2 KiB apart, so those of a burst share two sets of the first cache, and a second loop
 * would find none of them there.
 */
function locator(view: DataView, hash: FlowHash, ringHash: FlowHash, mask: number, headers: PlainHeaders): Locate {
  const { start, home, heading, ringHashes, bytes: total } = headers;
  const { src0: srcs0, src1: srcs1, src2: srcs2, src3: srcs3 } = headers;
  const { dst0: dsts0, dst1: dsts1, dst2: dsts2, dst3: dsts3, ports: portPairs } = headers;
  return ({ offset, length }, count, hashes) => {
    const end = count | 0;
    let met = 0;
    let bytes = 0;
    for (let i = 0; i < end; i++) {
      const data = offset[i];
      const size = length[i];
      const available = (size - 14) | 0;
      bytes = (bytes + size) | 0;
      start[i] = data;
      home[i] = NOT_PLAIN;
      if (available < 28 || (data & 3) !== 0) continue;
      const typeAndTos = view.getInt32((data + 12) | 0);
      if (typeAndTos >>> 8 === IPV4_PLAIN) {
        const lengthAndId = view.getInt32((data + 16) | 0);
        const fragmentAndProtocol = view.getInt32((data + 20) | 0);
        const totalLength = lengthAndId >>> 16;
        const protocol = fragmentAndProtocol & 0xff;
        if ((fragmentAndProtocol & 0x3fff0000) !== 0 || totalLength > available) continue;
        if (protocol === IpProtocol.udp) {
          const udpLength = view.getUint16((data + 38) | 0);
          if (totalLength < 28 || udpLength < 8 || udpLength > ((totalLength - 20) | 0)) continue;
        } else if (protocol === IpProtocol.tcp) {
          if (totalLength < 40) continue;
          const offsetAndFlags = view.getUint16((data + 46) | 0);
          const headerBytes = (offsetAndFlags >>> 10) & 0x3c;
          if (headerBytes < 20 || headerBytes > ((totalLength - 20) | 0)) continue;
          if ((offsetAndFlags & MIDDLE_MASK) !== MIDDLE_FLAGS) {
            if ((offsetAndFlags & SYN) !== 0) {
              home[i] = IS_SYN;
              heading[i] = protocol << Heading.PROTOCOL_SHIFT;
              met |= Met.syn;
            }
            continue;
          }
        } else {
          continue;
        }
        const checksum = view.getUint16((data + 24) | 0);
        const src = view.getInt32((data + 26) | 0);
        const dst = view.getInt32((data + 30) | 0);
        const ports = view.getInt32((data + 34) | 0);
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
        srcs0[i] = src;
        dsts0[i] = dst;
        portPairs[i] = ports;
        heading[i] = (protocol << Heading.PROTOCOL_SHIFT) | ((typeAndTos & 0xff) << Heading.TOS_SHIFT) | totalLength;
        met |= Met.ipv4;
        home[i] = 0;
        if ((hashes & Hashes.home) !== 0) {
          home[i] = (hash.ipv4(src, dst, ports, protocol) << FlowField.STRIDE_SHIFT) & mask;
        }
        if ((hashes & Hashes.ring4) !== 0) ringHashes[i] = ringHash.ipv4(src, dst, ports, protocol);
        continue;
      }
      // 40 and a UDP header.
      if (typeAndTos >>> 12 !== IPV6_PLAIN || available < 48) continue;
      const second = view.getInt32((data + 18) | 0);
      const payload = second >>> 16;
      const protocol = (second >>> 8) & 0xff;
      const totalLength = (payload + 40) | 0;
      if (totalLength > available) continue;
      if (protocol === IpProtocol.udp) {
        const udpLength = view.getUint16((data + 58) | 0);
        if (payload < 8 || udpLength < 8 || udpLength > payload) continue;
      } else if (protocol === IpProtocol.tcp) {
        if (payload < 20) continue;
        const offsetAndFlags = view.getUint16((data + 66) | 0);
        const headerBytes = (offsetAndFlags >>> 10) & 0x3c;
        if (headerBytes < 20 || headerBytes > payload) continue;
        if ((offsetAndFlags & MIDDLE_MASK) !== MIDDLE_FLAGS) {
          if ((offsetAndFlags & SYN) !== 0) {
            home[i] = IS_SYN;
            heading[i] = Heading.ipv6 | (protocol << Heading.PROTOCOL_SHIFT);
            met |= Met.syn;
          }
          continue;
        }
      } else {
        continue;
      }
      const src0 = view.getInt32((data + 22) | 0);
      const src1 = view.getInt32((data + 26) | 0);
      const src2 = view.getInt32((data + 30) | 0);
      const src3 = view.getInt32((data + 34) | 0);
      const dst0 = view.getInt32((data + 38) | 0);
      const dst1 = view.getInt32((data + 42) | 0);
      const dst2 = view.getInt32((data + 46) | 0);
      const dst3 = view.getInt32((data + 50) | 0);
      const ports = view.getInt32((data + 54) | 0);
      if (
        src0 >>> 24 === 0xff ||
        ((src0 | src1 | src2) === 0 && src3 >>> 1 === 0) ||
        ((src0 ^ dst0) | (src1 ^ dst1) | (src2 ^ dst2) | (src3 ^ dst3)) === 0 ||
        (ports & 0xffff) === 0 ||
        ports >>> 16 === 0
      ) {
        continue;
      }
      met |= Met.ipv6;
      srcs0[i] = src0;
      srcs1[i] = src1;
      srcs2[i] = src2;
      srcs3[i] = src3;
      dsts0[i] = dst0;
      dsts1[i] = dst1;
      dsts2[i] = dst2;
      dsts3[i] = dst3;
      portPairs[i] = ports;
      // The traffic class lies across the first two bytes of the header.
      const tos = (typeAndTos >>> 4) & 0xff;
      heading[i] = Heading.ipv6 | (protocol << Heading.PROTOCOL_SHIFT) | (tos << Heading.TOS_SHIFT) | totalLength;
      home[i] = 0;
      if ((hashes & Hashes.home) !== 0) {
        const flowHash = hash.ipv6(src0, src1, src2, src3, dst0, dst1, dst2, dst3, ports, protocol);
        home[i] = (flowHash << FlowField.STRIDE_SHIFT) & mask;
      }
    }
    total[0] = bytes;
    return met;
  };
}

/** Hash of the packet at `data`, of which `head` says family and protocol. */
function hashAt(hash: FlowHash, view: DataView, data: number, head: number): number {
  const protocol = (head >>> Heading.PROTOCOL_SHIFT) & Heading.PROTOCOL_MASK;
  const word = (at: number): number => view.getInt32(data + at);
  return head >= 0
    ? hash.ipv4(word(26), word(30), word(34), protocol)
    : hash.ipv6(word(22), word(26), word(30), word(34), word(38), word(42), word(46), word(50), word(54), protocol);
}

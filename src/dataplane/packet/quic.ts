import type { Packet } from './packet.js';
import { udpPayload, udpPayloadEnd } from './udp_payload.js';

/** QUIC packet types, whatever bits a version has for them. */
export const enum QuicPacketType {
  /** Long headers of RFC 9000 section 17.2, in the order of version 1's type bits. */
  initial = 0,
  zeroRtt = 1,
  handshake = 2,
  retry = 3,
  /** Version 0 (RFC 8999 section 6). Servers send it; a client has no reason to. */
  versionNegotiation = 4,
  /** Short header (1-RTT): the connection id has no length in front. */
  short = 5,
}

const enum Quic {
  longHeader = 0x80,
  /** RFC 9369: QUIC version 2. */
  version2 = 0x6b3343cf,
  /** First byte, version, length of the destination connection id. */
  longBytes = 6,
}

/**
 * What the version-independent part of a QUIC header says (RFC 8999), and the type. One object is filled again and again; nothing is
 * allocated. Offsets are in packet memory.
 */
export class QuicHeader {
  /** QuicPacketType. */
  type = 0;
  /** Of a long header, as int32; 0 with a short one. */
  version = 0;
  /** Offset of the destination connection id. */
  cid = 0;
  /**
   * Long header: bytes of the connection id, 0-255. Short header: bytes to the end of the packet; how many of them are the
   * connection id only its maker knows.
   */
  cidBytes = 0;

  /**
   * Reads the header in the packet's UDP payload. False, with the fields as they were, when there is none: not UDP, a later
   * fragment, an empty payload, a long header that is cut off or whose connection id is.
   *
   * The "fixed bit" 0x40 is not looked at: a client that negotiated RFC 9287 clears it at random, and RFC 8999 promises nothing of it.
   */
  read(packet: Packet): boolean {
    const at = udpPayload(packet);
    if (at === 0) return false;
    const end = udpPayloadEnd(packet);
    if (at >= end) return false;
    const view = packet.view;
    const first = view.getUint8(at);
    if ((first & Quic.longHeader) !== 0) return this.readLong(view, first, at, end);
    this.type = QuicPacketType.short;
    this.version = 0;
    this.cid = (at + 1) | 0;
    this.cidBytes = (end - at - 1) | 0;
    return true;
  }

  private readLong(view: DataView, first: number, at: number, end: number): boolean {
    const cid = (at + Quic.longBytes) | 0;
    if (cid > end) return false;
    const cidBytes = view.getUint8(at + 5);
    if (cidBytes > end - cid) return false;
    const version = view.getInt32(at + 1);
    this.type = typeOf(first, version);
    this.version = version;
    this.cid = cid;
    this.cidBytes = cidBytes;
    return true;
  }

  /** Whether the client may have made the connection id up itself: those of first packets name no server. */
  get mayStartConnection(): boolean {
    return this.type <= QuicPacketType.zeroRtt;
  }
}

/** Versions other than 0 and 2 are taken to have version 1's type bits, as the drafts before it had and Katran expects of all. */
function typeOf(first: number, version: number): number {
  const bits = (first >>> 4) & 3;
  if (version === 0) return QuicPacketType.versionNegotiation;
  // RFC 9369 section 3.2: each type is one higher than in version 1, Retry is 0.
  return version === Quic.version2 ? (bits - 1) & 3 : bits;
}

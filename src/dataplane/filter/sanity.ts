import { ipv4HeaderValid, plainIpv4HeaderValid } from '../packet/checksum.js';
import { PacketFlag, type Packet } from '../packet/packet.js';
import { IpProtocol, TcpFlag } from '../packet/wire.js';
import { DropReason } from '../verdict.js';

const enum Check {
  ipv4Checksum = 1,
  pingOfDeath = 2,
  land = 4,
  tcpFlags = 8,
  source = 16,
  portZero = 32,
  tinyFragment = 64,
  ipv4Options = 128,
}

/** By the names that the config uses. */
const CHECKS: Readonly<Record<string, Check>> = {
  'ipv4-checksum': Check.ipv4Checksum,
  'ping-of-death': Check.pingOfDeath,
  land: Check.land,
  'tcp-flags': Check.tcpFlags,
  source: Check.source,
  'port-zero': Check.portZero,
  'tiny-fragment': Check.tinyFragment,
  'ipv4-options': Check.ipv4Options,
};

/**
 * Packets that no honest sender makes, dropped by name. What cannot be parsed at all never gets here: the parser has
 * dropped it under a reason of its own.
 *
 * - `ipv4-checksum`: the IPv4 header's checksum is wrong (RFC 1122 §3.2.1.2).
 * - `ping-of-death`: a fragment that would end beyond 65,535 bytes.
 * - `land`: source and destination address are the same.
 * - `tcp-flags`: no flag at all, SYN with FIN or RST, FIN without ACK (null, SYN-FIN and Xmas scans).
 * - `source`: a source that cannot send: multicast, 0.0.0.0/8, 127.0.0.0/8, 240.0.0.0/4; ::, ::1, ff00::/8 (RFC 6890).
 * - `port-zero`: TCP or UDP with port 0 on either side.
 * - `tiny-fragment`: an IPv4 fragment at offset 8, which could overwrite TCP flags (RFC 3128).
 * - `ipv4-options`: an IPv4 header with options: legal, but of use to nobody honest on the open internet (RFC 7126).
 *
 * `protocols` is an allow-list of IP protocol numbers; null allows all.
 */
export class SanityFilter {
  private readonly checks: number;
  /** 256 entries, 1 where allowed. */
  private readonly allowed: Uint8Array;

  constructor(checks: readonly string[], protocols: readonly number[] | null) {
    let bits = 0;
    for (const name of checks) {
      const check = CHECKS[name];
      if (check === undefined) throw new RangeError(`unknown sanity check "${name}"`);
      bits |= check;
    }
    this.checks = bits;
    this.allowed = new Uint8Array(256).fill(protocols === null ? 1 : 0);
    for (const protocol of protocols ?? []) this.allowed[protocol] = 1;
  }

  get allowsTcpAndUdp(): boolean {
    return this.allowed[IpProtocol.tcp] === 1 && this.allowed[IpProtocol.udp] === 1;
  }

  /** Why the packet is to be dropped, or `none`. */
  check(packet: Packet): DropReason {
    if (packet.family === 0) return DropReason.none;
    if (this.allowed[packet.protocol & 0xff] === 0) return DropReason.protocolNotAllowed;
    const checks = this.checks;
    if ((checks & Check.ipv4Checksum) !== 0 && packet.family === 4 && !headerValid(packet)) {
      return DropReason.sanityIpv4Checksum;
    }
    if ((checks & Check.ipv4Options) !== 0 && packet.family === 4 && (packet.flags & PacketFlag.options) !== 0) {
      return DropReason.sanityIpv4Options;
    }
    if ((checks & Check.source) !== 0 && !canSend(packet)) return DropReason.sanitySource;
    if ((checks & Check.land) !== 0 && packet.src0 === packet.dst0 && sameHighWords(packet))
      return DropReason.sanityLand;
    if ((packet.flags & PacketFlag.fragment) !== 0) {
      const reason = checkFragment(packet, checks);
      if (reason !== DropReason.none) return reason;
    }
    if ((packet.flags & PacketFlag.hasPorts) === 0) return DropReason.none;
    if ((checks & Check.tcpFlags) !== 0 && packet.protocol === IpProtocol.tcp && !saneFlags(packet.tcpFlags)) {
      return DropReason.sanityTcpFlags;
    }
    if ((checks & Check.portZero) !== 0 && (packet.ports >>> 16 === 0 || (packet.ports & 0xffff) === 0)) {
      return DropReason.sanityPortZero;
    }
    return DropReason.none;
  }
}

function headerValid(packet: Packet): boolean {
  if ((packet.flags & PacketFlag.options) !== 0) {
    return ipv4HeaderValid(packet.view, packet.l3, (packet.view.getUint8(packet.l3) & 15) << 2);
  }
  return plainIpv4HeaderValid(packet.view, packet.l3);
}

function canSend(packet: Packet): boolean {
  if (packet.family === 4) {
    const first = packet.src0 >>> 24;
    return first !== 0 && first !== 127 && first < 224;
  }
  if (packet.src0 >>> 24 === 0xff) return false;
  // :: and ::1
  return (packet.src0 | packet.src1 | packet.src2) !== 0 || packet.src3 >>> 1 !== 0;
}

function sameHighWords(packet: Packet): boolean {
  return packet.src1 === packet.dst1 && packet.src2 === packet.dst2 && packet.src3 === packet.dst3;
}

function saneFlags(flags: number): boolean {
  const control = flags & (TcpFlag.fin | TcpFlag.syn | TcpFlag.rst | TcpFlag.ack);
  if ((flags & 0x3f) === 0) return false;
  if ((control & TcpFlag.syn) !== 0 && (control & (TcpFlag.fin | TcpFlag.rst)) !== 0) return false;
  return (control & TcpFlag.fin) === 0 || (control & TcpFlag.ack) !== 0;
}

function checkFragment(packet: Packet, checks: number): DropReason {
  const view = packet.view;
  if (packet.family === 4) {
    const offset = (view.getUint16(packet.l3 + 6) & 0x1fff) << 3;
    const payload = packet.l3Length - ((view.getUint8(packet.l3) & 15) << 2);
    if ((checks & Check.pingOfDeath) !== 0 && offset + payload > 0xffff) return DropReason.sanityPingOfDeath;
    if ((checks & Check.tinyFragment) !== 0 && offset === 8 && packet.protocol === IpProtocol.tcp) {
      return DropReason.sanityTinyFragment;
    }
    return DropReason.none;
  }
  return (checks & Check.pingOfDeath) !== 0 && endsBeyondIpv6(packet) ? DropReason.sanityPingOfDeath : DropReason.none;
}

/** Follows the extension headers once more to the fragment header; only IPv6 fragments pay for it. The parser has checked the bounds. */
function endsBeyondIpv6(packet: Packet): boolean {
  const view = packet.view;
  const end = packet.l3 + packet.l3Length;
  let next = view.getUint8(packet.l3 + 6);
  let at = packet.l3 + 40;
  while (next !== IpProtocol.fragment) {
    const units = view.getUint8(at + 1);
    const bytes = next === IpProtocol.authentication ? (units + 2) << 2 : (units + 1) << 3;
    next = view.getUint8(at);
    at += bytes;
    if (at + 8 > end) return false;
  }
  const offset = view.getUint16(at + 2) & 0xfff8;
  return offset + (end - at - 8) > 0xffff;
}

/**
 * The names of numbers, as plain objects. Inside, the same names are const enums, which cost nothing on the hot path but cannot
 * be used from another package under `isolatedModules`.
 */
import { FilterVerdict as FilterVerdicts } from './dataplane/filter/contract.js';
import { PacketFlag as PacketFlags } from './dataplane/packet/packet.js';
import { EtherType as EtherTypes, IpProtocol as IpProtocols, TcpFlag as TcpFlags } from './dataplane/packet/wire.js';
import { DropReason as DropReasons, Verdict as Verdicts } from './dataplane/verdict.js';

/** What happens to a packet. Numbers as in the kernel's enum xdp_action. */
export const Verdict = {
  /** The policy failed: dropped, counted apart. */
  Aborted: Verdicts.Aborted,
  Drop: Verdicts.Drop,
  /** To the host's own stack. */
  Pass: Verdicts.Pass,
  /** Out of the interface it came in on. */
  Tx: Verdicts.Tx,
  /** Out of another interface: packet.target. */
  Redirect: Verdicts.Redirect,
} as const;
export type Verdict = Verdicts;

/** What a filter says: Continue hands the packet on, the others are final. */
export const FilterVerdict = {
  Continue: FilterVerdicts.Continue,
  Aborted: FilterVerdicts.Aborted,
  Drop: FilterVerdicts.Drop,
  Pass: FilterVerdicts.Pass,
  Tx: FilterVerdicts.Tx,
} as const;
export type FilterVerdict = FilterVerdicts;

/** Bits of Packet.flags. */
export const PacketFlag = {
  fragment: PacketFlags.fragment,
  laterFragment: PacketFlags.laterFragment,
  options: PacketFlags.options,
  dontFragment: PacketFlags.dontFragment,
  hasPorts: PacketFlags.hasPorts,
} as const;

/** Why a packet was dropped; DROP_REASONS has the names by number. `none`: it was not. */
export const DropReason = {
  none: DropReasons.none,
  ethernetTruncated: DropReasons.ethernetTruncated,
  vlanTruncated: DropReasons.vlanTruncated,
  vlanTooDeep: DropReasons.vlanTooDeep,
  ipv4Truncated: DropReasons.ipv4Truncated,
  ipv4Version: DropReasons.ipv4Version,
  ipv4HeaderLength: DropReasons.ipv4HeaderLength,
  ipv4TotalLength: DropReasons.ipv4TotalLength,
  ipv6Truncated: DropReasons.ipv6Truncated,
  ipv6Version: DropReasons.ipv6Version,
  ipv6PayloadLength: DropReasons.ipv6PayloadLength,
  ipv6ExtensionTruncated: DropReasons.ipv6ExtensionTruncated,
  ipv6ExtensionsTooMany: DropReasons.ipv6ExtensionsTooMany,
  tcpTruncated: DropReasons.tcpTruncated,
  tcpDataOffset: DropReasons.tcpDataOffset,
  udpTruncated: DropReasons.udpTruncated,
  udpLength: DropReasons.udpLength,
  icmpTruncated: DropReasons.icmpTruncated,
} as const;

export const EtherType = {
  ipv4: EtherTypes.ipv4,
  arp: EtherTypes.arp,
  vlan: EtherTypes.vlan,
  ipv6: EtherTypes.ipv6,
  serviceVlan: EtherTypes.serviceVlan,
} as const;

/** IANA protocol numbers. */
export const IpProtocol = {
  icmp: IpProtocols.icmp,
  ipip: IpProtocols.ipip,
  tcp: IpProtocols.tcp,
  udp: IpProtocols.udp,
  dccp: IpProtocols.dccp,
  ipv6: IpProtocols.ipv6,
  esp: IpProtocols.esp,
  icmpv6: IpProtocols.icmpv6,
  sctp: IpProtocols.sctp,
  udpLite: IpProtocols.udpLite,
} as const;

/** Bits of Packet.tcpFlags. */
export const TcpFlag = {
  fin: TcpFlags.fin,
  syn: TcpFlags.syn,
  rst: TcpFlags.rst,
  psh: TcpFlags.psh,
  ack: TcpFlags.ack,
  urg: TcpFlags.urg,
} as const;

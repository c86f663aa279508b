/** Names of protocols and of ICMP types that `ipset save` writes where others write numbers (lib/parse.c, lib/print.c, lib/icmp.c, lib/icmpv6.c of ipset 7). */
import { PortProtocol } from '../../shared/sets/packet_key.js';

/** Names as in Debian's /etc/protocols, which ipset asks: name, number. */
const PROTOCOLS =
  'icmp 1 igmp 2 ggp 3 ipencap 4 st 5 tcp 6 egp 8 igp 9 pup 12 udp 17 hmp 20 xns-idp 22 rdp 27 iso-tp4 29 dccp 33 xtp 36 ' +
  'ddp 37 idpr-cmtp 38 ipv6 41 ipv6-route 43 ipv6-frag 44 idrp 45 rsvp 46 gre 47 esp 50 ah 51 skip 57 ipv6-icmp 58 ' +
  'ipv6-nonxt 59 ipv6-opts 60 rspf 73 vmtp 81 eigrp 88 ospf 89 ax.25 93 ipip 94 etherip 97 encap 98 pim 103 ipcomp 108 ' +
  'vrrp 112 l2tp 115 isis 124 sctp 132 fc 133 mobility-header 135 udplite 136 mpls-in-ip 137 manet 138 hip 139 shim6 140 ' +
  'wesp 141 rohc 142 ethernet 143';

/** Name, type, code. */
const ICMP =
  'echo-reply 0 0 network-unreachable 3 0 host-unreachable 3 1 protocol-unreachable 3 2 port-unreachable 3 3 ' +
  'fragmentation-needed 3 4 source-route-failed 3 5 network-unknown 3 6 host-unknown 3 7 network-prohibited 3 9 ' +
  'host-prohibited 3 10 TOS-network-unreachable 3 11 TOS-host-unreachable 3 12 communication-prohibited 3 13 ' +
  'host-precedence-violation 3 14 precedence-cutoff 3 15 source-quench 4 0 network-redirect 5 0 host-redirect 5 1 ' +
  'TOS-network-redirect 5 2 TOS-host-redirect 5 3 echo-request 8 0 router-advertisement 9 0 router-solicitation 10 0 ' +
  'ttl-zero-during-transit 11 0 ttl-zero-during-reassembly 11 1 ip-header-bad 12 0 required-option-missing 12 1 ' +
  'timestamp-request 13 0 timestamp-reply 14 0 address-mask-request 17 0 address-mask-reply 18 0 pong 0 0 ping 8 0';
const ICMPV6 =
  'no-route 1 0 communication-prohibited 1 1 address-unreachable 1 3 port-unreachable 1 4 packet-too-big 2 0 ' +
  'ttl-zero-during-transit 3 0 ttl-zero-during-reassembly 3 1 bad-header 4 0 unknown-header-type 4 1 unknown-option 4 2 ' +
  'echo-request 128 0 echo-reply 129 0 router-solicitation 133 0 router-advertisement 134 0 neighbour-solicitation 135 0 ' +
  'neighbour-advertisement 136 0 redirect 137 0 neigbour-solicitation 135 0 neigbour-advertisement 136 0';

/** Numbers by name, in small letters. */
export const PROTOCOL_NUMBERS: ReadonlyMap<string, number> = new Map([
  ...inGroups(PROTOCOLS, 2).map(([name, number]) => [name, Number(number)] as const),
  ['icmpv6', PortProtocol.icmpv6],
]);

/** The names that we write, which every ipset knows. Other protocols are written by number. */
export const PROTOCOL_NAMES: ReadonlyMap<number, string> = new Map([
  [PortProtocol.icmp, 'icmp'],
  [PortProtocol.tcp, 'tcp'],
  [PortProtocol.udp, 'udp'],
  [PortProtocol.icmpv6, 'icmpv6'],
  [PortProtocol.sctp, 'sctp'],
  [PortProtocol.udpLite, 'udplite'],
]);

const ICMP_NAMES = typesByName(ICMP);
const ICMPV6_NAMES = typesByName(ICMPV6);

/** Type << 8 | code of a name in small letters; undefined: not known. */
export function icmpName(name: string, protocol: PortProtocol): number | undefined {
  return (protocol === PortProtocol.icmp ? ICMP_NAMES : ICMPV6_NAMES).get(name);
}

function typesByName(text: string): Map<string, number> {
  return new Map(
    inGroups(text, 3).map(([name, type, code]) => [name.toLowerCase(), (Number(type) << 8) | Number(code)]),
  );
}

function inGroups(text: string, size: number): string[][] {
  const words = text.split(' ');
  return Array.from({ length: words.length / size }, (_, i) => words.slice(i * size, (i + 1) * size));
}

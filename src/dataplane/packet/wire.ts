/** Numbers of the wire formats that the data path reads and writes. Offsets are bytes from the header's start. */

export const enum EtherType {
  ipv4 = 0x0800,
  arp = 0x0806,
  /** 802.1Q customer tag. */
  vlan = 0x8100,
  ipv6 = 0x86dd,
  /** 802.1ad service tag. */
  serviceVlan = 0x88a8,
}

/** IANA protocol numbers; the first seven of the second group are IPv6 extension headers. */
export const enum IpProtocol {
  icmp = 1,
  ipip = 4,
  tcp = 6,
  udp = 17,
  dccp = 33,
  ipv6 = 41,
  esp = 50,
  icmpv6 = 58,
  noNextHeader = 59,
  sctp = 132,
  udpLite = 136,

  hopByHop = 0,
  routing = 43,
  fragment = 44,
  authentication = 51,
  destinationOptions = 60,
  mobility = 135,
  hip = 139,
  shim6 = 140,
}

export const enum TcpFlag {
  fin = 1,
  syn = 2,
  rst = 4,
  psh = 8,
  ack = 16,
  urg = 32,
}

export const enum Wire {
  ethernetBytes = 14,
  vlanBytes = 4,
  ipv4Bytes = 20,
  ipv6Bytes = 40,
  tcpBytes = 20,
  udpBytes = 8,
  icmpBytes = 8,
  /** Offset of the checksum field in each transport header. */
  tcpChecksum = 16,
  udpChecksum = 6,
}

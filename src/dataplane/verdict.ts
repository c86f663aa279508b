/** What happens to a packet, and the names of everything that can go wrong with one. */

/** Numbers as in the kernel's enum xdp_action (include/uapi/linux/bpf.h). Native code relies on them. */
export const enum Verdict {
  /** The policy threw: dropped, counted apart. */
  Aborted = 0,
  /** The frame goes back to the pool. */
  Drop = 1,
  /** The host's own stack gets the packet, byte for byte. */
  Pass = 2,
  /** Out of the interface it came in on. */
  Tx = 3,
  /** Out of another port of this worker: burst.target names it. */
  Redirect = 4,
  /** The frame stays with the policy, which resumes it later: a fragment that waits for its first. */
  Hold = 5,
}

/** Stands where a Verdict would for packets that the filters let through and the balancer has not judged yet. */
export const enum Decision {
  undecided = -1,
}

/**
 * Why a packet was dropped. Each number is a counter; the names, in this order, are DROP_REASONS.
 * A packet has exactly one reason, the first that applied.
 */
export const enum DropReason {
  none = 0,
  // Layer 2
  ethernetTruncated = 1,
  vlanTruncated = 2,
  vlanTooDeep = 3,
  // IPv4
  ipv4Truncated = 4,
  ipv4Version = 5,
  ipv4HeaderLength = 6,
  ipv4TotalLength = 7,
  // IPv6
  ipv6Truncated = 8,
  ipv6Version = 9,
  ipv6PayloadLength = 10,
  ipv6ExtensionTruncated = 11,
  ipv6ExtensionsTooMany = 12,
  // Layer 4
  tcpTruncated = 13,
  tcpDataOffset = 14,
  udpTruncated = 15,
  udpLength = 16,
  icmpTruncated = 17,
  // Policy
  rule = 18,
  filter = 19,
  protocolNotAllowed = 20,
  // Balance
  fragment = 21,
  noBackend = 22,
  noNextHop = 23,
  tooBig = 24,
  noHeadroom = 25,
  // Sanity checks by name
  sanityIpv4Checksum = 26,
  sanityPingOfDeath = 27,
  sanityLand = 28,
  sanityTcpFlags = 29,
  sanitySource = 30,
  sanityPortZero = 31,
  sanityTinyFragment = 32,
  policyThrew = 33,
  /** A later fragment whose first was not seen, or was forgotten. */
  fragmentUnknown = 34,
  /** A held fragment whose first did not come in time, or had to give way. */
  fragmentTimeout = 35,
  /** An ICMP error that does not hold enough of the packet that it is about. */
  icmpInner = 36,
  /** New flow above the rate of its service. */
  flood = 37,
  /** Encapsulated, to us, from nobody we know. */
  decapSource = 38,
  decapMalformed = 39,
  /** TTL or hop limit used up where one has to be taken off. */
  ttlExpired = 40,
  sanityIpv4Options = 41,
  /** An echo request above the rate of ICMP messages. */
  icmpLimited = 42,
  // Mitigation
  /** Above the limit of a rule, or of the destination. */
  limited = 43,
  connectionLimit = 44,
  fairShare = 45,
  /** A SYN that was to be challenged, above the rate of challenges. */
  challenge = 46,
  /** The RST that answered a challenge: it has done its work. */
  challengeAnswer = 47,
  tcpUnexpected = 48,
  tcpNotFound = 49,
  tcpOutOfSequence = 50,
  tcpAlreadyClosed = 51,
  /** In a set whose packets are dropped. */
  set = 52,
  /** A SYN that was to be challenged and cannot be: a fragment, IP options, no host's address. */
  challengeNeeded = 53,
  SIZE = 54,
}

/** Names for logs and metrics, by DropReason. */
export const DROP_REASONS: readonly string[] = [
  'none',
  'ethernet_truncated',
  'vlan_truncated',
  'vlan_too_deep',
  'ipv4_truncated',
  'ipv4_version',
  'ipv4_header_length',
  'ipv4_total_length',
  'ipv6_truncated',
  'ipv6_version',
  'ipv6_payload_length',
  'ipv6_extension_truncated',
  'ipv6_extensions_too_many',
  'tcp_truncated',
  'tcp_data_offset',
  'udp_truncated',
  'udp_length',
  'icmp_truncated',
  'rule',
  'filter',
  'protocol_not_allowed',
  'fragment',
  'no_backend',
  'no_next_hop',
  'too_big',
  'no_headroom',
  'sanity_ipv4_checksum',
  'sanity_ping_of_death',
  'sanity_land',
  'sanity_tcp_flags',
  'sanity_source',
  'sanity_port_zero',
  'sanity_tiny_fragment',
  'policy_threw',
  'fragment_unknown',
  'fragment_timeout',
  'icmp_inner',
  'flood',
  'decap_source',
  'decap_malformed',
  'ttl_expired',
  'sanity_ipv4_options',
  'icmp_limited',
  'limited',
  'connection_limit',
  'fair_share',
  'challenge',
  'challenge_answer',
  'tcp_unexpected',
  'tcp_not_found',
  'tcp_out_of_sequence',
  'tcp_already_closed',
  'set',
  'challenge_needed',
];

export const VERDICTS: readonly string[] = ['aborted', 'drop', 'pass', 'tx', 'redirect', 'hold'];

/** Words that the loops of the short way leave for each other; see PlainHeaders. */

/** What `PlainHeaders` notes of a packet: protocol << 24 | TOS << 16 | total length; with this bit it is IPv6. */
export const enum Heading {
  ipv6 = 0x80000000 | 0,
  PROTOCOL_SHIFT = 24,
  PROTOCOL_MASK = 0x7f,
  TOS_SHIFT = 16,
}

/** In PlainHeaders.home, for later loops. */
export const enum Home {
  /** The packet has its verdict. */
  judged = -2,
}

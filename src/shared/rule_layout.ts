/**
 * Rules as the control plane hands them to the workers: records of int32 words, and what the records refer to by position.
 *
 * A rule of the config is one record, or several that follow each other and have one `id`: a list of ports or addresses makes a record each. A packet counts
 * once for a rule, whichever of its records it matches.
 */

/** Rules of a config, and numbers that their counters have. */
export const MAX_RULES = 4096;
/** Records that these rules may come to. */
export const MAX_RULE_RECORDS = 8192;
/** Entries that the index of these records may have. */
export const MAX_RULE_ENTRIES = 16384;

/**
 * Rules: header [number of records, 0, 0, 0], then records. A field is compared only where `fields` has its bit. The words behind the last field
 * are 0: a record is three cache lines.
 */
export const enum RuleField {
  HEADER = 4,
  STRIDE = 48,
  /** RuleMatch bits. */
  fields = 0,
  /** RuleAction. */
  action = 1,
  /** Number that the rule's counters go under; stable over reloads for a rule of the same name. */
  id = 2,
  family = 3,
  protocol = 4,
  src0 = 5,
  src1 = 6,
  src2 = 7,
  src3 = 8,
  srcMask0 = 9,
  srcMask1 = 10,
  srcMask2 = 11,
  srcMask3 = 12,
  dst0 = 13,
  dst1 = 14,
  dst2 = 15,
  dst3 = 16,
  dstMask0 = 17,
  dstMask1 = 18,
  dstMask2 = 19,
  dstMask3 = 20,
  sportFirst = 21,
  sportLast = 22,
  dportFirst = 23,
  dportLast = 24,
  /** TCP flags: (flags & tcpMask) == tcpValue. */
  tcpMask = 25,
  tcpValue = 26,
  /** Layer-3 length in bytes. */
  lengthFirst = 27,
  lengthLast = 28,
  ttlFirst = 29,
  ttlLast = 30,
  /** 1: only fragments, 0: only whole datagrams. */
  fragment = 31,
  /** RuleFlag bits. */
  flags = 32,
  /** uint32: the rule is hit when a random uint32 is below it, once a packet and rule; 0: always. */
  threshold = 33,
  /** Position in Tables.programs, -1: none. */
  program = 34,
  /** Run in Tables.ruleSets, in pairs: the packet must be in every one of these sets. */
  setStart = 35,
  setCount = 36,
  /** Position in Tables.limits, -1: none. */
  limit = 37,
  /** Position in Tables.samples, -1: none. */
  sample = 38,
  /** Bit of the rule in DecisionWord.rules, for one that draws or meters; 0: it has none, and the kernel decides nothing of it. */
  decided = 39,
}

export const enum RuleMatch {
  family = 1,
  protocol = 2,
  src = 4,
  dst = 8,
  sport = 16,
  dport = 32,
  tcpFlags = 64,
  length = 128,
  ttl = 256,
  fragment = 512,
  /** Any of the above: the packet is IP. */
  ip = 1023,
  // From here on what is looked at last, the program first.
  sets = 1024,
  program = 2048,
}

export const enum RuleAction {
  drop = 1,
  /** Ends the search; the stages behind the rules still judge. */
  pass = 2,
  /** Counts and goes on with the next rule. */
  count = 3,
  /** Hands packets to a sampler and goes on. */
  sample = 4,
  /** Drops what is above the limit; the rest goes on. */
  limit = 5,
  /** Ends the search for a SYN, which has to pass the challenge; other packets go on. */
  challenge = 6,
}

export const enum RuleFlag {
  /** Counts what the rule would have done, and goes on with the next. */
  shadow = 1,
}

/** A classic BPF program (shared/cbpf/program.ts), checked. */
export interface RuleProgram {
  /** What offset 0 is: the Ethernet header of the frame, or the layer-3 header. The latter matches IP only. */
  link: 'ethernet' | 'ip';
  /** Program.words. */
  words: SharedArrayBuffer;
}

/** What a sampler takes of the packets that it is shown. */
export interface SampleSpec {
  /** One packet in this many; 0: none by number. */
  oneIn: number;
  /** The first packets of each flow; 0: none. */
  first: number;
  /** Bytes of a packet that are kept. */
  snaplen: number;
}

/**
 * Which records a packet may match, by a few of its fields: bit vectors over *entries*. An entry is one way to match a record; a record has one, or several
 * when it is an expression like `port 53`, which means either port.
 *
 * Every value of a field (dimension) belongs to a class, and a class has a row of bits, one an entry. The entries that a
 * packet may match are those whose bit is set in the rows of all dimensions (Lakshman and Stiliadis, "High-speed policy-based packet
 * forwarding using efficient multi-dimensional range matching", SIGCOMM 1998). A row starts with summary words, a bit for each of its words that is not
 * 0, so that most words are never read. For that, entries that ask for the same fields and for values that are close stand together, not in the order of
 * their records (Baboescu and Varghese, "Scalable packet classification", SIGCOMM 2001).
 *
 * What the index leaves is then compared with the record itself, so it may be too wide, and never too narrow.
 */
export interface RuleIndexTables {
  /** RuleIndexHeader, then what it points at. */
  words: SharedArrayBuffer;
  /** Longest-prefix tables (shared/lpm.ts) from address to class - 1; null: no entry asks for an address of that kind. */
  src4: SharedArrayBuffer | null;
  src6: SharedArrayBuffer | null;
  dst4: SharedArrayBuffer | null;
  dst6: SharedArrayBuffer | null;
}

/** Positions in RuleIndexTables.words; what is there is a word index unless said otherwise. */
export const enum RuleIndexHeader {
  SIZE = 16,
  /** Number of summary words, and of all words of a row. */
  summaryWords = 0,
  rowWords = 1,
  /** Number of the record of each entry, from 0. */
  records = 2,
  /** The row of all entries: of a dimension that does not count. */
  all = 3,
  /** Row of each ProtocolKey. */
  protocols = 4,
  /** Classes of ports, Uint16, PortKey.SIZE of them; 0: no entry asks for that port. */
  sourcePorts = 5,
  destinationPorts = 6,
  /** First rows, by class: row c is `rowWords` * c behind. */
  sourcePortRows = 7,
  destinationPortRows = 8,
  src4Rows = 9,
  src6Rows = 10,
  dst4Rows = 11,
  dst6Rows = 12,
  /** 1: some entries are programs, which know nothing of VLAN tags and IPv6 extension headers. */
  programs = 13,
}

/** IP version and protocol as one number: 0: not IP; `ipv4` + protocol; `ipv6` + protocol. */
export const enum ProtocolKey {
  none = 0,
  ipv4 = 1,
  ipv6 = 257,
  SIZE = 513,
}

/** A port, or that there is none. */
export const enum PortKey {
  none = 65536,
  SIZE = 65537,
}

export const enum RuleCounter {
  /** Packets that matched, and their bytes. */
  packets = 0,
  bytes = 1,
  /** Those on which the action was carried out, or in shadow mode would have been: dropped, above the limit, sampled, challenged. */
  acted = 2,
  actedBytes = 3,
  SIZE = 4,
}

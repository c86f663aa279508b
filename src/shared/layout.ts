/**
 * What the control plane and the workers share, and nothing else does: the only bridge between the two planes.
 *
 * - **Tables** (services, rings, backends, rules) are built by the control plane, never changed once published, and
 *   handed over under a generation number. A worker adopts the newest between two bursts.
 * - **Counters** are one block a worker, written by that worker alone, read by anyone at any time.
 * - **Control words** are a few int32 a worker, for generation, stop and heartbeat.
 *
 * Everything is int32 words in network byte order where it came from a packet, so that the data path compares what it
 * read without converting. An IPv4 address is one word (word 0, words 1-3 zero); an IPv6 address is four.
 */

import type { LimitSpec, MitigationTables } from './mitigation_layout.js';
import type { RuleIndexTables, RuleProgram, SampleSpec } from './rule_layout.js';
import type { SetDrop, SetTable } from './sets/index.js';

export * from './counter_layout.js';
export * from './mitigation_layout.js';
export * from './rule_layout.js';

/** Changes whenever anything below, or in counter_layout.ts or rule_layout.ts, does; a worker refuses tables of another version. */
export const LAYOUT_VERSION = 6;

/** Limits that size the shared blocks. Unused parts are never touched and cost no memory. */
export const MAX_SERVICES = 16384;
export const MAX_BACKENDS = 131072;
export const MAX_PORTS = 16;
export const MAX_FILTERS = 64;
/** Backends that one packet may try, one after the other. */
export const MAX_HOPS = 3;

// ---------------------------------------------------------------------------------------------------------------------
// Tables

/** A published set of tables. Parts that did not change are the same object as in the generation before. */
export interface Tables {
  version: number;
  /** Counts up by one with each publication, from 1. */
  generation: number;
  /** Open-addressing hash table from (address, prefix length, protocol, port) to a service number; see ServiceKey. */
  serviceKeys: SharedArrayBuffer;
  /** One record a service number; see ServiceField. */
  services: SharedArrayBuffer;
  /** Backend numbers, in the order that rings refer to; a service's run starts at ServiceField.listStart. */
  backendList: SharedArrayBuffer;
  /** Maglev rings as Uint16: position in the service's backend list. Services with equal backends share a ring. */
  rings: SharedArrayBuffer[];
  /** One record a backend number; see BackendField. */
  backends: SharedArrayBuffer;
  /** Rules in order, as records; see RuleField. A record with `src` or `dst` also has its family bit. */
  rules: SharedArrayBuffer;
  /** Which records a packet may match; null: there are no rules. See RuleIndexTables. */
  ruleIndex: RuleIndexTables | null;
  /** Programs that records refer to, distinct by content. */
  programs: RuleProgram[];
  /** Runs of [position in `sets`, SetKey bits] that records refer to. */
  ruleSets: SharedArrayBuffer;
  /** Sets of addresses, networks and ports, by number; their contents change without a new generation. */
  sets: SetTable[];
  /** Sets whose packets are dropped before the rules. */
  setDrops: SetDrop[];
  /** Positions in `sets` of those whose packets no sanity check, rule or stage of mitigation touches, by their source, beside `mitigation.allow`. */
  setAllows: number[];
  /** SetClockWord. */
  setClock: SharedArrayBuffer;
  /** Limits that rules refer to. */
  limits: LimitSpec[];
  /** Samplers that rules refer to. */
  samples: SampleSpec[];
  /**
   * Changes whenever something of the rules does (records, index, programs, what they refer to), and never comes back within a process: with an
   * equal stamp a worker keeps what it has made of them.
   */
  ruleStamp: number;
  /** What the kernel signs its decisions about these rules with (kernel_decisions.ts), random; 0: it decides none. Changes with the stamp. */
  kernelNonce: number;
  /** The stages of mitigation around the rules. */
  mitigation: MitigationTables;
  /** Tables from server id to position in a service's backend list; see shared/server_ids.ts. */
  serverIds: SharedArrayBuffer[];
  /** Longest-prefix tables from source address to position in a service's backend list; see shared/lpm.ts. */
  sourceRoutes: { ipv4: SharedArrayBuffer | null; ipv6: SharedArrayBuffer | null }[];
  /** How connection ids of QUIC hold a server id; services refer to it by position. */
  quic: QuicSpec[];
  /** Keys of GLB Director's hash, four int32 each. */
  glbKeys: number[][];
  /** Distinct prefix lengths among IPv4 / IPv6 service addresses, longest first. */
  prefixLengths4: number[];
  prefixLengths6: number[];
  /** Which filters run, in order. */
  filters: FilterSpec[];
  settings: DataPlaneSettings;
}

/** One stage of the filter chain. */
export type FilterSpec =
  | { kind: 'sanity'; checks: string[]; protocols: number[] | null }
  | { kind: 'rules' }
  | { kind: 'module'; name: string; url: string; options: unknown };

export interface DataPlaneSettings {
  /** Four int32: the key of the Maglev look-up hash. Nodes that serve the same VIPs must have the same. */
  hashKey: number[];
  /** New flows a worker and second that may enter its flow table; above it they are balanced but not remembered. 0: no limit. */
  maxNewFlowsPerSecond: number;
  /** Idle time after which a flow is forgotten, in seconds. */
  timeouts: FlowTimeouts;
  /** By interface index position (port number): repair L4 checksums that the sender left to its device. */
  repairChecksums: boolean[];
  icmp: IcmpSettings;
  fragments: FragmentSettings;
  /** Outer destinations whose outer header is taken off before the packet is balanced; see DecapSettings. */
  decapsulate: DecapSettings;
}

export interface IcmpSettings {
  /** Echo requests to a service's address: answered here, sent to a backend, or left to the host. */
  echo: 'answer' | 'forward' | 'pass';
  /** A packet that does not fit with its outer header: tell its sender (PTB, fragmentation needed), or only drop it. */
  tooBig: 'reply' | 'drop';
  /** ICMP messages that a worker makes, a second; 0: none. */
  maxPerSecond: number;
}

export interface FragmentSettings {
  /** Later fragments go where the first went, or all fragments are dropped. */
  policy: 'follow' | 'drop';
  /** A fragment that comes before the first: held until that comes, or dropped. */
  outOfOrder: 'hold' | 'drop';
  /** Datagrams that a worker remembers, a power of two. */
  slots: number;
  /** How long a datagram is remembered and fragments are held, s. */
  timeout: number;
  /** Most frames that a worker holds. */
  held: number;
}

export interface DecapSettings {
  /** Outer destinations, host addresses as words; family 4 or 6. [] : nothing is taken off. */
  addresses: { family: 4 | 6; words: number[] }[];
  /** Outer sources that may send to them; prefixes. */
  sources: { family: 4 | 6; words: number[]; length: number }[];
  /** UDP destination ports of GUE. */
  guePorts: number[];
}

/** One service's reading of QUIC connection ids. */
export type QuicSpec =
  | { scheme: 'katran' }
  | {
      scheme: 'quic-lb';
      /** By config rotation, 0 to 6. `key`: 16 bytes, or null for plaintext. */
      configs: { rotation: number; serverIdLength: number; nonceLength: number; key: number[] | null }[];
    };

export interface FlowTimeouts {
  tcpSyn: number;
  tcpEstablished: number;
  tcpClosing: number;
  udp: number;
  other: number;
}

/**
 * Service key table: header [mask, maxProbe, count, kinds (ServiceKeyKind bits, 0: not said)], then slots of `STRIDE`
 * words. An empty slot has `service` -1.
 * Port word: a port number, or `ANY_PORT`, or `PORT_RANGES` when the slot leads to a list of ranges.
 */
export const enum ServiceKey {
  HEADER = 4,
  STRIDE = 8,
  addr0 = 0,
  addr1 = 1,
  addr2 = 2,
  addr3 = 3,
  /** family << 24 | prefix length << 16 | protocol (0 = any). */
  scope = 4,
  port = 5,
  /** Service number; -1 empty. For PORT_RANGES: word index in this same table's trailing range area. */
  service = 6,
  /** For PORT_RANGES: number of ranges, each [first, last, service], sorted by first, disjoint. */
  rangeCount = 7,
}

export const ANY_PORT = 0x10000;
export const PORT_RANGES = 0x10001;
/** Fragments behind the first have no ports: they find some service of their address and protocol under this one. */
export const LATER_FRAGMENT = 0x10002;
/** Some service of an address, whatever its protocol; under protocol 1, so that no other look-up gets longer by it. */
export const SOME_SERVICE = 0x10003;

export const enum ServiceField {
  STRIDE = 16,
  /** ServiceFlag bits. */
  flags = 0,
  /** Index into Tables.rings; -1 when the service has no backend that takes new flows. */
  ring = 1,
  /** Start of this service's run in Tables.backendList. */
  listStart = 2,
  listLength = 3,
  /** HashField bits: what of the five-tuple picks the slot. */
  hashFields = 4,
  /**
   * Entries of the ring a slot: 1 for a plain ring. With a second hop, n entries: the backend, then up to n - 1 that get a
   * packet which the ones before did not take; NO_HOP fills up.
   */
  hops = 5,
  /** Index into Tables.serverIds, -1: none. */
  serverIds = 6,
  /** Index into Tables.sourceRoutes, -1: none. */
  sourceRoutes = 7,
  /** Index into Tables.quic, -1: not QUIC. */
  quic = 8,
  /** New flows of this service that a worker remembers a second; 0: no limit of its own. */
  maxNewFlows = 9,
  /** Largest MSS that a SYN may offer: bytes, 0: left alone, -1: what fits into the way to the backend. */
  mss = 10,
  /** Index into Tables.glbKeys, -1: not GLB's hash. */
  glbKey = 11,
}

/** Ends a slot's chain of hops before it is full. */
export const NO_HOP = 0xffff;

export const enum ServiceFlag {
  valid = 1,
  /** Flows are remembered in the flow table. */
  flowTable = 2,
  /** The slot is picked by Katran's hash, the outer source and source port are Katran's. */
  katranHash = 4,
  /** The slot is picked by GLB Director's hash. */
  glbHash = 8,
  /** Above the rate of new flows, new flows are dropped instead of balanced without being remembered. */
  floodDrop = 16,
  /** The backend is named in a TCP option (Katran's server id). */
  tcpServerId = 32,
  /** The backend is named in the first bytes of a UDP payload (Katran's stable routing). */
  stableUdp = 64,
  /** UDP flows leave a draining backend at once. */
  udpMoves = 128,
}

/** Parts of the five-tuple that a service's hash may take. */
export const enum HashField {
  src = 1,
  sport = 2,
  dst = 4,
  dport = 8,
  protocol = 16,
  all = 31,
}

export const enum BackendField {
  STRIDE = 32,
  flags = 0,
  /** Counts up each time the number is given to another backend, so that flows of the former owner are not taken over. */
  incarnation = 1,
  service = 2,
  /** Port number (position in the worker's port list) that leads to the backend. */
  port = 3,
  /** Outer destination address. */
  addr0 = 4,
  addr1 = 5,
  addr2 = 6,
  addr3 = 7,
  /** Outer source address, same family. */
  source0 = 8,
  source1 = 9,
  source2 = 10,
  source3 = 11,
  /** First 12 bytes of the Ethernet header to write, destination then source address, as big-endian words. */
  eth0 = 12,
  eth1 = 13,
  eth2 = 14,
  /** Largest layer-3 packet that the way to the backend takes, bytes. */
  mtu = 15,
  /**
   * Folded sum of the constant part of the outer IPv4 header (all but length, id and TOS). IP in IP: with the protocol of IPv4 inside, whatever
   * the service's address is: that may change its family while flows to the former one go on.
   */
  headerSum = 16,
  /** EncapKind. */
  encap = 17,
  /** UDP destination port of GUE. */
  guePort = 18,
  /** EncapFlag bits. */
  encapFlags = 19,
  /** Host bits of the outer source that are filled from the flow's hash: a mask by word. All 0: `source` as it is. */
  entropy0 = 20,
  entropy1 = 21,
  entropy2 = 22,
  entropy3 = 23,
}

/** What stands in front of the packet on its way to the backend. */
export const enum EncapKind {
  /** IP in IP (RFC 2003, 2473, 4213). */
  ipip = 0,
  /** GUE variant 1: UDP, then the packet (draft-ietf-intarea-gue-09 §4). */
  gueVariant1 = 1,
  /** GUE variant 0: UDP, four bytes of GUE, perhaps a chain of hops, then the packet. */
  gueVariant0 = 2,
  /** Nothing: only the Ethernet addresses are rewritten. The backend is on the link. */
  l2 = 3,
}

export const enum EncapFlag {
  /** The outer UDP checksum is computed; else it is 0 (RFC 768, RFC 6935). */
  udpChecksum = 1,
  /** Outer source and source port as Katran makes them. */
  katran = 2,
}

export const enum BackendFlag {
  valid = 1,
  /** Takes new flows. */
  active = 2,
  /** Keeps its flows, gets no new ones. */
  draining = 4,
  ipv6 = 8,
  /** The next hop's hardware address is known. */
  resolved = 16,
  /** Not plain IP in IP, or packets to it need more than the flow table says: the short way leaves them to the steps. */
  special = 32,
  /** Of a service that may name the backend in the packet itself, which goes before the flow table. */
  steered = 64,
  /** Of a service that lowers the MSS of SYNs. */
  clamps = 128,
}

// ---------------------------------------------------------------------------------------------------------------------
// Control words: Int32Array a worker, touched with Atomics.

export const enum ControlWord {
  /** Newest generation (or command number) that waits on the worker's message port. Written by the control plane. */
  posted = 0,
  /** The last one that the worker took. Written by the worker. */
  taken = 1,
  /** 1: finish the burst in hand, drain what was sent, close, exit. Written by the control plane. */
  stop = 2,
  /** Counts up at least ten times a second. Written by the worker. */
  heartbeat = 3,
  SIZE = 16,
}

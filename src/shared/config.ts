/**
 * The configuration after it was read, checked and completed: every default filled in, every name resolved, every number
 * in the unit that its name says. `control/config/` makes it from YAML; the rest of the control plane reads only this.
 */

import type { Program } from './cbpf/program.js';
import type { HealthConfig } from './health_config.js';
import type { Rate } from './limits/rate.js';
import type { AllowConfig, MitigationConfig } from './mitigation_config.js';
import type { SampleSpec } from './rule_layout.js';
import type { ServerId } from './server_ids.js';
import type { SetConfig, SetKeyName } from './set_config.js';

export type { SetConfig, SetKeyName } from './set_config.js';

/** An IP address as its words in network byte order, int32. IPv4 uses word 0 only. */
export interface Address {
  family: 4 | 6;
  words: readonly [number, number, number, number];
  /** Canonical text (RFC 5952 for IPv6). */
  text: string;
}

/** An address with a prefix length; host bits are zero. */
export interface Prefix extends Address {
  length: number;
}

export interface PortRange {
  first: number;
  last: number;
}

export type XdpMode = 'auto' | 'zero-copy' | 'copy' | 'generic';

export interface InterfaceConfig {
  name: string;
  /** Queues to serve; 'all' is every RX queue that the device has. */
  queues: 'all' | number[];
  mode: XdpMode;
  /** How workers wait: sleep in poll(2), or spin with SO_PREFER_BUSY_POLL. */
  poll: 'interrupt' | 'busy';
  /** 'auto': repair on veth, trust elsewhere. */
  checksum: 'auto' | 'trust' | 'repair';
  /** What XDP does with a matching packet when no socket is there for its queue. */
  fallback: 'pass' | 'drop';
  /** What goes to user space: packets to a service's address, or every packet. */
  redirect: 'services' | 'all';
  /** Pass verdicts re-enter the host's stack through a TAP device, or are dropped and counted. */
  hostPath: boolean;
}

export interface FramesConfig {
  /** Frames a worker. */
  count: number;
  size: 2048 | 4096;
  hugepages: boolean;
  /** Descriptors in each of the four rings. */
  ring: number;
  /** Packets a burst. */
  burst: number;
}

export type BackendState = 'active' | 'draining' | 'inactive';

export interface BackendConfig {
  address: Address;
  weight: number;
  state: BackendState;
  /** Names of the backend that packets may carry. */
  serverIds: ServerId[];
}

/** How packets travel to backends. */
export interface EncapsulationConfig {
  kind: 'ipip' | 'gue' | 'l2';
  /**
   * Outer sources; null: the address that the route to the backend prefers. Host bits of a prefix are filled from the flow's
   * hash, so that routers on the way spread flows.
   */
  source4: Prefix | null;
  source6: Prefix | null;
  gue: { port: number; variant: 0 | 1; checksum: 'zero' | 'computed' };
}

export type HashName = 'sluice' | 'katran' | 'katran-v2' | 'glb';

export const HASH_FIELDS = ['src', 'sport', 'dst', 'dport', 'protocol'] as const;
export type HashFieldName = (typeof HASH_FIELDS)[number];

/** A service's reading of QUIC connection ids. */
export type QuicConfig =
  | { scheme: 'katran' }
  | {
      scheme: 'quic-lb';
      /** `key`: 16 bytes; null: server ids are not encrypted. */
      configs: { rotation: number; serverIdLength: number; nonceLength: number; key: readonly number[] | null }[];
    };

/** New flows from a source prefix go to one backend. */
export interface SourceRoute {
  prefix: Prefix;
  backend: Address;
}

export interface ServiceConfig {
  name: string;
  vip: Prefix;
  /** [] means any port. */
  ports: PortRange[];
  /** IP protocol numbers; [] means any. */
  protocols: number[];
  /** Slots of the Maglev ring, a prime. */
  ringSize: number;
  /** Whether flows are remembered in the flow table. */
  flowTable: boolean;
  backends: BackendConfig[];
  encapsulation: EncapsulationConfig;
  hash: HashName;
  /** What of the five-tuple picks the slot; at least one. */
  hashFields: HashFieldName[];
  /** Backends to try for one packet, in a chain: 1 is no second hop; at most MAX_HOPS. */
  hops: number;
  /** Key of GLB's packet hash and seed of its rows, 16 bytes each; null: the key is `hashKey`, the seed all zeros. */
  glb: { hashKey: readonly number[]; seed: readonly number[] } | null;
  flood: {
    /** New flows that a worker remembers a second; 0: no limit but that of `flows`. */
    maxNewPerSecond: number;
    /** What happens to new flows above it: balanced without being remembered, or dropped. */
    above: 'bypass' | 'drop';
  };
  drain: {
    /** Seconds after which a draining backend becomes inactive; 0: never by itself. */
    timeout: number;
    /** Whether UDP flows stay with a draining backend, or leave at once. */
    udp: 'keep' | 'move';
  };
  health: HealthConfig | null;
  quic: QuicConfig | null;
  tcpServerId: boolean;
  stableUdp: boolean;
  /** In file order; from a list or from a file. */
  sourceRoutes: SourceRoute[];
  /** Largest MSS of a SYN: bytes, 'auto': what fits into the way to the backend, 'off'. */
  mssClamp: number | 'auto' | 'off';
}

type OneOrMore<T> = T | readonly T[];

/** A set of addresses that a packet has to be in. */
export interface RuleSetReference {
  name: string;
  /** What of the packet is looked up. */
  key: SetKeyName;
}

/** What a packet must have for a rule: all of it. Of a list, one. */
export interface RuleMatchConfig {
  family?: 4 | 6;
  protocol?: number;
  src?: OneOrMore<Prefix>;
  dst?: OneOrMore<Prefix>;
  sport?: OneOrMore<PortRange>;
  dport?: OneOrMore<PortRange>;
  /** TCP flags: packets with (flags & mask) == value. */
  tcpFlags?: { mask: number; value: number };
  /** Layer-3 length in bytes. */
  length?: PortRange;
  ttl?: PortRange;
  fragment?: boolean;
  /** `expr`, `bytecode`, `p0f` or `dns` of the config; one of them at most. */
  program?: RuleProgramConfig;
  sets?: readonly RuleSetReference[];
}

/** A match program and the text that it was made from. */
export interface RuleProgramConfig {
  /** The config's key. */
  kind: 'expr' | 'bytecode' | 'p0f' | 'dns';
  /** As people are shown it. */
  text: string;
  /** What `dns` asks for; the others are their text. */
  dns?: DnsMatchConfig;
  /** Has passed checkLoops of shared/cbpf. */
  program: Program;
}

/** Messages that a match `dns` is about: malformed ones, or well-formed ones with all of the rest. */
export interface DnsMatchConfig {
  /** With wildcards. */
  names?: readonly string[];
  qtype?: readonly (string | number)[];
  response?: true;
  malformed?: true | 'strict';
}

/** Packets above a rate are dropped. */
export interface RuleLimitConfig {
  rate: Rate;
  /** Packets (or bytes, with a rate of bytes) that may come at once. */
  burst?: number;
  /** What has a rate of its own; []: all packets of the rule together. */
  per: readonly ('src' | 'dst' | 'sport' | 'dport')[];
  /** Prefix lengths that addresses are cut to; left out: whole addresses. */
  srcMask4?: number;
  srcMask6?: number;
  dstMask4?: number;
  dstMask6?: number;
  /** Most keys that are remembered. Left out: 65536. */
  max?: number;
}

export interface RuleConfig {
  name: string;
  match: RuleMatchConfig;
  action: 'drop' | 'pass' | 'count' | 'sample' | 'limit' | 'challenge';
  /** 'shadow': counts what the rule would have done, and the search goes on. Left out: 'enforce'. */
  mode?: 'enforce' | 'shadow';
  /** Share of the packets that match, above 0, at most 1, on which the rule is used at all. Left out: 1. */
  probability?: number;
  /** Seconds after which the rule is gone. Left out: it stays. */
  ttl?: number;
  /** With action 'limit'. */
  limit?: RuleLimitConfig;
  /** With action 'sample'. */
  sample?: SampleSpec;
}

export type FilterConfig =
  | { kind: 'sanity'; checks: string[]; protocols: number[] | null }
  | { kind: 'rules' }
  | { kind: 'module'; name: string; path: string; options: unknown };

/** Names of the sanity checks, as the config spells them. */
export const SANITY_CHECKS = [
  'ipv4-checksum',
  'ping-of-death',
  'land',
  'tcp-flags',
  'source',
  'port-zero',
  'tiny-fragment',
  'ipv4-options',
] as const;

/** Those that run unless the config says otherwise. IPv4 options are rare, and legal. */
export const SANITY_DEFAULT = SANITY_CHECKS.filter((check) => check !== 'ipv4-options');

export interface FlowsConfig {
  /** Slots of a worker's flow table, a power of two. */
  slots: number;
  /** New flows a second and worker that are remembered; 0: no limit. */
  maxNewPerSecond: number;
  timeouts: { tcpSyn: number; tcpEstablished: number; tcpClosing: number; udp: number; other: number };
}

/** Something wrong, or worth a second look, in a configuration, and where it stands. */
export interface ConfigProblem {
  /** As it was given; "<string>" when the text came from no file. */
  file: string;
  /** From 1; 0 when there is no place to point to. */
  line: number;
  /** From 1, in characters; 0 when there is no place to point to. */
  column: number;
  /** "services[0].backends[1].weight"; "" for the file as a whole. */
  path: string;
  message: string;
  /** What to do about it, one sentence; "" when the message says it all. */
  remedy: string;
}

export interface Config {
  /** File it came from, absolute; '' when it came from a string. */
  path: string;
  interfaces: InterfaceConfig[];
  frames: FramesConfig;
  flows: FlowsConfig;
  /** What services have that do not say otherwise. */
  encapsulation: EncapsulationConfig;
  icmp: {
    echo: 'answer' | 'forward' | 'pass';
    tooBig: 'reply' | 'drop';
    /** ICMP messages that a worker makes a second; 0: none. */
    maxPerSecond: number;
  };
  fragments: {
    policy: 'follow' | 'drop';
    outOfOrder: 'hold' | 'drop';
    /** Datagrams that a worker remembers, a power of two. */
    slots: number;
    /** Seconds. */
    timeout: number;
    /** Most frames that a worker holds. */
    held: number;
  };
  /** Packets to these addresses have their outer header taken off before they are balanced; [] : none. */
  decapsulate: {
    addresses: Address[];
    /** Outer sources that may send to them. */
    sources: Prefix[];
    /** UDP destination ports of GUE. */
    guePorts: number[];
  };
  /** Four int32 of the Maglev look-up hash. */
  hashKey: [number, number, number, number];
  services: ServiceConfig[];
  filters: FilterConfig[];
  rules: RuleConfig[];
  /** Whether rules run in the kernel, where they can (`auto`), or those that drop must (`require`). */
  offload: 'auto' | 'off' | 'require';
  /** Whether the kernel goes on with flows that user space has decided, where it can. */
  flowOffload: 'auto' | 'off';
  sets: SetConfig[];
  allow: AllowConfig;
  mitigation: MitigationConfig;
  metrics: { listen: { host: string; port: number } | null };
  control: { socket: string };
  log: { level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent'; format: 'auto' | 'json' | 'text' };
  /** What works but is probably not meant. The configuration is usable all the same. */
  warnings: ConfigProblem[];
}

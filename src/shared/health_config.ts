/** Health checks of a service's backends, as the configuration says it, completed: see docs/health.md. Times are in milliseconds. */

export const HEALTH_TYPES = ['tcp', 'http', 'https', 'udp', 'dns'] as const;
export type HealthType = (typeof HEALTH_TYPES)[number];

/** HTTP status codes, both ends included. */
export interface StatusRange {
  first: number;
  last: number;
}

/** What must stand in an HTTP body: these bytes as UTF-8, or a match of a regular expression. */
export type BodyMatch = { kind: 'text'; text: string } | { kind: 'regex'; source: string; flags: string };

export interface TcpCheckConfig {
  type: 'tcp';
}

export interface HttpCheckConfig {
  type: 'http' | 'https';
  /** Starts with "/". */
  path: string;
  method: 'GET' | 'HEAD' | 'OPTIONS' | 'POST';
  /** Host header; null: the service's address. */
  host: string | null;
  /** An answer with one of these is good. At least one. */
  status: StatusRange[];
  /** null: the body is not read. */
  body: BodyMatch | null;
  /** For https; null for http. */
  tls: {
    /** Whether the certificate must be valid for the server name. */
    verify: boolean;
    /** Name to ask for (SNI) and to verify; null: `host` when that is a name, else none. */
    serverName: string | null;
  } | null;
}

export interface UdpCheckConfig {
  type: 'udp';
  /** Payload of the datagram that is sent. */
  request: Uint8Array;
  /** Bytes that an answer must have in it; null: any answer will do. */
  expect: Uint8Array | null;
}

export interface DnsCheckConfig {
  type: 'dns';
  /** Name to ask for, without a dot at the end; '' is the root. */
  name: string;
  /** Record type by its number (IANA DNS parameters). */
  record: number;
  /** Response code that is good (RFC 1035 §4.1.1, RFC 6895). */
  rcode: number;
  /** Text that an answer record must have in it; null: none is needed. */
  answer: string | null;
}

export type CheckConfig = TcpCheckConfig | HttpCheckConfig | UdpCheckConfig | DnsCheckConfig;

/** Flap dampening in the manner of RFC 2439: going down adds 1 to a penalty that decays exponentially. */
export interface FlapConfig {
  halfLifeMs: number;
  /** A backend whose penalty reaches this is held down … */
  suppress: number;
  /** … until it has decayed to this. */
  reuse: number;
  /** Longest time that a backend is held after it last went down: the penalty has a ceiling that gives this (RFC 2439 §4.2). */
  maxHoldMs: number;
}

export interface HealthConfig {
  check: CheckConfig;
  /** Port to check; null: the first one of the service. */
  port: number | null;
  intervalMs: number;
  timeoutMs: number;
  /** Good results in a row that bring a backend up. */
  rise: number;
  /** Bad results in a row that take it down. */
  fall: number;
  /** Part of the interval, 0 to 0.5, by which each pause is longer or shorter at random. */
  jitter: number;
  /** `direct`: to the backend's own address. `tunnel`: to the service's address, in the backend's tunnel, as packets of clients. */
  through: 'direct' | 'tunnel';
  /** What is done when no backend is left. */
  allDown: 'keep_last' | 'drop';
  /** null: no dampening. */
  flap: FlapConfig | null;
}

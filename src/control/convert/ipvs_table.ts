/** Entries of IPVS's virtual server table, as ipvsadm(8) shows them. */
import type { Prefix } from '../../shared/config.js';
import type { Place } from './draft.js';

export type Forwarding = 'masquerading' | 'gatewaying' | 'ipip' | 'gue' | 'gre';

export interface RealServer {
  place: Place;
  /** Address text as it was given, a prefix of all its bits. */
  address: Prefix;
  /** null: the service's. */
  port: number | null;
  forwarding: Forwarding;
  tunnel: { port: number; checksum: boolean; remoteChecksum: boolean };
  weight: number;
  /** Whether connections are limited (-x, -y). */
  limited: boolean;
}

export interface VirtualService {
  place: Place;
  protocol: 'tcp' | 'udp' | 'sctp';
  address: Prefix;
  /** 0: any, with persistence. */
  port: number;
  scheduler: string;
  schedulerFlags: string[];
  /** Seconds; null: not persistent. */
  persistent: number | null;
  /** Bits of the source that persistence looks at; null: all. */
  netmask: string | null;
  engine: string | null;
  onePacket: boolean;
  /** By address and port. */
  reals: Map<string, RealServer>;
}

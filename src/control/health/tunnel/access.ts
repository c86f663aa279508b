import type { Address } from '../../../shared/config.js';
import type { Endpoint, Outcome } from '../outcome.js';

/** A check's place in the tunnel; given back when the check ends. */
export interface Lease {
  endpoint: Endpoint;
  release(): void;
}

/** What the monitor needs of the tunnel. */
export interface TunnelAccess {
  /** Addresses of services whose checks go through the tunnel, from now on; [] when there are none. */
  setVips(addresses: readonly Address[]): void;
  /** An endpoint by which packets to the VIP reach the backend `key`, or why there is none now. */
  lease(key: string, vip: Address, port: number): Lease | Outcome;
  /** Gives back all that it has changed of the host. */
  close(): Promise<void>;
}

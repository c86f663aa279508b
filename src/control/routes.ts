/** Ways to backends, as the tables need them, and how the kernel's routing table is asked for them. */
import type { Address } from '../shared/config.js';

/** The way to one address: what `publish.ts` writes into a backend's record. */
export interface NextHop {
  /** Canonical text of the backend's address. */
  address: string;
  /** Interface that leads there; '' when there is no route. */
  interface: string;
  /** Router on the way, null when the address is on the link. Its family may differ from the address's (RFC 5549). */
  gateway: string | null;
  /** Source address that the kernel would use; null when it has none for this route. */
  source: Address | null;
  /** Hardware address of the interface, 6 bytes; null when it has none. */
  smac: Uint8Array | null;
  /** Hardware address of the gateway, or of the backend itself; null while unknown. */
  dmac: Uint8Array | null;
  /** Largest layer-3 packet, bytes: the route's own MTU or the interface's, whichever is less. */
  mtu: number;
  /** Packets can be sent: both hardware addresses are there and the interface is up. */
  resolved: boolean;
  /** Why not, one sentence that names the address; null when all is well or an answer is only awaited. */
  error: string | null;
}

/** What stands between the two ends of a round trip. */

export type Way = 'direct' | 'kernel' | 'xdp' | 'c' | 'typescript';
export const PROTOCOLS = ['udp', 'tcp'] as const;
export type Protocol = (typeof PROTOCOLS)[number];
/** Nothing else on the way, or half of what the way carries. */
export const LOADS = ['idle', 'half'] as const;
export type LoadLevel = (typeof LOADS)[number];

export interface LatencyCase {
  name: string;
  way: Way;
  /** Sleeps in poll(2) while there is nothing; else it spins. */
  sleeping: boolean;
}

export const LATENCY_CASES: readonly LatencyCase[] = [
  { name: 'veth, nothing between', way: 'direct', sleeping: false },
  { name: 'Linux IP forwarding', way: 'kernel', sleeping: false },
  { name: 'XDP_REDIRECT', way: 'xdp', sleeping: false },
  { name: 'forward: C, spinning', way: 'c', sleeping: false },
  { name: 'forward: sluice, spinning', way: 'typescript', sleeping: false },
  { name: 'forward: C, sleeping', way: 'c', sleeping: true },
  { name: 'forward: sluice, sleeping', way: 'typescript', sleeping: true },
];

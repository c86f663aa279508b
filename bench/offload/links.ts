/** What drivers have counted of packets. */
import type { Namespace } from '../../src/playground/netns.js';

/** Of veth pairs, at the end that receives. */
export interface LinkCounts {
  /** That came to its XDP program, or to NAPI without one; and their bytes as veth counts them. */
  packets: number;
  bytes: number;
  /** Of these, dropped by the XDP program. */
  drops: number;
  /** What the sending end could not hand over: its other end's ring was full. */
  txDropped: number;
}

interface LinkStatistics {
  stats64: { tx: { packets: number; dropped: number } };
}

/** What an interface sent, and could not send. */
export function transmitted(namespace: Namespace, name: string): { packets: number; dropped: number } {
  const [link] = namespace.query<LinkStatistics[]>('link', 'show', 'dev', name);
  return link.stats64.tx;
}

/** Of one interface. `sending`: namespace and name of the other end. */
export function linkCounts(namespace: Namespace, name: string, from: Namespace, by: string): LinkCounts {
  const said = namespace.exec('ethtool', '-S', name);
  const counter = (what: string): number => Number(new RegExp(`rx_queue_0_${what}: (\\d+)`).exec(said)?.[1]);
  return {
    packets: counter('xdp_packets'),
    bytes: counter('xdp_bytes'),
    drops: counter('xdp_drops'),
    txDropped: transmitted(from, by).dropped,
  };
}

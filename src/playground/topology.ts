/**
 * The little internet of the demo and of the whole-system tests:
 *
 *     client ──┐                       client sends to the VIP through lb (its route says so),
 *   attacker ──┤                       lb hands each packet, wrapped in an outer header, to a backend,
 *              switch (bridge)         the backend answers the client straight over the switch (DSR).
 *         lb ──┤
 *    b1 … bN ──┘
 *
 * All of it is in namespaces of one Playground. Addresses: 10.77.0.0/24 and fd77::/64 on the switch, both made to be
 * private; the VIPs are from the blocks kept for documentation (RFC 5737, RFC 3849).
 */
import { addBackend, addHost, addSwitch, INNER_MTU, VIP4, VIP6, type Host } from './hosts.js';
import type { Namespace, Playground } from './netns.js';

export { HOST_INTERFACE, INNER_MTU, VIP4, VIP6, type Host } from './hosts.js';

/** RX and TX queues of lb's interface: two, so that two workers share the load. */
export const LB_QUEUES = 2;

export interface TopologyOptions {
  /** Number of backend hosts, 1-9; default 3. */
  backends?: number;
  /** Queues of lb's interface; default `LB_QUEUES`. */
  queues?: number;
}

export interface Topology {
  playground: Playground;
  switch: Namespace;
  client: Host;
  attacker: Host;
  lb: Host;
  backends: Host[];
}

/** Last byte of each host's addresses. Backend n has 10 + n. */
const HOST_NUMBERS = { client: 1, lb: 2, attacker: 66 } as const;

/**
 * Builds it in a playground, synchronously, in about half a second. When it throws, closing the playground removes what
 * was made so far.
 */
export function buildTopology(playground: Playground, options: TopologyOptions = {}): Topology {
  const queues = options.queues ?? LB_QUEUES;
  const fabric = addSwitch(playground);
  const lb = addHost(playground, fabric, 'lb', HOST_NUMBERS.lb, { queues, mtu: INNER_MTU });
  const client = addHost(playground, fabric, 'client', HOST_NUMBERS.client, { queues: 1, mtu: 1500 });
  const attacker = addHost(playground, fabric, 'attacker', HOST_NUMBERS.attacker, { queues: 1, mtu: 1500 });
  for (const sender of [client, attacker]) {
    sender.namespace.ip(`route add ${VIP4}/32 via ${lb.address4}`, `route add ${VIP6}/128 via ${lb.address6}`);
  }
  const backends: Host[] = [];
  for (let i = 1; i <= (options.backends ?? 3); i++) backends.push(addBackend(playground, fabric, i));
  return { playground, switch: fabric, client, attacker, lb, backends };
}

/** Another backend host, for a playground that is up. */
export function growTopology(topology: Topology): Host {
  const host = addBackend(topology.playground, topology.switch, topology.backends.length + 1);
  topology.backends.push(host);
  return host;
}

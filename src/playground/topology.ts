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
import type { Namespace, Playground } from './netns.js';

export const VIP4 = '198.51.100.10';
export const VIP6 = '2001:db8:100::10';

/** Interface of every host, the other end being a port of the switch. */
export const HOST_INTERFACE = 'net0';

/**
 * MTU between lb and the backends, bytes: the client's 1500 plus room for an outer IPv6 header. Hosts in front keep 1500.
 */
export const INNER_MTU = 1560;

/** RX and TX queues of lb's interface: two, so that two workers share the load. */
export const LB_QUEUES = 2;

export interface Host {
  /** "client", "attacker", "lb", "b1" … */
  name: string;
  namespace: Namespace;
  address4: string;
  address6: string;
}

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
  const fabric = playground.namespace('switch');
  fabric.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1, 'net/ipv6/conf/default/disable_ipv6': 1 });
  fabric.ip(
    // No STP: a port forwards at once. No snooping: neighbour discovery reaches everybody without a querier.
    `link add name br0 mtu ${INNER_MTU} type bridge stp_state 0 mcast_snooping 0`,
    'link set br0 up',
  );
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

function addHost(
  playground: Playground,
  fabric: Namespace,
  role: string,
  number: number,
  wire: { queues: number; mtu: number },
): Host {
  const namespace = playground.namespace(role);
  namespace.sysctl({
    'net/ipv4/conf/all/rp_filter': 0,
    'net/ipv4/conf/default/rp_filter': 0,
    // Addresses are ours by construction: no duplicate address detection, no routers to look for.
    'net/ipv6/conf/all/accept_dad': 0,
    'net/ipv6/conf/default/accept_dad': 0,
    'net/ipv6/conf/default/accept_ra': 0,
    'net/ipv6/conf/default/router_solicitations': 0,
    // Routers spread flows by the five-tuple. Linux by a number that TCP draws anew after a timeout: keep the first.
    'net/core/txrehash': 0,
  });
  // The port has as many queues as the host: the sender's side of a veth pair picks the receiver's queue, by flow. A host
  // that sends to lb has one queue: the kernel would carry its choice of queue on to lb, and both would be the same.
  playground.veth(
    { namespace, name: HOST_INTERFACE, queues: wire.queues, mtu: wire.mtu },
    { namespace: fabric, name: role, queues: wire.queues, mtu: INNER_MTU },
  );
  const host = { name: role, namespace, address4: `10.77.0.${number}`, address6: `fd77::${number.toString(16)}` };
  fabric.ip(`link set ${role} master br0`, `link set ${role} up`);
  namespace.ip(
    `link set ${HOST_INTERFACE} up`,
    `address add ${host.address4}/24 dev ${HOST_INTERFACE}`,
    `address add ${host.address6}/64 dev ${HOST_INTERFACE} nodad`,
  );
  return host;
}

/** A backend owns the VIPs without ever saying so on the wire: they are on lo, and ARP answers only for the interface's own. */
function addBackend(playground: Playground, fabric: Namespace, index: number): Host {
  const host = addHost(playground, fabric, `b${index}`, 10 + index, { queues: 1, mtu: INNER_MTU });
  host.namespace.sysctl({
    'net/ipv4/conf/all/arp_ignore': 1,
    'net/ipv4/conf/all/arp_announce': 2,
    // What the decapsulator's second hop looks routes up by.
    'net/ipv4/conf/lo/forwarding': 1,
    'net/ipv6/conf/lo/forwarding': 1,
  });
  host.namespace.ip(`address add ${VIP4}/32 dev lo`, `address add ${VIP6}/128 dev lo nodad`);
  return host;
}

/** Hosts of the playground: a namespace each, with one interface whose other end is a port of a switch, and its addresses. */
import type { Namespace, Playground } from './netns.js';

export const VIP4 = '198.51.100.10';
export const VIP6 = '2001:db8:100::10';

/** Interface of every host, the other end being a port of the switch. */
export const HOST_INTERFACE = 'net0';

/**
 * MTU between lb and the backends, bytes: the client's 1500 plus room for an outer IPv6 header. Hosts in front keep 1500.
 */
export const INNER_MTU = 1560;

export interface Host {
  /** "client", "attacker", "lb", "b1" … */
  name: string;
  namespace: Namespace;
  address4: string;
  address6: string;
}

/** How a host hangs on its wire. */
export interface Wire {
  /** RX and TX queues of both ends. */
  queues: number;
  /** Of the host's end, bytes. */
  mtu: number;
  /** Of the switch's port, bytes; default INNER_MTU. */
  portMtu?: number;
}

/** The switch of a playground: a bridge `br0` alone in its namespace. */
export function addSwitch(playground: Playground, mtu = INNER_MTU): Namespace {
  const fabric = playground.namespace('switch');
  fabric.sysctl({ 'net/ipv6/conf/all/disable_ipv6': 1, 'net/ipv6/conf/default/disable_ipv6': 1 });
  fabric.ip(
    // No STP: a port forwards at once. No snooping: neighbour discovery reaches everybody without a querier.
    `link add name br0 mtu ${mtu} type bridge stp_state 0 mcast_snooping 0`,
    'link set br0 up',
  );
  return fabric;
}

/** A namespace whose addresses and routes are ours by construction. */
export function addNamespace(playground: Playground, role: string): Namespace {
  const namespace = playground.namespace(role);
  namespace.sysctl({
    'net/ipv4/conf/all/rp_filter': 0,
    'net/ipv4/conf/default/rp_filter': 0,
    // No duplicate address detection, no routers to look for.
    'net/ipv6/conf/all/accept_dad': 0,
    'net/ipv6/conf/default/accept_dad': 0,
    'net/ipv6/conf/default/accept_ra': 0,
    'net/ipv6/conf/default/router_solicitations': 0,
    // Routers spread flows by the five-tuple. Linux by a number that TCP draws anew after a timeout: keep the first.
    'net/core/txrehash': 0,
  });
  return namespace;
}

/** A host on the switch, with the addresses 10.77.0.`number` and fd77::`number`. */
export function addHost(playground: Playground, fabric: Namespace, role: string, number: number, wire: Wire): Host {
  const namespace = addNamespace(playground, role);
  // The port has as many queues as the host: the sender's side of a veth pair picks the receiver's queue, by flow. A host
  // that sends to lb has one queue: the kernel would carry its choice of queue on to lb, and both would be the same.
  playground.veth(
    { namespace, name: HOST_INTERFACE, queues: wire.queues, mtu: wire.mtu },
    { namespace: fabric, name: role, queues: wire.queues, mtu: wire.portMtu ?? INNER_MTU },
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

/**
 * Backend number `index`, from 1. It owns the VIPs without ever saying so on the wire: they are on lo, and ARP answers only for
 * the interface's own.
 */
export function addBackend(playground: Playground, fabric: Namespace, index: number, mtu = INNER_MTU): Host {
  const wire = { queues: 1, mtu, portMtu: mtu };
  const host = addHost(playground, fabric, `b${index}`, 10 + index, wire);
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

/**
 * Several sluices behind a router that spreads flows over them by equal-cost multipath (ECMP):
 *
 *                                    ┌── lb1 ┐
 *     client ── router ── switch ────┼── lb2 │ …  the router's route to the VIPs has a next hop for each
 *                                    ├── b1  ┐
 *                                    └── b2  │ …  backends answer the client through the router, past the balancers
 *
 * Addresses: 10.77.0.0/24 and fd77::/64 on the switch, 10.78.0.0/24 and fd78::/64 between client and router.
 */
import { bpfObjectPath } from '../native.js';
import {
  addBackend,
  addHost,
  addNamespace,
  addSwitch,
  HOST_INTERFACE,
  INNER_MTU,
  VIP4,
  VIP6,
  type Host,
} from './hosts.js';
import type { Namespace, Playground } from './netns.js';

/** The router’s interfaces: to the client, and to the switch. */
export const FRONT = 'front0';
const BACK = HOST_INTERFACE;

const CLIENT = { address4: '10.78.0.1', address6: 'fd78::1' };
const ROUTER_FRONT = { address4: '10.78.0.254', address6: 'fd78::254' };
export const CLIENT_PREFIXES = ['10.78.0.0/24', 'fd78::/64'] as const;
/** Of all that sends tunnel packets: balancers and, for the second hop, backends. */
export const SWITCH_PREFIXES = ['10.77.0.0/24', 'fd77::/64'] as const;

/** Last byte of addresses on the switch. Node n has 100 + n, backend n has 10 + n. */
const ROUTER_NUMBER = 254;
const NODE_NUMBERS = 100;

export interface FleetTopologyOptions {
  /** MTU between balancers and backends, bytes; default INNER_MTU, in which every packet of the client fits wrapped. */
  internalMtu?: number;
  /** Queues of each node's interface; default 1. */
  queues?: number;
}

export interface NextHopWeight {
  host: Host;
  /** 1-256, default 1. */
  weight?: number;
}

export class FleetTopology {
  readonly client: Host;
  readonly nodes: Host[] = [];
  /** All that there ever were. */
  readonly backends: Host[] = [];
  private readonly fabric: Namespace;
  readonly router: Host;
  private readonly mtu: number;
  private readonly queues: number;

  /** Client, router and switch; nodes and backends are added. The VIPs lead nowhere until `route`. */
  constructor(
    readonly playground: Playground,
    options: FleetTopologyOptions = {},
  ) {
    this.mtu = options.internalMtu ?? INNER_MTU;
    this.queues = options.queues ?? 1;
    this.fabric = addSwitch(playground, this.mtu);
    this.router = addHost(playground, this.fabric, 'router', ROUTER_NUMBER, {
      queues: 1,
      mtu: this.mtu,
      portMtu: this.mtu,
    });
    const namespace = addNamespace(playground, 'client');
    this.client = { name: 'client', namespace, ...CLIENT };
    playground.veth({ namespace, name: HOST_INTERFACE }, { namespace: this.router.namespace, name: FRONT });
    this.router.namespace.sysctl({
      'net/ipv4/ip_forward': 1,
      'net/ipv6/conf/all/forwarding': 1,
      // By addresses and ports of the packet, not by addresses alone.
      'net/ipv4/fib_multipath_hash_policy': 1,
      'net/ipv6/fib_multipath_hash_policy': 1,
    });
    this.router.namespace.ip(
      `link set ${FRONT} up`,
      `address add ${ROUTER_FRONT.address4}/24 dev ${FRONT}`,
      `address add ${ROUTER_FRONT.address6}/64 dev ${FRONT} nodad`,
    );
    namespace.ip(
      `link set ${HOST_INTERFACE} up`,
      `address add ${CLIENT.address4}/24 dev ${HOST_INTERFACE}`,
      `address add ${CLIENT.address6}/64 dev ${HOST_INTERFACE} nodad`,
      `route add default via ${ROUTER_FRONT.address4}`,
      `route add ::/0 via ${ROUTER_FRONT.address6}`,
    );
    this.route([]);
  }

  addNode(): Host {
    const number = this.nodes.length + 1;
    const wire = { queues: this.queues, mtu: this.mtu, portMtu: this.mtu };
    const host = addHost(this.playground, this.fabric, `lb${number}`, NODE_NUMBERS + number, wire);
    this.routeToClient(host);
    this.nodes.push(host);
    return host;
  }

  addBackend(): Host {
    const host = addBackend(this.playground, this.fabric, this.backends.length + 1, this.mtu);
    this.routeToClient(host);
    // A veth end takes frames of XDP_TX, as the second hop sends them, only with a program (drivers/net/veth.c, veth_xdp_flush).
    this.fabric.ip(`link set ${host.name} xdpdrv object ${bpfObjectPath('pass')} section xdp`);
    this.backends.push(host);
    return host;
  }

  /** Takes a host off the switch, for good: as if its cable were pulled. */
  unplug(host: Host): void {
    host.namespace.ip(`link delete ${HOST_INTERFACE}`);
  }

  /**
   * Where the router sends packets to the VIPs from now on, in one step. Linux spreads by hash threshold (RFC 2992): each next hop
   * has a stretch of the hash space, so when one comes or goes flows of the others change too.
   */
  route(nextHops: readonly NextHopWeight[]): void {
    const line = (family: 4 | 6, vip: string): string => {
      if (nextHops.length === 0) return `route replace blackhole ${vip}`;
      const words = nextHops.map(({ host, weight }) => {
        const via = family === 4 ? host.address4 : host.address6;
        return `nexthop via ${via} dev ${BACK} weight ${weight ?? 1}`;
      });
      return `route replace ${vip} ${words.join(' ')}`;
    };
    this.router.namespace.ip(line(4, `${VIP4}/32`), line(6, `${VIP6}/128`));
  }

  private routeToClient(host: Host): void {
    const [to4, to6] = CLIENT_PREFIXES;
    host.namespace.ip(`route add ${to4} via ${this.router.address4}`, `route add ${to6} via ${this.router.address6}`);
  }
}

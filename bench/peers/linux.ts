/** The kernel as a forwarder between d0 and d1: how it is told to, and how all of it is undone. */
import type { Namespace } from '../../src/playground/netns.js';
import type { PeerKind } from './peers.js';

export type LinuxPeer = Exclude<PeerKind, 'testpmd-io' | 'testpmd-mac'>;

export interface LinuxPlan {
  /** Balanced or routed address, and its port. */
  vip: string;
  port: number;
  backends: number;
  /** Hardware address behind d1. */
  nextHop: string;
  /** That of d0, which packets are sent to. */
  d0: string;
}

const BRIDGE = 'br0';
const NODE = '192.0.2.1';
const GATEWAY = '192.0.2.2';
const FIRST_BACKEND = 10;

/** Packets of the VIP to backends by a hash of source address and port, as text for `nft -f`. */
export function nftRules(kind: 'nft-dnat' | 'nft-stateless', { vip, port, backends }: LinuxPlan): string {
  const members = Array.from({ length: backends }, (_, i) => `${i} : 192.0.2.${FIRST_BACKEND + i}`);
  const to = `jhash ip saddr . udp sport mod ${backends} map { ${members.join(', ')} }`;
  const [hook, act] =
    kind === 'nft-dnat'
      ? ['type nat hook prerouting priority dstnat', `dnat to ${to}`]
      : ['type filter hook prerouting priority raw', `notrack ip daddr set ${to}`];
  return `table ip peer {\n  chain pre {\n    ${hook}\n    ip daddr ${vip} udp dport ${port} ${act}\n  }\n}\n`;
}

/** Has the kernel forward what comes into d0 out of d1, to `nextHop`. */
export function arrange(node: Namespace, kind: LinuxPeer, plan: LinuxPlan, rulesPath: string): void {
  // A veth takes frames of the generator only if it polls (NAPI), which an XDP program or GRO brings about.
  node.exec('ethtool', '-K', 'd0', 'gro', 'on');
  if (kind === 'bridge') {
    node.ip(
      `link add ${BRIDGE} type bridge stp_state 0 mcast_snooping 0`,
      `link set d0 master ${BRIDGE}`,
      `link set d1 master ${BRIDGE}`,
      // The generator's frames are for d0, which would keep them.
      'link set d0 address 02:00:00:00:01:aa',
      `link set ${BRIDGE} up`,
    );
    node.exec('bridge', 'fdb', 'replace', plan.d0, 'dev', 'd1', 'master', 'static');
    return;
  }
  node.sysctl({ 'net/ipv4/conf/all/rp_filter': 0, 'net/ipv4/conf/d0/rp_filter': 0, 'net/ipv4/ip_forward': 1 });
  const hops = [GATEWAY, ...Array.from({ length: plan.backends }, (_, i) => `192.0.2.${FIRST_BACKEND + i}`)];
  node.ip(
    `address add ${NODE}/24 dev d1`,
    `route add ${plan.vip} via ${GATEWAY} dev d1`,
    ...hops.map((hop) => `neigh replace ${hop} lladdr ${plan.nextHop} nud permanent dev d1`),
  );
  if (kind === 'ip-forward') return;
  node.exec('nft', '-f', rulesPath);
}

/** Takes back what was arranged. */
export function clear(node: Namespace, kind: LinuxPeer, { d0 }: LinuxPlan): void {
  if (kind === 'bridge') {
    node.ip(`link delete ${BRIDGE}`, `link set d0 address ${d0}`);
  } else {
    node.ip('address flush dev d1', 'neigh flush all');
    node.sysctl({ 'net/ipv4/ip_forward': 0 });
    if (kind !== 'ip-forward') node.exec('nft', 'flush', 'ruleset');
  }
  node.exec('ethtool', '-K', 'd0', 'gro', 'off');
}

/** Packets that IP has dropped for a reason that it counts, in and out, and forwarded ones. */
export function ipCounts(node: Namespace): { forwarded: number; discarded: number } {
  const said = node.exec('cat', '/proc/net/snmp');
  const [names, values] = said.split('\n').filter((line) => line.startsWith('Ip:')).map((line) => line.split(' ')); // prettier-ignore
  const of = (name: string): number => Number(values[names.indexOf(name)]);
  const reasons = ['InHdrErrors', 'InAddrErrors', 'InDiscards', 'InUnknownProtos', 'OutDiscards', 'OutNoRoutes'];
  return { forwarded: of('ForwDatagrams'), discarded: reasons.reduce((sum, name) => sum + of(name), 0) };
}

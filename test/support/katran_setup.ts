/**
 * How the balancer is set up that Katran's tests (`vectors.ts`) are about: VIPs, backends, ids, source routes and build options of each
 * suite, as katran/lib/testing at 19f08fec provisions them. Every suite starts with an empty connection table, and keeps it
 * from case to case; only udp_flow_migration_2 goes on with what udp_flow_migration_1 left.
 */

export type KatranFlag =
  'quic' | 'dport-hash' | 'src-routing' | 'local-vip' | 'udp-stable-routing' | 'udp-flow-migration';

export interface KatranVip {
  address: string;
  /** IPv6 VIPs found by longest prefix; without it the address alone. */
  prefixLength?: number;
  /** 0: any. */
  port: number;
  protocol: 6 | 17;
  flags: KatranFlag[];
  /** In the order of addition; all weights are 1. */
  reals: string[];
  /** Backends called down: with udp-flow-migration their flows are placed anew. */
  down: string[];
}

export interface KatranSetup {
  encap: 'ipip' | 'gue';
  vips: KatranVip[];
  /** Server ids in QUIC connection ids, stable-routing UDP and the TCP option: backends, whether or not the VIP has them. */
  serverIds: ReadonlyMap<number, string>;
  /** Source prefixes whose packets go to a backend of no ring. */
  sourceRoutes: ReadonlyMap<string, string>;
  /** Takes off GUE from any source: for these destinations the packet inside goes through the balancer again. */
  inlineDecap: string[];
  /** The same, but the packet inside goes back out by the port, MAC addresses swapped. */
  egressDecap: string[];
  /** Takes off GUE that is for the balancer's own outer sources, and passes the packet to the kernel. Otherwise GUE is passed as it is. */
  decapOwn: boolean;
  /** Reads server ids in TCP options. */
  tcpServerId: boolean;
  /** Answers frames above 1514 bytes with ICMP; otherwise drops them. */
  icmpTooBig: boolean;
}

export const GUE_PORT = 9886;
export const RING_SIZE = 65537;
/** Outer sources with GUE. With IPIP they derive from the flow. */
export const GUE_SOURCE = { ipv4: '10.0.13.37', ipv6: 'fc00:2307::1337' };
/** Where every encapsulated frame goes. Its source is the destination of the frame that came in. */
export const ROUTER_MAC = '00:00:de:ad:be:af';

const V4 = ['10.0.0.1', '10.0.0.2', '10.0.0.3'];
const V6 = ['fc00::1', 'fc00::2', 'fc00::3'];
const BOTH = [...V4, ...V6];

const UDP = 17;
const TCP = 6;

function vip(address: string, port: number, protocol: 6 | 17, reals: string[], ...flags: KatranFlag[]): KatranVip {
  return { address, port, protocol, reals, flags, down: [] };
}

/** Katran's `prepareLbData` and the two VIPs of `prepareVipUninitializedLbData`. */
function baseVips(): KatranVip[] {
  return [
    vip('10.200.1.1', 80, UDP, V4),
    vip('10.200.1.1', 80, TCP, V4),
    vip('10.200.1.2', 0, TCP, V4),
    vip('10.200.1.4', 0, TCP, V4, 'dport-hash'),
    vip('10.200.1.3', 80, TCP, V6),
    vip('fc00:1::1', 80, TCP, V6),
    vip('10.200.1.5', 443, UDP, V4, 'quic'),
    vip('fc00:1::2', 443, UDP, V6, 'quic'),
    { ...vip('10.200.1.6', 80, UDP, V4, 'udp-flow-migration'), down: ['10.0.0.1'] },
    vip('10.200.1.99', 80, TCP, []),
    vip('fc00:1::11', 80, UDP, []),
  ];
}

/** Those of `baseVips`, with the flags and backends that later provisioning adds to them, and the VIPs that it adds. */
function changedVips(changes: KatranVip[]): KatranVip[] {
  const vips = baseVips();
  for (const change of changes) {
    const old = vips.find(
      (one) => one.address === change.address && one.port === change.port && one.protocol === change.protocol,
    );
    if (!old) vips.push(change);
    else {
      old.flags = [...new Set([...old.flags, ...change.flags])];
      old.reals = [...new Set([...old.reals, ...change.reals])];
    }
  }
  return vips;
}

function prefixVip(address: string, port: number, protocol: 6 | 17, reals: string[]): KatranVip {
  return { ...vip(address, port, protocol, reals), prefixLength: 96 };
}

function migrationVips(): KatranVip[] {
  return changedVips([
    vip('10.200.1.1', 80, UDP, BOTH, 'udp-flow-migration'),
    vip('10.200.1.2', 80, UDP, BOTH, 'udp-flow-migration', 'udp-stable-routing'),
    vip('10.200.1.3', 80, UDP, BOTH),
    vip('10.200.1.4', 80, TCP, BOTH),
  ]);
}

/** `setDownHostForUdpFlowMigration`: 10.0.0.2 goes from two VIPs. */
function migrationVipsAfter(): KatranVip[] {
  const gone = '10.0.0.2';
  return migrationVips().map((one) =>
    one.protocol === UDP && one.port === 80 && ['10.200.1.1', '10.200.1.2'].includes(one.address)
      ? { ...one, reals: one.reals.filter((real) => real !== gone), down: [gone] }
      : one,
  );
}

/** `addQuicMappings`: each backend with its id for 16-bit connection ids, and with 3 in the third byte for 24-bit ones. */
function serverIds(): Map<number, string> {
  const ids = [1022, 1023, 1025, 1024, 1026, 1027];
  return new Map(
    ids.flatMap((id, i): [number, string][] => [
      [id, BOTH[i]],
      [0x030000 | id, BOTH[i]],
    ]),
  );
}

const SETUPS: Record<string, () => Partial<KatranSetup>> = {
  base: () => ({}),
  gue: () => ({ encap: 'gue' }),
  tpr: () => ({ tcpServerId: true }),
  tpr_gue: () => ({ encap: 'gue', tcpServerId: true }),
  icmp_toobig: () => ({ icmpTooBig: true }),
  gue_icmp_toobig: () => ({ encap: 'gue', icmpTooBig: true }),
  lpm_src: () => ({
    encap: 'gue',
    vips: changedVips([
      vip('10.200.1.1', 80, UDP, [], 'src-routing'),
      vip('fc00:1::1', 80, TCP, [], 'src-routing'),
      vip('10.200.1.6', 80, UDP, ['10.0.0.6'], 'local-vip'),
    ]),
    sourceRoutes: new Map([
      ['192.168.0.0/17', 'fc00::2307:1'],
      ['192.168.100.0/24', 'fc00::2307:2'],
      ['fc00:2307::/32', 'fc00::2307:3'],
      ['fc00:2307::/64', 'fc00::2307:4'],
      ['fc00:2::/64', 'fc00::2307:10'],
    ]),
    inlineDecap: ['fc00:1404::1'],
  }),
  cidr_vip: () => ({
    encap: 'gue',
    vips: [
      prefixVip('fc00:1::', 0, TCP, ['fc00::1', 'fc00::2']),
      prefixVip('fc00:2::', 443, TCP, ['fc00::3', 'fc00::4']),
      prefixVip('fc00:3::', 0, UDP, ['fc00::5', 'fc00::6']),
      prefixVip('fc00:4::', 443, UDP, ['fc00::7', 'fc00::8']),
    ],
  }),
  udp_stable_rt: () => ({
    encap: 'gue',
    vips: changedVips([
      vip('fc00:1::9', 80, UDP, V6, 'udp-stable-routing'),
      vip('10.200.1.90', 80, UDP, V4, 'udp-stable-routing'),
    ]),
  }),
  decap_stats: () => ({ encap: 'gue', decapOwn: true }),
  xpop_decap: () => ({
    encap: 'gue',
    vips: changedVips([vip('10.200.1.2', 80, UDP, V6)]),
    inlineDecap: ['fc00:1404::1'],
    decapOwn: true,
  }),
  egress_decap: () => ({
    encap: 'gue',
    vips: changedVips([vip('10.200.1.2', 80, UDP, V6)]),
    inlineDecap: ['fc00:1404::1'],
    egressDecap: ['fc00:1405::1'],
    decapOwn: true,
  }),
  udp_flow_migration_1: () => ({ encap: 'gue', vips: migrationVips() }),
  udp_flow_migration_2: () => ({ encap: 'gue', vips: migrationVipsAfter() }),
};

/** The set-up of a suite of packets; null for `hc`, which is about health checks. */
export function katranSetup(suite: string): KatranSetup | null {
  const setup = SETUPS[suite];
  if (!setup) return null;
  return {
    encap: 'ipip',
    vips: baseVips(),
    serverIds: serverIds(),
    sourceRoutes: new Map(),
    inlineDecap: [],
    egressDecap: [],
    decapOwn: false,
    tcpServerId: false,
    icmpTooBig: false,
    ...setup(),
  };
}

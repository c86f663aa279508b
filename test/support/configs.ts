/** Configurations for tests of the control plane, made without YAML. */
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import {
  HASH_FIELDS,
  type BackendConfig,
  type Config,
  type EncapsulationConfig,
  type PortRange,
  type ServiceConfig,
} from '../../src/shared/config.js';
import type { NextHop } from '../../src/control/routes.js';

/** "80" or "8000-8080". */
function portRange(text: string): PortRange {
  const [first, last = first] = text.split('-').map(Number);
  return { first, last };
}

/** A backend as "10.0.0.1", "10.0.0.1*5" (weight) or "10.0.0.1 draining". */
export function makeBackend(text: string): BackendConfig {
  const [place, state = 'active'] = text.split(' ');
  const [address, weight = '1'] = place.split('*');
  return {
    address: parseAddress(address),
    weight: Number(weight),
    state: state as BackendConfig['state'],
    serverIds: [],
  };
}

export const IPIP: EncapsulationConfig = {
  kind: 'ipip',
  source4: null,
  source6: null,
  gue: { port: 6080, variant: 1, checksum: 'zero' },
};

export interface ServiceSketch {
  name?: string;
  vip?: string;
  ports?: string[];
  protocols?: number[];
  ringSize?: number;
  flowTable?: boolean;
  backends?: string[];
  /** Whatever else is not as usual. */
  more?: Partial<ServiceConfig>;
}

export function makeService(sketch: ServiceSketch = {}): ServiceConfig {
  const vip = parsePrefix(sketch.vip ?? '192.0.2.1');
  return {
    name: sketch.name ?? 'web',
    vip,
    ports: (sketch.ports ?? ['80']).map(portRange),
    protocols: sketch.protocols ?? [6],
    ringSize: sketch.ringSize ?? 251,
    flowTable: sketch.flowTable ?? true,
    backends: (sketch.backends ?? ['10.0.0.1', '10.0.0.2', '10.0.0.3']).map(makeBackend),
    encapsulation: IPIP,
    hash: 'sluice',
    hashFields: [...HASH_FIELDS],
    hops: 1,
    glb: null,
    flood: { maxNewPerSecond: 0, above: 'bypass' },
    drain: { timeout: 0, udp: 'keep' },
    health: null,
    quic: null,
    tcpServerId: false,
    stableUdp: false,
    sourceRoutes: [],
    mssClamp: 'off',
    ...sketch.more,
  };
}

const NO_MITIGATION: Config['mitigation'] = {
  challenge: {
    mode: 'off',
    above: 2000,
    below: 500,
    hold: 10,
    scope: 'source',
    connections: 16,
    lifetime: 60,
    sources: 1024,
    maxPerSecond: 1_000_000,
  },
  tcpState: {
    mode: 'off',
    connections: 1024,
    adopt: 'learning',
    learn: 900,
    window: 2 ** 30,
    timeouts: { fresh: 90, open: 10_800, closing: 600, closed: 10 },
  },
  fairShare: { rate: null, share: 'fair', prefixes4: [24], prefixes6: [64, 48], columns: 512 },
  limits: [],
};

export function makeConfig(parts: Partial<Config> = {}): Config {
  return {
    path: '',
    interfaces: [],
    frames: { count: 4096, size: 2048, hugepages: false, ring: 1024, burst: 64 },
    flows: {
      slots: 4096,
      maxNewPerSecond: 0,
      timeouts: { tcpSyn: 5, tcpEstablished: 300, tcpClosing: 10, udp: 30, other: 30 },
    },
    encapsulation: IPIP,
    icmp: { echo: 'answer', tooBig: 'reply', maxPerSecond: 1000 },
    fragments: { policy: 'follow', outOfOrder: 'hold', slots: 4096, timeout: 2, held: 256 },
    decapsulate: { addresses: [], sources: [], guePorts: [6080] },
    hashKey: [1, 2, 3, 4],
    services: [],
    filters: [],
    rules: [],
    offload: 'off',
    flowOffload: 'off',
    allow: { prefixes: [], sets: [] },
    mitigation: NO_MITIGATION,
    sets: [],
    metrics: { listen: null },
    control: { socket: '/run/sluice/control.sock' },
    log: { level: 'silent', format: 'auto' },
    warnings: [],
    ...parts,
  };
}

/** A resolved next hop on eth0 with made-up hardware addresses. */
export function makeNextHop(address: string, parts: Partial<NextHop> = {}): NextHop {
  return {
    address,
    interface: 'eth0',
    gateway: null,
    source: parseAddress(address.includes(':') ? '2001:db8:ffff::1' : '10.255.0.1'),
    smac: Uint8Array.of(0x02, 0, 0, 0, 0, 0x01),
    dmac: Uint8Array.of(0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0xee),
    mtu: 1500,
    resolved: true,
    error: null,
    ...parts,
  };
}

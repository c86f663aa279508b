/** The configuration of a fleet's nodes: the same on every node but for the path of the control socket. */
import { stringify } from 'yaml';
import { ECHO_PORT, HTTP_PORT } from './backends.js';
import { HOST_INTERFACE, VIP4, VIP6, type Host } from './hosts.js';

/** Services of a fleet: the VIP of each family, with HTTP and the echo. */
export const FLEET_SERVICES = { 4: 'web4', 6: 'web6' } as const;

/**
 * One key for all nodes: without a key of one's own anybody can compute which backend a flow goes to, with a different one on
 * each node two nodes would give a flow to different backends.
 */
const HASH_KEY = '7d1f0c5ab2e94463a5b1cc9e64f0d712';

export interface FleetBackend {
  host: Host;
  state: 'active' | 'draining';
}

/** How the services balance; keys as in the configuration file. */
export interface FleetPolicy {
  flow_table?: boolean;
  hops?: 1 | 2 | 3;
  encapsulation?: object;
  mss_clamp?: string;
}

/** Chains of backends, for which only GUE variant 0 has a place. */
export const GUE_CHAINS = { kind: 'gue', gue: { variant: 0 } } as const;

/** Text of a node's file. `settings`: more keys of it, in place of those here where they are the same. */
export function fleetConfigText(
  backends: readonly FleetBackend[],
  policy: FleetPolicy,
  controlSocket: string,
  settings: object = {},
): string {
  const service = (family: 4 | 6) => ({
    name: FLEET_SERVICES[family],
    vip: family === 4 ? VIP4 : VIP6,
    protocol: 'tcp',
    port: [ECHO_PORT, HTTP_PORT],
    ring_size: 4099,
    ...policy,
    backends: backends.map(({ host, state }) => ({ address: family === 4 ? host.address4 : host.address6, state })),
  });
  return stringify({
    interfaces: [{ name: HOST_INTERFACE }],
    frames: { count: 8192, ring: 2048 },
    // "Flows left" is what a drain waits for: a connection that was closed is to be forgotten soon.
    flows: { slots: 8192, timeouts: { tcp_closing: 1, tcp_syn: 3 } },
    hash_key: HASH_KEY,
    services: [service(4), service(6)],
    metrics: 'off',
    control: { socket: controlSocket },
    log: { level: 'info', format: 'json' },
    ...settings,
  });
}

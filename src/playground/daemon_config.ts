/** The configuration that sluice runs with in the playground: the same YAML that a person would write. */
import { stringify } from 'yaml';
import { ECHO_PORT, HTTP_PORT } from './backends.js';
import { HOST_INTERFACE, VIP4, type Topology } from './topology.js';

/** Services of the playground, all behind the IPv4 VIP and with the same backends. */
export const SERVICES = { http: 'http', echo: 'echo', discard: 'discard' } as const;

/** RFC 863: nobody listens there, packets end in the backend's kernel. */
export const DISCARD_PORT = 9;

/** Name of the rule that drops the attacker's UDP. */
export const FLOOD_RULE = 'drop-flood';

export interface PlaygroundBackend {
  address: string;
  weight: number;
  state?: 'active' | 'draining' | 'inactive';
}

export interface PlaygroundConfig {
  backends: readonly PlaygroundBackend[];
  metricsPort: number;
  controlSocket: string;
  /** Where rules run; default off: in the workers. */
  offload?: 'off' | 'auto';
}

/** Text of the file. */
export function configText(topology: Topology, config: PlaygroundConfig): string {
  const service = (name: string, protocol: string, port: number, extra: object = {}) => ({
    name,
    vip: VIP4,
    protocol,
    port,
    ...extra,
    backends: config.backends,
  });
  const document = {
    interfaces: [{ name: HOST_INTERFACE }],
    // A few thousand packets of slack: two CPUs carry everything here, the sender of the flood included.
    frames: { count: 16384, ring: 4096 },
    flows: { slots: 65536 },
    services: [
      service(SERVICES.http, 'tcp', HTTP_PORT),
      // Without flow table, so that what a change of backends does to the ring is seen at once.
      service(SERVICES.echo, 'udp', ECHO_PORT, { flow_table: false }),
      service(SERVICES.discard, 'udp', DISCARD_PORT),
    ],
    rules: [{ name: FLOOD_RULE, match: { src: topology.attacker.address4, protocol: 'udp' }, action: 'drop' }],
    offload: config.offload ?? 'off',
    metrics: { listen: `127.0.0.1:${config.metricsPort}` },
    control: { socket: config.controlSocket },
    log: { level: 'info', format: 'json' },
  };
  return (
    '# The playground’s sluice. Change it and run: sluice reload --socket ' +
    `${config.controlSocket}\n${stringify(document, { aliasDuplicateObjects: false })}`
  );
}

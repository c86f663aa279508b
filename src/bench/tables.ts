import { parseConfig } from '../control/config/index.js';
import { Publisher } from '../control/publish.js';
import { Registry } from '../control/registry.js';
import type { NextHop } from '../control/routes.js';
import { parseAddress } from '../shared/addr.js';
import type { Tables } from '../shared/layout.js';
import type { BalancedService } from './modes.js';

/** First of the rules' ports; rule i is for the i-th after it. */
export const FIRST_RULE_PORT = 1000;
/** For documentation (RFC 5737): the balancer itself, and its backends from 10 on. */
const NETWORK = '192.0.2.';
const OUTER_SOURCE = `${NETWORK}1`;
const FIRST_BACKEND = 10;
const MTU = 1500;

function publish(text: object, interfaces: readonly string[], hops: ReadonlyMap<string, NextHop>): Tables {
  const config = parseConfig(JSON.stringify({ interfaces: interfaces.map((name) => ({ name })), ...text }));
  const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: (path) => path });
  const ports = interfaces.map((name, index) => ({ name, index, repairChecksum: false }));
  return publisher.build(config, { nextHops: hops, overrides: new Map(), ports });
}

/** One service with a flow table, and the default checks in front of it. Packets leave by the last interface, from `sourceMac`. */
export function balancingTables(
  { vip, port, backends, destinationMac }: BalancedService,
  interfaces: readonly string[],
  sourceMac: Uint8Array,
): Tables {
  const addresses = Array.from({ length: backends }, (_, i) => `${NETWORK}${FIRST_BACKEND + i}`);
  const out = interfaces[interfaces.length - 1];
  const hops = addresses.map((address): [string, NextHop] => [
    address,
    {
      address,
      interface: out,
      gateway: null,
      source: parseAddress(OUTER_SOURCE),
      smac: sourceMac,
      dmac: destinationMac,
      mtu: MTU,
      resolved: true,
      error: null,
    },
  ]);
  const service = { name: 'bench', vip: vip.text, protocol: 'udp', port, encapsulation: 'ipip', backends: addresses };
  const flows = { max_new_per_second: 0, timeouts: { udp: '1h' } };
  return publish({ flows, services: [service] }, interfaces, new Map(hops));
}

/** Rules that drop UDP by its destination port, the default checks in front of them, no service. */
export function filterTables(rules: number, interfaces: readonly string[]): Tables {
  const list = Array.from({ length: rules }, (_, i) => ({
    name: `port-${FIRST_RULE_PORT + i}`,
    match: { protocol: 'udp', dport: FIRST_RULE_PORT + i },
    action: 'drop',
  }));
  return publish({ services: [], filters: ['sanity', 'rules'], offload: 'off', rules: list }, interfaces, new Map());
}

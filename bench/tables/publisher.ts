/** A whole generation of tables, as the control plane publishes it. */
import { parseConfig } from '../../src/control/config/index.js';
import { Publisher, type PublishState } from '../../src/control/publish.js';
import { backendKey, Registry } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import { parseAddress } from '../../src/shared/addr.js';
import { ServiceField, type Tables } from '../../src/shared/layout.js';
import { count, sumOf, type BuildCase, type Sizes } from './cases.js';

/** Services share their backends with others, as in a cluster: this many pools, a ring each. */
const POOLS = 100;
const BACKENDS = 10;

function yaml(services: number): string {
  const lines = Array.from({ length: services }, (_, i) => {
    const pool = i % POOLS;
    const backends = Array.from({ length: BACKENDS }, (_, n) => `10.1.${pool}.${n + 1}`).join(', ');
    return `  - { name: s${i}, vip: 198.18.${i >> 8}.${i & 255}, port: 443, backends: [${backends}] }`;
  });
  return `interfaces: [{ name: net0 }]\nservices:\n${lines.join('\n')}\n`;
}

function nextHop(address: string): NextHop {
  return {
    address,
    interface: 'net0',
    gateway: null,
    source: parseAddress('10.0.0.2'),
    smac: Uint8Array.of(2, 0, 0, 0, 0, 1),
    dmac: Uint8Array.of(2, 0, 0, 0, 1, 1),
    mtu: 1500,
    resolved: true,
    error: null,
  };
}

export function* publisherCases({ services }: Sizes): Generator<BuildCase<Tables>> {
  const config = parseConfig(yaml(services));
  const nextHops = new Map<string, NextHop>();
  for (const { backends } of config.services) {
    for (const { address } of backends) nextHops.set(address.text, nextHop(address.text));
  }
  const ports = [{ name: 'net0', index: 0, repairChecksum: false }];
  const state: PublishState = { nextHops, overrides: new Map(), ports };
  const fresh = (): Publisher =>
    new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: (path) => path });
  const check = (tables: Tables): number => {
    const records = new Int32Array(tables.services);
    if (records.length < services * ServiceField.STRIDE) throw new Error(`${records.length} words of services`);
    return tables.rings.reduce((sum, ring) => (sum + sumOf(new Uint16Array(ring))) | 0, sumOf(records));
  };
  const what = `${count(services)} services of ${BACKENDS} backends in ${POOLS} pools`;

  let publisher = fresh();
  yield {
    name: `all tables, ${what}`,
    before: () => (publisher = fresh()),
    build: () => publisher.build(config, state),
    check,
  };
  // One backend of one service comes and goes: its service gets a ring of its own, all others keep theirs.
  const down: PublishState = { ...state, down: new Map([[backendKey('s0', '10.1.0.1'), 'the bench took it out']]) };
  const changing = fresh();
  yield {
    name: `the same again after one backend of one service went down`,
    before: () => changing.build(config, state),
    build: () => changing.build(config, down),
    check,
  };
}

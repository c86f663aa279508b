import { parseConfig } from '../../src/control/config/index.js';
import { Publisher } from '../../src/control/publish.js';
import { Registry } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import { Snapshot } from '../../src/dataplane/snapshot.js';
import type { Tables } from '../../src/shared/layout.js';
import { parseAddress } from '../../src/shared/addr.js';

/** The published tables of a configuration in which every backend is reached through the one interface. */
export function tablesOf(yaml: string): Tables {
  const config = parseConfig(`interfaces: [{ name: net0 }]\n${yaml}`);
  const hops = new Map<string, NextHop>();
  for (const { backends } of config.services) {
    for (const { address } of backends) {
      hops.set(address.text, {
        address: address.text,
        interface: 'net0',
        gateway: null,
        source: parseAddress(address.family === 4 ? '10.0.0.2' : 'fd00::2'),
        smac: Uint8Array.of(2, 0, 0, 0, 0, 1),
        dmac: Uint8Array.of(2, 0, 0, 0, 1, 1),
        mtu: 1500,
        resolved: true,
        error: null,
      });
    }
  }
  const publisher = new Publisher({ registry: new Registry({ now: () => 0 }), resolveModule: (path) => path });
  return publisher.build(config, {
    nextHops: hops,
    overrides: new Map(),
    ports: [{ name: 'net0', index: 0, repairChecksum: false }],
  });
}

export function snapshotOf(yaml: string): Snapshot {
  return new Snapshot(tablesOf(yaml));
}

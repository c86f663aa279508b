/** A publisher, and its tables read as the data plane does. */
import { expect } from 'vitest';
import { Publisher, type PublishState } from '../../src/control/publish.js';
import { Registry, backendKey } from '../../src/control/registry.js';
import type { NextHop } from '../../src/control/routes.js';
import { SluiceError } from '../../src/errors.js';
import type { Config } from '../../src/shared/config.js';
import { BackendField, BackendFlag, ServiceField, type Tables } from '../../src/shared/layout.js';
import { makeConfig, makeNextHop, makeService, type ServiceSketch } from './configs.js';

export const TCP = 6;
export const UDP = 17;
export const { valid, active, draining, ipv6, resolved } = {
  valid: BackendFlag.valid,
  active: BackendFlag.active,
  draining: BackendFlag.draining,
  ipv6: BackendFlag.ipv6,
  resolved: BackendFlag.resolved,
};

/** Of the test in hand. */
export let clock: { ms: number };
export let publisher: Publisher;

/** A publisher of nothing yet, for each test. */
export function renewPublisher(): void {
  clock = { ms: 0 };
  const registry = new Registry({ now: () => clock.ms, reuseAfterMs: 1000 });
  publisher = new Publisher({ registry, resolveModule: (path) => `file:///etc/sluice/${path}` });
}

export function stateOf(config: Config, parts: Partial<PublishState> = {}): PublishState {
  const addresses = config.services.flatMap((service) => service.backends.map(({ address }) => address.text));
  const nextHops = new Map(addresses.map((address) => [address, makeNextHop(address)]));
  return { nextHops, overrides: new Map(), ports: [{ name: 'eth0', index: 0, repairChecksum: false }], ...parts };
}

export function build(
  services: ServiceSketch[],
  parts: Partial<PublishState> = {},
  config: Partial<Config> = {},
): Tables {
  const whole = makeConfig({ services: services.map(makeService), ...config });
  return publisher.build(whole, stateOf(whole, parts));
}

export function hops(...list: NextHop[]): Map<string, NextHop> {
  return new Map(list.map((hop) => [hop.address, hop]));
}

/** Record of a backend, by field. */
export function backendOf(tables: Tables, service: string, address: string): Int32Array {
  const { number } = publisher.numbers.backends.get(backendKey(service, address))!;
  return new Int32Array(tables.backends).slice(number * BackendField.STRIDE, (number + 1) * BackendField.STRIDE);
}

export function flagsOf(tables: Tables, service: string, address: string): number {
  return backendOf(tables, service, address)[BackendField.flags];
}

export function serviceOf(tables: Tables, name: string): Int32Array {
  const at = publisher.numbers.services.get(name)!.number * ServiceField.STRIDE;
  return new Int32Array(tables.services).slice(at, at + ServiceField.STRIDE);
}

/** Addresses that a service's ring leads to, with their number of slots: the tables followed as the data plane does. */
export function spreadOf(tables: Tables, name: string): Record<string, number> {
  const service = serviceOf(tables, name);
  if (service[ServiceField.ring] < 0) return {};
  const list = new Int32Array(tables.backendList);
  const backends = new Int32Array(tables.backends);
  const spread: Record<string, number> = {};
  for (const position of new Uint16Array(tables.rings[service[ServiceField.ring]])) {
    expect(position).toBeLessThan(service[ServiceField.listLength]);
    const backend = list[service[ServiceField.listStart] + position];
    const word = backends[backend * BackendField.STRIDE + BackendField.addr0];
    const text = [24, 16, 8, 0].map((shift) => (word >>> shift) & 255).join('.');
    spread[text] = (spread[text] ?? 0) + 1;
  }
  return spread;
}

export function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof SluiceError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'did not throw';
}

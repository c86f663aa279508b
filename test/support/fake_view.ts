import { CounterBook } from '../../src/control/metrics/book.js';
import type { BackendView, RuntimeView, ServiceView } from '../../src/control/api/view.js';

/** A backend with number n, 10.1.x.y, resolved and active. */
export function fakeBackend(number: number, change: Partial<BackendView> = {}): BackendView {
  return {
    number,
    address: `10.1.${(number >> 8) & 255}.${number & 255}`,
    weight: 1,
    state: 'active',
    reason: 'config',
    sinceMs: Date.now() - 90_000,
    health: null,
    nextHop: '02:00:00:00:00:01',
    interface: 'veth0',
    ...change,
  };
}

export function fakeService(number: number, name: string, backends: BackendView[]): ServiceView {
  return { number, name, vip: '192.0.2.1', ports: '80', protocols: 'tcp', backends };
}

/** A daemon with two workers on one interface, one service with two backends, two rules; all is well. */
export function fakeView(change: Partial<RuntimeView> = {}): RuntimeView {
  return {
    version: '0.1.0',
    pid: 4242,
    startedAtMs: Date.now() - 90_000,
    configPath: '/etc/sluice/sluice.yaml',
    generation: 3,
    lastReload: { success: true, atMs: 1_700_000_000_000, error: '' },
    counters: new CounterBook(),
    workers: [0, 1].map((queue) => ({
      queue,
      up: true,
      restarts: 0,
      problem: '',
      ports: [{ index: 0, interface: 'veth0', queue }],
    })),
    interfaces: [
      {
        name: 'veth0',
        ifindex: 7,
        mode: 'native',
        zeroCopy: false,
        up: true,
        queues: 2,
        unboundQueues: [],
        xdp: () => ({ pass: 5, redirect: 95 }),
      },
    ],
    services: [fakeService(0, 'web', [fakeBackend(0), fakeBackend(1, { weight: 3 })])],
    rules: [
      { id: 0, name: 'drop-flood', action: 'drop', mode: 'enforce' },
      { id: 1, name: 'see-dns', action: 'count', mode: 'enforce' },
    ],
    limits: [{ id: 2, name: 'dns', key: 'limit/dns' }],
    rulesExpired: 0,
    sets: [],
    filters: [],
    ...change,
  };
}

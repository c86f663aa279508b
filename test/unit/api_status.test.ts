import { describe, expect, it } from 'vitest';
import { resolveBackend } from '../../src/control/api/resolve.js';
import { buildStatus } from '../../src/control/api/status.js';
import { missing } from '../../src/control/api/view.js';
import { Counter, CounterBlock, PortCounter, RuleCounter } from '../../src/shared/layout.js';
import { fakeBackend, fakeService, fakeView } from '../support/fake_view.js';

describe('names', () => {
  it('of backends need no service while only one has the address', () => {
    const services = [fakeService(0, 'a', [fakeBackend(1)]), fakeService(1, 'b', [fakeBackend(2), fakeBackend(3)])];
    expect(resolveBackend(services, undefined, '10.1.0.3').service.name).toBe('b');
    services.push(fakeService(2, 'c', [fakeBackend(4, { address: '10.1.0.3' })]));
    expect(() => resolveBackend(services, undefined, '10.1.0.3')).toThrow('in more than one service: b, c');
    expect(() => resolveBackend(services, undefined, '9.9.9.9')).toThrow('no service has a backend "9.9.9.9"');
  });

  it('of IPv6 backends may be written in any way', () => {
    const services = [fakeService(0, 'a', [fakeBackend(1, { address: 'fd00::a:1' })])];
    for (const text of ['fd00::a:1', 'FD00::A:1', 'fd00:0:0::a:1', 'fd00:0000:0000:0000:0000:0000:000a:0001']) {
      expect(resolveBackend(services, 'a', text).backend.address, text).toBe('fd00::a:1');
    }
    expect(() => resolveBackend(services, 'a', 'fd00::a:2')).toThrow('no backend "fd00::a:2"');
  });
});

describe('status', () => {
  it('reads the counters of the moment, by name', () => {
    const view = fakeView();
    const block = new Float64Array(view.counters.worker(1).block);
    block[Counter.rx] = 12;
    block[Counter.drop] = 12;
    block[CounterBlock.reasons + 18] = 12;
    block[CounterBlock.rules + RuleCounter.packets] = 12;
    block[CounterBlock.ports + PortCounter.kernelRxRingFull] = 3;
    block[CounterBlock.ports + PortCounter.kernelRxDropped] = 4;
    const status = buildStatus(view, 777);
    expect(status).toMatchObject({
      ready: true,
      clockMs: 777,
      generation: 3,
      drops: { rule: 12 },
      totals: { rx: 12, drop: 12 },
      violations: [],
    });
    expect(status.uptimeSeconds).toBeGreaterThan(89);
    expect(status.rules[0]).toMatchObject({
      name: 'drop-flood',
      action: 'drop',
      mode: 'enforce',
      packets: 12,
      bytes: 0,
    });
    expect(status.workers[1]).toMatchObject({ queue: 1, rx: 12, kernelLost: 7 });
    expect(status.interfaces[0]).toMatchObject({ name: 'veth0', xdp: { pass: 5, redirect: 95 } });
    expect(JSON.parse(JSON.stringify(status))).toEqual(status);
  });

  it('goes on when an interface’s XDP counters cannot be read', () => {
    const view = fakeView();
    const broken = {
      ...view.interfaces[0],
      xdp: () => {
        throw new Error('ENODEV');
      },
    };
    expect(buildStatus({ ...view, interfaces: [broken] }).interfaces[0].xdp).toBeNull();
  });

  it('names everything that keeps it from serving', () => {
    const view = fakeView();
    const worker = { ...view.workers[1], up: false, problem: 'queue 1 is busy' };
    const detached = { ...view.interfaces[0], mode: null };
    const down = { ...view.interfaces[0], name: 'veth1', up: false };
    expect(missing({ ...view, workers: [view.workers[0], worker], interfaces: [detached, down] })).toEqual([
      'worker 1 is down: queue 1 is busy',
      'interface veth0 has no XDP program attached',
      'interface veth1 is down',
    ]);
    expect(missing({ ...view, workers: [] })).toContain('no worker has been started');
  });
});

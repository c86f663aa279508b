/** Five thousand real checks: what they cost the thread that they share with everything else of the control plane. */
import { createServer, type AddressInfo } from 'node:net';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { expect, it } from 'vitest';
import { HealthMonitor } from '../../src/control/health/monitor.js';
import { parseAddress, parsePrefix } from '../../src/shared/addr.js';
import type { HealthConfig } from '../../src/shared/health_config.js';

const TARGETS = 5000;

it('checks 5,000 backends every 2 s without holding the event loop up', async () => {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', 4096, resolve));
  const { port } = server.address() as AddressInfo;
  const config: HealthConfig = {
    check: { type: 'tcp' },
    port,
    intervalMs: 2000,
    timeoutMs: 1000,
    rise: 2,
    fall: 3,
    jitter: 0.1,
    through: 'direct',
    allDown: 'drop',
    flap: null,
  };
  const [address, vip] = [parseAddress('127.0.0.1'), parsePrefix('192.0.2.1')];
  const monitor = new HealthMonitor();
  monitor.setTargets(
    Array.from({ length: TARGETS }, (_, i) => ({ key: `s ${i}`, service: 's', address, vip, port, config })),
  );
  const loop = monitorEventLoopDelay({ resolution: 5 });
  const cpu = process.cpuUsage();
  loop.enable();
  const counted = (): number => monitor.all().reduce((sum, { ok }) => sum + ok, 0);
  await new Promise((resolve) => setTimeout(resolve, 3500));
  // Where the processors are busy it takes longer.
  for (let i = 0; i < 100 && counted() <= TARGETS * 1.2; i++) await new Promise((resolve) => setTimeout(resolve, 100));
  loop.disable();
  const { user, system } = process.cpuUsage(cpu);
  const all = monitor.all();
  const done = counted();
  await monitor.close();
  await new Promise((resolve) => server.close(resolve));
  const ms = (percent: number) => (loop.percentile(percent) / 1e6 - 5).toFixed(1);
  console.log(
    `${done} checks in 3.5 s, ${((user + system) / done).toFixed(0)} µs of processor each with the server's part; ` +
      `event loop late by ${ms(50)} ms (median), ${ms(99)} ms (p99), ${ms(100)} ms (worst)`,
  );
  // Every backend was asked in the first interval, and most of them again.
  expect(all.filter(({ up }) => up === true)).toHaveLength(TARGETS);
  expect(done).toBeGreaterThan(TARGETS * 1.2);
  expect(all.reduce((sum, { failed, skipped }) => sum + failed + skipped, 0)).toBeLessThan(TARGETS / 100);
  // A loaded machine may take turns away; were all checks begun at once, half of the time would be one turn.
  expect(loop.percentile(99) / 1e6).toBeLessThan(500);
});

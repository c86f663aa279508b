/** When health has the tables built again: real checks over loopback, of backends that are all one server. */
import { createServer, type AddressInfo } from 'node:net';
import { PassThrough } from 'node:stream';
import { expect, it, onTestFinished } from 'vitest';
import { parseConfig } from '../../src/control/config/index.js';
import { createLog } from '../../src/control/log.js';
import { BackendStates } from '../../src/control/manager/backend_states.js';
import { backendKey } from '../../src/control/registry.js';

const BACKENDS = 30;

/** Builds tables as the manager does, as far as BackendStates sees it; each time takes `buildMs`. */
async function started(buildMs: number) {
  const server = createServer((socket) => socket.on('error', () => undefined).resume());
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', 1024, resolve));
  const { port } = server.address() as AddressInfo;
  const addresses = Array.from({ length: BACKENDS }, (_, i) => `127.0.1.${i + 1}`);
  const config = parseConfig(
    `interfaces: [eth0]
services:
  - name: web
    vip: 198.51.100.10
    port: 80
    health: { type: tcp, port: ${port}, interval: 100ms, timeout: 2s, fall: 1, all_down: drop }
    backends: [${addresses.join(', ')}]`,
  );
  const builds: number[] = [];
  const states = new BackendStates({
    log: createLog({ level: 'silent', format: 'json', stream: new PassThrough() }),
    tunnel: null,
    onChange: async () => {
      const down = states.down(config);
      builds.push(down.size);
      states.built([], down);
      await new Promise((resolve) => setTimeout(resolve, buildMs));
    },
  });
  onTestFinished(async () => {
    await states.close();
    server.close();
  });
  states.built([], states.down(config));
  states.configure(config);
  const results = () => addresses.filter((address) => states.health(backendKey('web', address))?.up === true);
  return { server, states, config, builds, results };
}

it('first good results do not: such backends count as up already', async () => {
  const { builds, results } = await started(0);
  await expect.poll(() => results().length).toBe(BACKENDS);
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(builds).toEqual([]);
});

it('backends that go down do, no more often than building leaves time for other things', async () => {
  const { server, builds, results } = await started(50);
  await expect.poll(() => results().length).toBe(BACKENDS);
  const startMs = performance.now();
  server.close();
  await expect.poll(() => builds.at(-1)).toBe(BACKENDS);
  // One of 50 ms, then 200 ms of rest.
  expect(builds.length).toBeLessThanOrEqual(2 + (performance.now() - startMs) / 250);
  expect(builds).toEqual([...new Set(builds)]);
});

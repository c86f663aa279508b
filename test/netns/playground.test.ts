import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { Playground } from '../../src/playground/netns.js';
import { listOwners, runDirectory, sweepStale } from '../../src/playground/owner.js';
import { parseLine, splitLines } from '../../src/playground/process.js';
import { isAlive, listNamespaces } from '../../src/playground/system.js';
import { buildTopology, growTopology, HOST_INTERFACE, LB_QUEUES, VIP4 } from '../../src/playground/topology.js';
import { testPlayground, testTopology } from '../support/netns.js';

const dist = join(dirname(fileURLToPath(import.meta.url)), '..', '..', 'dist', 'playground');

/** A program of its own that builds the little internet, starts a stubborn process in it, and goes on as `then` says. */
const script = (then: string) => `
  const { Playground } = await import(${JSON.stringify(join(dist, 'netns.js'))});
  const { buildTopology } = await import(${JSON.stringify(join(dist, 'topology.js'))});
  const playground = new Playground();
  const { lb } = buildTopology(playground);
  const stubborn = playground.start(lb.namespace, process.execPath,
    ['-e', 'process.on("SIGTERM", () => 0); console.log("up"); setInterval(() => 0, 1000)']);
  await new Promise((resolve) => stubborn.once('line', resolve));
  console.log(JSON.stringify({ tag: playground.tag, pid: stubborn.pid }));
  ${then}
`;

interface Started {
  tag: string;
  pid: number;
}

async function runScript(then: string, act: (pid: number) => void): Promise<Started & { code: number | null }> {
  const child = spawn(process.execPath, ['--input-type=module', '-e', script(then)], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const exit = new Promise<number | null>((resolve) => child.once('close', resolve));
  const started = await new Promise<Started>((resolve) => {
    splitLines(child.stdout, (line) => resolve(parseLine(line) as Started));
  });
  act(child.pid!);
  return { ...started, code: await exit };
}

const namespacesOf = (tag: string) => listNamespaces().filter((name) => name.startsWith(`${tag}-`));

describe('a playground', () => {
  it('makes the little internet, and nothing of it is left after close', async () => {
    const playground = new Playground();
    const topology = buildTopology(playground, { backends: 2 });
    const sleeper = playground.start(topology.lb.namespace, 'sleep', ['1000']);
    const roles = ['switch', 'lb', 'client', 'attacker', 'b1', 'b2'];
    expect(namespacesOf(playground.tag).sort()).toEqual(roles.map((role) => `${playground.tag}-${role}`).sort());
    expect(existsSync(playground.directory)).toBe(true);

    await playground.close();
    await playground.close();
    expect(namespacesOf(playground.tag)).toEqual([]);
    expect(isAlive(sleeper.pid!)).toBe(false);
    expect(existsSync(playground.directory)).toBe(false);
  });

  it.each([
    ['Ctrl-C', 'await new Promise(() => setInterval(() => 0, 1000));', 'SIGINT', 130],
    ['SIGTERM', 'await new Promise(() => setInterval(() => 0, 1000));', 'SIGTERM', 143],
    ['an uncaught exception', 'setTimeout(() => { throw new Error("boom"); });', null, 1],
    ['process.exit', 'process.exit(3);', null, 3],
  ] as const)('leaves nothing behind after %s', async (_, then, signal, code) => {
    const ended = await runScript(then, (pid) => signal && process.kill(pid, signal));
    expect(ended.code).toBe(code);
    expect(namespacesOf(ended.tag)).toEqual([]);
    expect(isAlive(ended.pid)).toBe(false);
    expect(existsSync(runDirectory(ended.tag))).toBe(false);
  });

  it('that was killed is removed by the next sweep, with its processes; one that lives is not', async () => {
    const living = testPlayground();
    living.namespace('lb');
    const killed = await runScript('await new Promise(() => setInterval(() => 0, 1000));', (pid) =>
      process.kill(pid, 'SIGKILL'),
    );
    expect(namespacesOf(killed.tag)).toHaveLength(7);
    expect(isAlive(killed.pid)).toBe(true);

    expect(sweepStale()).toContain(killed.tag);
    expect(namespacesOf(killed.tag)).toEqual([]);
    expect(isAlive(killed.pid)).toBe(false);
    expect(namespacesOf(living.tag)).toEqual([`${living.tag}-lb`]);
  });

  it('that is kept outlives its program and an ordinary sweep, until a sweep of kept ones', async () => {
    const kept = await runScript('playground.keep(); process.exit(0);', () => undefined);
    expect(sweepStale()).not.toContain(kept.tag);
    expect(namespacesOf(kept.tag)).toHaveLength(7);
    expect(isAlive(kept.pid)).toBe(true);

    expect(sweepStale({ kept: true })).toContain(kept.tag);
    expect(namespacesOf(kept.tag)).toEqual([]);
    expect(isAlive(kept.pid)).toBe(false);
    expect(listOwners().map((owner) => owner.tag)).not.toContain(kept.tag);
  });

  it('names the command that failed and what the kernel said', () => {
    const namespace = testPlayground().namespace('lb');
    expect(() => namespace.ip('link set lo up', 'link set nosuch up')).toThrow(/nosuch.*\(link set nosuch up\)/s);
  });
});

describe('the little internet', () => {
  it('gives lb the queues that were asked for, on both ends', () => {
    const topology = testTopology({ backends: 1 });
    for (const [namespace, name] of [
      [topology.lb.namespace, HOST_INTERFACE],
      [topology.switch, 'lb'],
    ] as const) {
      const [link] = namespace.query<{ num_rx_queues: number; num_tx_queues: number }[]>('link', 'show', name);
      expect([link.num_rx_queues, link.num_tx_queues]).toEqual([LB_QUEUES, LB_QUEUES]);
    }
  });

  it('lets every host reach every other, over IPv4 and IPv6', () => {
    const topology = testTopology({ backends: 1 });
    const added = growTopology(topology);
    const ping = (address: string) => topology.client.namespace.exec('ping', '-c', '1', '-W', '2', address);
    for (const host of [topology.lb, topology.attacker, topology.backends[0], added]) {
      expect(ping(host.address4)).toContain(' 0% packet loss');
      expect(ping(host.address6)).toContain(' 0% packet loss');
    }
  });

  it('never lets a backend claim the VIP on the wire, though each has it', () => {
    const topology = testTopology({ backends: 2 });
    // Sent to the VIP as if it were on the switch: somebody would have to answer the ARP request.
    topology.client.namespace.ip(`route replace ${VIP4}/32 dev ${HOST_INTERFACE}`);
    expect(() => topology.client.namespace.exec('ping', '-c', '1', '-W', '1', VIP4)).toThrow();
    const neighbours = topology.client.namespace.query<{ dst: string; lladdr?: string }[]>('neighbour', 'show');
    expect(neighbours.filter((entry) => entry.dst === VIP4 && entry.lladdr)).toEqual([]);
    expect(topology.backends[0].namespace.exec('ping', '-c', '1', '-W', '1', VIP4)).toContain(' 0% packet loss');
  });
});

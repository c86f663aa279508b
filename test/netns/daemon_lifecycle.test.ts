/** From start to end, by every way to end, and what is left then. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { namespacePids } from '../../src/playground/system.js';
import {
  bpfIdsOf,
  bpfObjects,
  cpuMs,
  daemonConfig,
  footprint,
  interfaceOf,
  lost,
  metric,
  NODE,
  pause,
  TestDaemon,
  Wire,
  xdpProgram,
} from '../support/daemon.js';

function commandLines(wire: Wire): string[] {
  return namespacePids(wire.node.name).flatMap((pid) => {
    try {
      return [readFileSync(`/proc/${pid}/cmdline`, 'utf8').replaceAll('\0', ' ')];
    } catch {
      // One of the short-lived `ip` commands: gone since the list was made.
      return [];
    }
  });
}

function links(wire: Wire): string[] {
  return wire.node.query<{ ifname: string }[]>('link', 'show').map(({ ifname }) => ifname).sort(); // prettier-ignore
}

describe('the end of a sluice', () => {
  it('by SIGTERM under traffic: drains, detaches, exits 0, and nothing is left', async () => {
    const wire = new Wire({ backend: true, queues: 2 });
    const receiver = await wire.receive();
    const daemon = await TestDaemon.start(wire, daemonConfig(wire));
    const ids = bpfIdsOf(daemon.pid);
    expect(ids.length).toBeGreaterThanOrEqual(2 * (1 + 3 + 1));
    expect(links(wire).filter((name) => name.startsWith('slh'))).toHaveLength(2);
    const sender = await wire.send({ ratePerSecond: 4000 });
    await daemon.until(({ totals }) => totals.redirect > 2000, 'traffic flows');

    // Counters are gone with the process: the packets are counted at the backend and in the host's stack.
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
    expect(xdpProgram(wire.node)).toBeNull();
    expect(daemon.logged('stopping')).toHaveLength(1);
    expect(daemon.logged('stopped')).toHaveLength(1);
    expect(daemon.logged('frames are missing')).toEqual([]);
    await pause(300);
    const sent = await sender.stop();
    // After the detachment the node's own stack has the packets: it forwards nothing, and says so in its counters.
    const snmp = wire.node.exec('cat', '/proc/net/snmp').split('\n').filter((line) => line.startsWith('Ip:')); // prettier-ignore
    const [names, values] = snmp.map((line) => line.split(' '));
    const toTheHost = Number(values[names.indexOf('InAddrErrors')]) + Number(values[names.indexOf('ForwDatagrams')]);
    expect(toTheHost).toBeGreaterThan(0);
    await expect.poll(async () => ((r) => r.delivered + r.noRoom + toTheHost)(await receiver.stats())).toBe(sent);
    expect((await receiver.stats()).reordered).toBe(0);

    await expect.poll(() => bpfObjects().filter((id) => ids.includes(id))).toEqual([]);
    await expect.poll(() => links(wire)).toEqual(['in0', 'lo', 'out0']);
    expect(commandLines(wire)).toEqual([]);
  });

  it('by SIGTERM while it starts leaves nothing either', async () => {
    const wire = new Wire();
    for (const afterMs of [150, 350, 450]) {
      const daemon = TestDaemon.spawn(wire, daemonConfig(wire));
      await pause(afterMs);
      daemon.signal('SIGTERM');
      const exit = await daemon.ended;
      // Before its own handler is there, the signal ends it.
      expect([0, null]).toContain(exit.code);
      expect(xdpProgram(wire.node)).toBeNull();
      await expect.poll(() => links(wire)).toEqual(['in0', 'lo']);
      await expect.poll(() => commandLines(wire)).toEqual([]);
    }
  });

  it('is not a SIGHUP while it starts: that is obeyed once it serves', async () => {
    const wire = new Wire();
    const daemon = TestDaemon.spawn(wire, daemonConfig(wire));
    await expect.poll(() => daemon.logged('program attached').length, { interval: 2 }).toBe(1);
    daemon.signal('SIGHUP');
    await expect.poll(() => daemon.logged('configuration reloaded').length).toBe(1);
    expect((await daemon.ready()).lastReload.success).toBe(true);
    expect((await daemon.stop()).code).toBe(0);
  });

  it('by kill -9: the kernel detaches, no child is left, and the next one serves within 2 s', async () => {
    const wire = new Wire({ backend: true, queues: 2 });
    const receiver = await wire.receive();
    const first = await TestDaemon.start(wire, daemonConfig(wire));
    expect(commandLines(wire).filter((line) => line.includes('monitor'))).toHaveLength(1);
    const ids = bpfIdsOf(first.pid);
    const sender = await wire.send({ ratePerSecond: 2000 });
    await first.until(({ totals }) => totals.redirect > 500, 'traffic flows');

    await first.killHard();
    const { received: before } = await receiver.stats();
    // At once, into the stale socket, the dying sockets and the dying program.
    const second = TestDaemon.spawn(wire, daemonConfig(wire));
    let firstMs = 0;
    await expect
      .poll(
        async () => {
          const { received } = await receiver.stats();
          if (received > before + 50) firstMs = performance.now() - second.startedMs;
          return firstMs;
        },
        { interval: 20 },
      )
      .toBeGreaterThan(0);
    console.log(`kill -9 to the first packets served: ${Math.round(firstMs)} ms`);
    expect(firstMs).toBeLessThan(first.soonMs);
    const status = await second.ready();
    expect(status.violations).toEqual([]);
    expect(status.pid).toBe(second.pid);
    // One monitor: the first one's has gone with it.
    expect(commandLines(wire).filter((line) => line.includes('monitor'))).toHaveLength(1);
    await sender.stop();
    await expect.poll(() => bpfObjects().filter((id) => ids.includes(id))).toEqual([]);
    expect((await second.stop()).code).toBe(0);
  });
});

describe('an idle sluice', () => {
  it('takes next to no CPU and a known amount of memory', async () => {
    const wire = new Wire({ queues: 2, backend: true });
    const daemon = await TestDaemon.start(wire, { ...daemonConfig(wire), frames: {} });
    await pause(1500);
    const before = cpuMs(daemon.pid);
    await pause(5000);
    const percent = (cpuMs(daemon.pid) - before) / 50;
    const { rssKb, threads, fds } = footprint(daemon.pid);
    console.log(`idle, 2 interfaces, 2 workers: ${percent.toFixed(1)} % of a CPU, RSS ${Math.round(rssKb / 1024)} MiB, ${threads} threads, ${fds} descriptors`); // prettier-ignore
    // Ten wake-ups a second and worker; the main thread looks at interfaces four times a second.
    expect(percent).toBeLessThan(6);
    // Two UMEMs of 16 MiB, two flow tables of which nothing is touched, three V8 isolates.
    expect(rssKb).toBeLessThan(260 * 1024);
    expect((await daemon.stop()).code).toBe(0);
  });
});

describe('modes', () => {
  /** 6000 packets to a service without backends: each is dropped for that reason, none is lost on the way. */
  async function countsAll(wire: Wire, daemon: TestDaemon) {
    const sender = await wire.send({ packets: 6000, flows: 16 });
    expect(await sender.sent()).toBe(6000);
    const status = await daemon.until(({ totals }) => totals.rx >= 6000, 'all packets are counted', 10_000);
    expect(status).toMatchObject({ drops: { no_backend: 6000 }, violations: [], totals: { rx: 6000, drop: 6000 } });
    expect(lost(status)).toBe(0);
    expect(interfaceOf(status).xdp!.redirect).toBe(6000);
    return status;
  }

  it('generic mode serves where it is asked for', async () => {
    const wire = new Wire();
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { interfaces: [{ name: 'in0', mode: 'generic' }] }));
    const [link] = wire.node.query<{ xdp?: { mode: number } }[]>('link', 'show', 'in0');
    // XDP_ATTACHED_SKB
    expect(link.xdp?.mode).toBe(2);
    expect(interfaceOf(await countsAll(wire, daemon))).toMatchObject({ mode: 'generic', zeroCopy: false });
    expect((await daemon.stop()).code).toBe(0);
  });

  it('busy polling serves under load, is as right when idle, and ends in order', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { interfaces: [{ name: 'in0', poll: 'busy' }] }));
    await countsAll(wire, daemon);
    const before = cpuMs(daemon.pid);
    await pause(500);
    // It spins: that is what it was asked for. Two workers on two shared CPUs get some part of them.
    expect(cpuMs(daemon.pid) - before).toBeGreaterThan(50);
    expect((await daemon.status()).violations).toEqual([]);
    expect((await daemon.reload()).applied).toBe(true);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });

  it('serves only the queues that were asked for; the others pass to the host and are shown', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { interfaces: [{ name: 'in0', queues: [0] }] }));
    const sender = await wire.send({ packets: 4000, flows: 64 });
    await sender.sent();
    const status = await daemon.until(
      ({ totals, interfaces: [{ xdp }] }) => totals.rx + xdp!.no_socket >= 4000,
      'all packets are accounted for',
    );
    const { unboundQueues, queues, xdp } = interfaceOf(status);
    expect({ unboundQueues, queues, workers: status.workers.length }).toEqual({
      unboundQueues: [1],
      queues: 2,
      workers: 1,
    });
    expect(status.totals.rx).toBeGreaterThan(400);
    expect(xdp!.no_socket).toBeGreaterThan(400);
    expect([status.totals.rx + xdp!.no_socket, xdp!.redirect, lost(status)]).toEqual([4000, status.totals.rx, 0]);
    expect(metric(daemon.metrics().body, 'sluice_interface_unbound_queues{interface="in0"}')).toBe(1);
    expect(status.violations).toEqual([]);
  });

  it('answers scrapes, health and readiness under load, and the numbers agree', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await TestDaemon.start(wire, daemonConfig(wire));
    const sender = await wire.send({ ratePerSecond: 5000, flows: 32 });
    let last = 0;
    for (let i = 0; i < 8; i++) {
      const { status, body, ms } = daemon.metrics();
      expect(status).toBe(200);
      expect(ms).toBeLessThan(9000);
      const sum = [0, 1].reduce(
        (n, queue) => n + metric(body, `sluice_verdict_packets_total{verdict="drop",queue="${queue}"}`),
        0,
      );
      expect(sum).toBeGreaterThanOrEqual(last);
      last = sum;
    }
    expect(daemon.metrics('/healthz').status).toBe(200);
    expect(daemon.metrics('/readyz')).toMatchObject({ status: 200, body: 'ready\n' });
    const sent = await sender.stop();
    const status = await daemon.until(({ totals }) => totals.rx >= sent, 'all packets are counted');
    expect([status.totals.rx, status.totals.drop, status.violations, lost(status)]).toEqual([sent, sent, [], 0]);
  });

  it('passes what is not its own to the host: redirect all, a TCP transfer through XSK and TAP, byte for byte', async () => {
    const wire = new Wire({ queues: 2 });
    const config = daemonConfig(wire, { interfaces: [{ name: 'in0', redirect: 'all' }] });
    const daemon = await TestDaemon.start(wire, config);
    // A server on the node's own address: everything to it goes through user space and back into the stack.
    const server = wire.playground.start(wire.node, process.execPath, [
      '-e',
      `const { createHash } = require('node:crypto');
       require('node:net').createServer((socket) => {
         const hash = createHash('sha256'); let bytes = 0;
         socket.on('data', (chunk) => { hash.update(chunk); bytes += chunk.length; });
         socket.on('end', () => socket.end(bytes + ' ' + hash.digest('hex')));
       }).listen({ port: 7000, host: '0.0.0.0', allowHalfOpen: true }, () => console.log('{"ready":1}'));`,
    ]);
    await server.message<{ ready: number }>(({ ready }) => ready === 1, 10_000);
    const client = spawnSync(
      'ip',
      wire.client.commandLine(process.execPath, [
        '-e',
        `const { createHash, randomBytes } = require('node:crypto');
         const socket = require('node:net').connect(7000, '${NODE}');
         const hash = createHash('sha256'); let answer = '';
         socket.on('data', (chunk) => (answer += chunk));
         socket.on('end', () => { console.log(answer === 20 * 1048576 + ' ' + hash.digest('hex') ? 'same' : 'differs ' + answer); process.exit(0); });
         (async () => { for (let i = 0; i < 20; i++) { const b = randomBytes(1048576); hash.update(b);
           if (!socket.write(b)) await new Promise((r) => socket.once('drain', r)); } socket.end(); })();`,
      ]),
      { encoding: 'utf8', timeout: 60_000 },
    );
    expect(client.stdout.trim() + client.stderr).toBe('same');
    const status = await daemon.until(({ totals }) => totals.rx === totals.pass + totals.drop, 'all are judged');
    expect(status.violations).toEqual([]);
    expect(status.totals.pass).toBeGreaterThan(20 * 1048576 / 65536); // prettier-ignore
    const text = daemon.metrics().body;
    const passLost = [0, 1].map((queue) =>
      metric(text, `sluice_host_lost_packets_total{interface="in0",queue="${queue}"}`),
    );
    expect(passLost).toEqual([0, 0]);
    // Nothing goes round: once the transfer is over, it is quiet.
    await pause(500);
    const { totals } = await daemon.status();
    expect(totals.rx - status.totals.rx).toBeLessThan(20);
    // And the host still answers by itself.
    expect(wire.client.exec('ping', '-c', '2', '-i', '0.2', NODE)).toContain(' 0% packet loss');
    expect((await daemon.stop()).code).toBe(0);
  });
});

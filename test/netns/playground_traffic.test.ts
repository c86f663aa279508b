import { describe, expect, it } from 'vitest';
import { bpfObjectPath } from '../../src/native.js';
import { type Backend, ECHO_PORT, HTTP_PORT, startBackends } from '../../src/playground/backends.js';
import type { Namespace } from '../../src/playground/netns.js';
import { HttpLoad, udpFlood, UdpProbe } from '../../src/playground/traffic.js';
import { HOST_INTERFACE, LB_QUEUES, type Topology } from '../../src/playground/topology.js';
import { testTopology } from '../support/netns.js';

/** Plain network: the client asks a backend by its own address, no sluice and no tunnel in between. */
async function plain(backends = 1): Promise<Topology & { servers: Backend[] }> {
  const topology = testTopology({ backends });
  return { ...topology, servers: await startBackends(topology, { decap: false }) };
}

/** UDP counters of a namespace, from the kernel. */
function udpCounters(namespace: Namespace): Record<string, number> {
  const [names, values] = namespace
    .exec('cat', '/proc/net/snmp')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(/\s+/).slice(1));
  return Object.fromEntries(names.map((name, i) => [name, Number(values[i])]));
}

describe('the HTTP load', () => {
  it('counts every answered request once, on new connections and on held ones', async () => {
    const { playground, client, backends, servers } = await plain();
    const target = { host: backends[0].address4, port: HTTP_PORT };

    const short = await new HttpLoad(playground, client, { ...target, requests: 200 }).result;
    expect(short).toMatchObject({ answered: 200, failed: 0, perBackend: { b1: 200 }, connections: 200, held: {} });
    expect(await servers[0].stats()).toMatchObject({ requests: 200, connections: 200 });

    const held = await new HttpLoad(playground, client, { ...target, mode: 'keepalive', requests: 200 }).result;
    expect(held).toMatchObject({ answered: 200, failed: 0, connections: 8, held: { b1: 8 }, broken: {}, misrouted: 0 });
    expect(await servers[0].stats()).toMatchObject({ requests: 400, connections: 208 });
    expect(held.latencyMs.p50).toBeGreaterThan(0);
    expect(held.latencyMs.max).toBeGreaterThanOrEqual(held.latencyMs.p99);
  });

  it('sends bodies whole, over IPv6 too', async () => {
    const { playground, client, backends } = await plain();
    const load = new HttpLoad(playground, client, {
      host: backends[0].address6,
      port: HTTP_PORT,
      requests: 20,
      postBytes: 100_000,
    });
    expect(await load.result).toMatchObject({ answered: 20, failed: 0, perBackend: { b1: 20 } });
  });

  it('says why what failed did fail', async () => {
    const { playground, client, backends, lb } = await plain();
    const refused = new HttpLoad(playground, client, { host: backends[0].address4, port: 81, requests: 10 });
    expect(await refused.result).toMatchObject({ answered: 0, failed: 10, reasons: { ECONNREFUSED: 10 } });

    // A host that does not know the address and does not forward: silence.
    client.namespace.ip(`route add 203.0.113.1/32 via ${lb.address4}`);
    const silent = new HttpLoad(playground, client, { host: '203.0.113.1', port: 80, requests: 8, timeoutMs: 300 });
    expect(await silent.result).toMatchObject({ answered: 0, failed: 8, reasons: { timeout: 8 } });
  });

  it('counts held connections that break, and by whom they were held', async () => {
    const { playground, client, backends, servers } = await plain();
    const load = new HttpLoad(playground, client, {
      host: backends[0].address4,
      port: HTTP_PORT,
      mode: 'keepalive',
      connections: 5,
      intervalMs: 50,
    });
    await expect.poll(() => load.progress.answered).toBeGreaterThan(10);
    await servers[0].program.stop();
    await expect.poll(async () => (await load.snapshot()).broken).toMatchObject({ b1: 5 });
    const result = await load.stop();
    expect(result.held).toEqual({ b1: 5 });
    expect(result.failed).toBeGreaterThanOrEqual(5);
  });
});

describe('the UDP flood', () => {
  it('sends exactly what it was asked to, as the sender’s and the receiver’s kernels agree', async () => {
    const { playground, attacker, backends } = await plain();
    attacker.namespace.exec('ping', '-c', '1', backends[0].address4);
    const before = udpCounters(attacker.namespace).OutDatagrams;
    // Nobody listens there: the receiver counts each datagram as NoPorts.
    const flood = await udpFlood(playground, attacker, {
      address: backends[0].address4,
      port: 9999,
      packets: 20_000,
      ratePerSecond: 20_000,
    });
    expect(flood.sent).toBe(20_000);
    expect(udpCounters(attacker.namespace).OutDatagrams - before).toBe(20_000);
    expect(udpCounters(backends[0].namespace).NoPorts).toBe(20_000);
    expect(flood.durationMs).toBeGreaterThan(900);
  });

  it('comes from many source ports, so that both queues of lb get their share', async () => {
    const { playground, attacker, lb } = await plain();
    // The driver counts by queue only with a program attached.
    lb.namespace.ip(`link set ${HOST_INTERFACE} xdpdrv object ${bpfObjectPath('pass')} section xdp`);
    attacker.namespace.exec('ping', '-c', '1', lb.address4);
    await udpFlood(playground, attacker, { address: lb.address4, port: 9999, packets: 5000 });
    const statistics = lb.namespace.exec('ethtool', '-S', HOST_INTERFACE);
    const perQueue = Array.from({ length: LB_QUEUES }, (_, queue) =>
      Number(new RegExp(`rx_queue_${queue}_xdp_packets: (\\d+)`).exec(statistics)?.[1]),
    );
    for (const packets of perQueue) expect(packets).toBeGreaterThan(1000);
    // All of them, and a few of the neighbours' talk.
    const sum = perQueue.reduce((a, b) => a + b);
    expect(sum).toBeGreaterThanOrEqual(5000);
    expect(sum).toBeLessThan(5100);
  });
});

describe('the UDP probe', () => {
  it('learns who answers each flow, and notices who does not', async () => {
    const { playground, client, backends, servers } = await plain();
    // The echo is bound to the VIP: send the VIP's packets straight to this backend.
    client.namespace.ip(`route replace 198.51.100.10/32 via ${backends[0].address4}`);
    const probe = await UdpProbe.start(playground, client, {
      address: '198.51.100.10',
      port: ECHO_PORT,
      flows: 300,
      timeoutMs: 1000,
    });
    const first = await probe.ask();
    expect(first.backends).toEqual(Array(300).fill('b1'));
    expect(await servers[0].stats()).toMatchObject({ echoed: 300 + first.repeated });

    await servers[0].program.stop();
    expect((await probe.ask()).backends).toEqual(Array(300).fill(''));
  });
});

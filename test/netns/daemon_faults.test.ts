/** What goes wrong while it runs: it goes on, comes back by itself, and says what it lost. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import type { Status } from '../../src/control/api/contract.js';
import { native } from '../../src/native.js';
import { compileBpf, enterNamespaceOf, XDP_TX_SOURCE } from '../support/daemon_frames.js';
import { PacketBuilder, TCP } from '../support/packet_builder.js';
import {
  daemonConfig,
  footprint,
  interfaceOf,
  lost,
  metric,
  pause,
  TestDaemon,
  UDP_PORT,
  VIP,
  Wire,
  xdpProgram,
} from '../support/daemon.js';

/** A filter that does what the first byte of a UDP datagram's payload says; see `order`. */
const OBEDIENT = `
export default {
  name: 'obedient',
  create: ({ worker }) => (packet) => {
    if (packet.protocol !== 17) return -1;
    const order = packet.view.getUint8(packet.l4 + 8);
    if (order === 0x54) throw new Error('told to throw');
    if (order === 0x48) for (;;);
    if (order === 0x58) process.exit(9);
    return 1;
  },
};
`;
const ORDER = { throw: 0x54, hang: 0x48, exit: 0x58 } as const;

/** One datagram to the VIP whose first byte is an order; from a fixed port, so that it meets a known worker or not as asked. */
function give(wire: Wire, order: number, count = 1): void {
  wire.client.exec(
    process.execPath,
    '-e',
    `const socket = require('node:dgram').createSocket('udp4');
     let left = ${count};
     socket.bind(40000, () => { for (let i = 0; i < ${count}; i++)
       socket.send(Buffer.alloc(8, ${order}), ${UDP_PORT}, '${VIP}', () => { if (--left === 0) socket.close(); }); });`,
  );
}

async function withFilter(wire: Wire) {
  const path = wire.playground.path('obedient.mjs');
  writeFileSync(path, OBEDIENT);
  const config = daemonConfig(wire, { filters: [{ module: path }] });
  return TestDaemon.start(wire, config);
}

describe('an interface', () => {
  it('that goes down and up is served again by the same socket, and every packet is accounted for', async () => {
    const wire = new Wire();
    const daemon = await TestDaemon.start(wire, daemonConfig(wire));
    const first = await (await wire.send({ packets: 500 })).sent();
    await daemon.until(({ totals }) => totals.rx === first, 'the first packets are counted');
    const before = await daemon.status();

    wire.node.ip('link set in0 down');
    const down = await daemon.until(({ ready }) => !ready, 'it says that it is not ready');
    expect(down.missing).toEqual(['interface in0 is down']);
    expect(daemon.metrics('/readyz')).toMatchObject({ status: 503, body: expect.stringContaining('in0 is down') });
    expect(daemon.metrics('/healthz').status).toBe(200);
    await pause(400);
    wire.node.ip('link set in0 up');
    await daemon.until(({ ready }) => ready, 'it is ready again');

    const second = await (await wire.send({ packets: 500 })).sent();
    const after = await daemon.until(({ totals }) => totals.rx >= first + second, 'the second packets are counted');
    expect([after.totals.rx, after.drops, lost(after), after.violations]).toEqual([1000, { no_backend: 1000 }, 0, []]);
    // The same socket and program.
    expect(daemon.logged('port opened')).toEqual([]);
    expect(after.workers[0].restarts).toBe(0);
    expect(interfaceOf(after).ifindex).toBe(interfaceOf(before).ifindex);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });

  it('that is deleted and made again is served within 2 s; another one’s traffic goes on meanwhile', async () => {
    const wire = new Wire({ backend: true });
    const services = [{ name: 'udp', vip: VIP, protocol: 'udp', port: UDP_PORT, backends: [] }];
    const other0 = (status: Status) => interfaceOf(status, 'out0').xdp!.redirect;
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { services }));
    const first = await (await wire.send({ packets: 400 })).sent();
    // The other interface's traffic comes from the backend's side.
    wire.backend!.ip(`address del ${VIP}/32 dev lo`, `route add ${VIP}/32 via 10.91.0.2`);
    const other = await wire.send({ flows: 4, ratePerSecond: 1000 }, wire.backend!);
    const before = await daemon.until(({ totals }) => totals.rx > first + 100, 'both have traffic');
    const otherBefore = other0(before);

    wire.node.ip('link del in0');
    const gone = await daemon.until(({ ready }) => !ready, 'it notices', 5000);
    expect(gone.missing.join()).toContain('in0');
    await daemon.until((status) => other0(status) > otherBefore + 300, 'the other interface’s traffic goes on');
    expect(daemon.logged('interface is lost; waiting for it to come back')).toHaveLength(1);
    expect(daemon.logged('interface is gone').length).toBeLessThanOrEqual(1);
    expect(xdpProgram(wire.node, 'out0')).not.toBeNull();

    wire.connect();
    const begin = performance.now();
    await daemon.until(({ ready }) => ready, 'it serves again');
    const backMs = Math.round(performance.now() - begin);
    console.log(`interface made again to ready: ${backMs} ms`);
    expect(backMs).toBeLessThan(daemon.soonMs);
    const second = await (await wire.send({ packets: 400 })).sent();
    const otherSent = await other.stop();
    const all = first + second + otherSent;
    const after = await daemon.until(({ totals }) => totals.rx >= all, 'all packets are counted');
    expect([interfaceOf(after).xdp!.redirect, other0(after)]).toEqual([first + second, otherSent]);
    expect([after.totals.rx, after.violations, lost(after)]).toEqual([all, [], 0]);
    expect(after.workers[0]).toMatchObject({ restarts: 0, up: true });
    // Counters of the interface go on over its lives.
    expect(interfaceOf(after).xdp!.redirect).toBe(first + second);
    expect(metric(daemon.metrics().body, 'sluice_rx_packets_total{interface="in0",queue="0"}')).toBe(first + second);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });
});

describe('frames', () => {
  it('that are garbage, or cut at every byte, are all counted and none does harm', async () => {
    const wire = new Wire();
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { interfaces: [{ name: 'in0', redirect: 'all' }] }));
    const program = compileBpf('inject', XDP_TX_SOURCE);
    const whole = [
      new PacketBuilder()
        .ethernet()
        .vlan(7)
        .vlan(8)
        .ipv4({ dst: VIP, options: [1, 1, 1, 0] })
        .tcp({ flags: TCP.SYN }),
      new PacketBuilder().ethernet().ipv4({ dst: VIP }).udp({ dport: UDP_PORT }).payload('0123456789'),
      new PacketBuilder().ethernet().ipv6({ dst: '2001:db8::9' }).udp({ dport: UDP_PORT }).payload('0123456789'),
    ].map((builder) => builder.build());
    let state = 0x5eed;
    const random = () => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 24;
    const frames: Uint8Array[] = [];
    for (const frame of whole)
      for (let length = 14; length <= frame.length; length++) frames.push(frame.slice(0, length));
    // Cut inside the transport header, with an IP length that is honest about it.
    for (const [protocol, bytes] of [[6, 20], [17, 8]]) for (let length = 0; length < bytes; length++) {
      const ip = new PacketBuilder().ethernet().ipv4({ dst: VIP, protocol });
      frames.push(ip.payload(whole[0].slice(whole[0].length - 20).slice(0, length)).build());
    } // prettier-ignore
    for (let i = 0; i < 600; i++) {
      const frame = Uint8Array.from({ length: 15 + (random() % 200) }, random);
      // A third looks like IPv4, a third like IPv6: garbage that gets further.
      if (i % 3 > 0) frame.set([i % 3 === 1 ? 0x08 : 0x86, i % 3 === 1 ? 0x00 : 0xdd, i % 3 === 1 ? 0x45 : 0x60], 12);
      frames.push(frame);
    }
    // Sent on live frames by a program of the kernel's: what an ordinary socket would refuse goes out too.
    const sendAll = enterNamespaceOf(wire.client, () => {
      const object = new (native().BpfObject)(program);
      object.load();
      const { ifindex } = native().linkInfo('eth0');
      for (const data of frames) object.testRun('send_back', { data, repeat: 1, ifindex, queue: 0, liveFrames: true });
      object.close();
      return frames.length;
    });
    const status = await daemon.until(({ interfaces: [{ xdp }] }) => xdp!.seen >= sendAll, 'XDP has seen them all');
    const after = await daemon.until((now) => now.totals.rx >= interfaceOf(now).xdp!.redirect, 'all are judged');
    const { seen, redirect, pass, drop, aborted, tx } = interfaceOf(after).xdp!;
    expect(seen).toBe(redirect + pass + drop + aborted + tx);
    // Some of it may look like housekeeping (an Ethernet length field): the host's. The neighbours say a word or two of ARP.
    expect(seen - sendAll).toBeLessThan(10);
    expect([after.totals.rx, lost(after)]).toEqual([redirect, 0]);
    expect(redirect).toBeGreaterThan(500);
    // Every way to be malformed that these frames have, each counted under its name.
    expect(after.drops.tcp_truncated).toBeGreaterThanOrEqual(20);
    expect(after.drops.udp_truncated).toBeGreaterThanOrEqual(8);
    for (const reason of [
      'vlan_truncated',
      'ipv4_truncated',
      'ipv4_total_length',
      'ipv6_truncated',
      'ipv6_payload_length',
    ]) {
      expect(after.drops[reason], reason).toBeGreaterThan(0);
    }
    expect([after.violations, after.totals.aborted, after.workers[0].restarts]).toEqual([[], 0, 0]);
    expect(status.ready).toBe(true);
    // And it still works.
    const sent = await (await wire.send({ packets: 300 })).sent();
    const { drops } = await daemon.until((s) => (s.drops.no_backend ?? 0) >= sent, 'it serves');
    expect(drops.no_backend).toBeGreaterThanOrEqual(sent);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });
});

describe('a filter', () => {
  it('that throws costs the packet and nothing else, and is logged about once a second', async () => {
    const wire = new Wire();
    const daemon = await withFilter(wire);
    const begin = performance.now();
    give(wire, ORDER.throw, 100);
    const sent = await (await wire.send({ packets: 600 })).sent();
    give(wire, ORDER.throw, 100);
    const status = await daemon.until(({ totals }) => totals.rx >= sent + 200, 'all packets are counted');
    expect(status.totals).toMatchObject({ rx: 800, aborted: 200, drop: 600 });
    expect([status.drops, status.violations]).toEqual([{ policy_threw: 200, filter: 600 }, []]);
    expect(status.workers[0]).toMatchObject({ restarts: 0, up: true });
    const lines = daemon.logged('filter threw, packet dropped');
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length).toBeLessThanOrEqual(2 + (performance.now() - begin) / 1000);
    expect(lines[0].error).toContain('told to throw');
    expect(lines[0].packet).toMatch(/^[0-9a-f]{28,}$/);
  });

  it('that never returns has its worker replaced; the other queue goes on meanwhile', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await withFilter(wire);
    give(wire, ORDER.hang);
    const sender = await wire.send({ ratePerSecond: 1500, flows: 32 });
    const stuck = await daemon.until(({ totals }) => totals.rx > 200, 'the other queue has traffic');
    const free = stuck.workers[0].rx > stuck.workers[1].rx ? 0 : 1;
    const atStuck = stuck.workers[free].rx;
    await daemon.until(({ workers }) => workers[free].rx > atStuck + 300, 'the other queue goes on');

    const back = await daemon.until(
      ({ workers, ready }) => ready && workers[1 - free].restarts === 1,
      'it is replaced',
    );
    expect(back.workers[free].restarts).toBe(0);
    expect(daemon.logged('worker hangs and is replaced')).toMatchObject([{ queue: 1 - free }]);
    const served = await daemon.until(({ workers }) => workers[1 - free].rx > 200, 'the queue is served again');
    expect(served.violations).toEqual([]);
    expect(interfaceOf(served).unboundQueues).toEqual([]);
    await sender.stop();
    expect((await daemon.stop()).code).toBe(0);
  });
});

describe('the whole process', () => {
  it('that stood still for seconds loses what its rings could not hold, counts it, and replaces nobody', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await TestDaemon.start(wire, daemonConfig(wire, { frames: { count: 2048, ring: 512 } }));
    const sender = await wire.send({ ratePerSecond: 1500, flows: 32 });
    await daemon.until(({ totals }) => totals.rx > 300, 'traffic flows');
    daemon.signal('SIGSTOP');
    await pause(4500);
    daemon.signal('SIGCONT');
    const running = await daemon.until(({ totals }) => totals.rx > 1500, 'it goes on');
    await pause(700);
    const sent = await sender.stop();
    const status = await daemon.until((s) => s.totals.rx + lost(s) >= sent, 'all packets are accounted for');
    // Seen by XDP and put into a ring, or counted by the kernel as lost: nothing in between.
    expect([status.totals.rx + lost(status), interfaceOf(status).xdp!.redirect]).toEqual([sent, sent]);
    expect(lost(status)).toBeGreaterThan(1000);
    expect([status.violations, status.ready, running.ready]).toEqual([[], true, true]);
    expect(status.workers.map((worker) => worker.restarts)).toEqual([0, 0]);
    expect(daemon.logged('worker hangs and is replaced')).toEqual([]);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });
});

describe('a worker', () => {
  it('that dies is started again; its queue falls to the host meanwhile, and no packet is unaccounted for', async () => {
    const wire = new Wire({ queues: 2 });
    const daemon = await withFilter(wire);
    const sender = await wire.send({ ratePerSecond: 2000, flows: 32 });
    await daemon.until(({ totals }) => totals.rx > 300, 'traffic flows');
    const before = footprint(daemon.pid);
    for (let kill = 1; kill <= 3; kill++) {
      give(wire, ORDER.exit);
      await daemon.until(
        ({ workers, ready }) => ready && workers[0].restarts + workers[1].restarts === kill,
        'it is started again',
      );
    }
    const sent = await sender.stop();
    await daemon.until((now) => {
      const { redirect, no_socket } = interfaceOf(now).xdp!;
      return redirect + no_socket >= sent + 3;
    }, 'XDP has seen them all');
    await pause(300);
    const status = await daemon.status();
    const { workers, totals } = status;
    // One of them died each time: the order comes from one port.
    expect(workers.map((worker) => worker.restarts).sort()).toEqual([0, 3]);
    expect(status.violations).toEqual([]);
    expect(interfaceOf(status).unboundQueues).toEqual([]);
    const { redirect, no_socket, pass } = interfaceOf(status).xdp!;
    // To the host for want of a socket: the window in which the thread is made anew. ARP passes as well.
    expect(no_socket).toBeGreaterThan(0);
    expect(pass).toBeGreaterThanOrEqual(no_socket);
    expect(redirect + no_socket).toBe(sent + 3);
    // What was redirected was judged, or died with its worker: at most a second's worth, each time.
    expect(redirect - totals.rx).toBeGreaterThanOrEqual(0);
    expect(redirect - totals.rx).toBeLessThanOrEqual(3 * 2000);
    expect(daemon.logged('worker is started again')).toHaveLength(3);
    // Its sockets, rings and TAP queue went with it.
    const after = footprint(daemon.pid);
    expect([after.threads, after.bpf]).toEqual([before.threads, before.bpf]);
    expect(after.fds).toBeLessThanOrEqual(before.fds + 2);
    expect((await daemon.stop()).code).toBe(0);
    expect(daemon.logged('frames are missing')).toEqual([]);
  });
});

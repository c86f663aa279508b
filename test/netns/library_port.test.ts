/** The library on real traffic: verdicts, totals, queues, ends. */
import { describe, expect, it } from 'vitest';
import type { PortTotals } from '../../src/library.js';
import type { FrameCounts } from '../../src/native.js';
import { LEFT, Net, NODE } from '../support/library.js';

const add = (t: PortTotals) => t.dropped + t.passed + t.tx + t.redirected + t.aborted;
const sum = (f: FrameCounts) => f.free + f.fill + f.rx + f.tx;

/** Opens with these options, judges with this policy until told to stop and nothing more comes, says totals and frames. */
const serve = (policy: string, options = '') => `
  const port = await openPort({ interface: 'veth0', ${options} });
  say('ready');
  await port.run(${policy}, untilQuiet(port));
  const frames = port.frames();
  port.close();
  say({ totals: port.totals(), frames });
`;

interface Served {
  totals: PortTotals;
  frames: FrameCounts;
}

describe('a policy', () => {
  it('answers, drops and passes, and every packet is counted once', async () => {
    const net = new Net();
    const program = net.run(
      serve(`(packet) => {
        if (packet.protocol !== IpProtocol.udp) return Verdict.Pass;
        if (packet.destinationPort === 9) return Verdict.Drop;
        return packet.destinationPort === 7 && turnAround(packet) ? Verdict.Tx : Verdict.Pass;
      }`),
    );
    await program.next();
    expect(net.udp({ port: 7, packets: 300, waitMs: 3000 })).toEqual({ sent: 300, answered: 300 });
    expect(net.udp({ port: 9, packets: 200 })).toEqual({ sent: 200, answered: 0 });
    net.left.exec('ping', '-c', '5', '-i', '0.05', '-W', '1', NODE);
    program.tell('stop');
    const { totals, frames } = await program.next<Served>();
    expect(totals).toMatchObject({
      rx: 505, dropped: 200, passed: 5, tx: 300, redirected: 0, aborted: 0, txLost: 0, passLost: 0, missed: 0,
    }); // prettier-ignore
    expect(totals.rxBytes).toBe(500 * (14 + 20 + 8 + 20) + 5 * 98);
    expect(totals.txBytes).toBe(300 * (14 + 20 + 8 + 20));
    expect(sum(frames)).toBe(frames.total);
  });

  it('passes TCP from a veth to a server of the host, whose checksums nobody had completed', async () => {
    const net = new Net();
    const program = net.run(`
      import { createServer } from 'node:http';
      // A thread of its own: run() keeps the event loop for itself most of the time.
      if (isMainThread) {
        new Worker(new URL(import.meta.url)).on('message', say);
        createServer((request, response) => response.end('x'.repeat(50_000))).listen(80);
        await told();
      }
      const port = await openPort({ interface: 'veth0' });
      parentPort.postMessage('ready');
      await port.run(() => Verdict.Pass);
    `);
    await program.next();
    const text = net.left.exec('curl', '-s', '-m', '5', '-o', '/dev/null', '-w', '%{size_download}', `http://${NODE}/`);
    expect(text).toBe('50000');
    program.tell('stop');
    await program.end();
  });

  it('sees the bytes of packets that are not parsed', async () => {
    const net = new Net();
    // UDP to port 9 by its bytes; fields of the parser stay what they were.
    const policy = `({ view, data, length, protocol }) =>
      length === 62 && view.getUint16(data + 36) === 9 && protocol === 0 ? Verdict.Drop : Verdict.Pass`;
    const program = net.run(serve(policy, 'parse: false'));
    await program.next();
    net.udp({ port: 9, packets: 200 });
    net.udp({ port: 5000, packets: 20 });
    program.tell('stop');
    expect((await program.next<Served>()).totals).toMatchObject({ rx: 220, dropped: 200, passed: 20, passLost: 0 });
  });

  it('that passes without a host path loses the packet, which is counted', async () => {
    const net = new Net();
    const program = net.run(serve('() => Verdict.Pass', 'hostPath: false'));
    await program.next();
    net.udp({ port: 5000, packets: 20 });
    program.tell('stop');
    expect((await program.next<Served>()).totals).toMatchObject({ rx: 20, passed: 20, passLost: 20 });
  });

  it('that throws, or returns no verdict, loses that packet only, and is heard of once a second', async () => {
    const net = new Net();
    const program = net.run(
      `let n = 0;${serve(`(packet) => {
      if (packet.destinationPort !== 7) return Verdict.Drop;
      switch (n++ % 8) {
        case 0: throw new Error('the policy is broken');
        case 1: return undefined;
        case 2: return 'Tx';
        case 3: return Promise.resolve(Verdict.Tx);
        case 4: return 99;
        case 5: return -1;
        case 6: return Verdict.Aborted;
        default: return turnAround(packet) ? Verdict.Tx : Verdict.Drop;
      }
    }`)}`,
    );
    await program.next();
    expect(net.udp({ port: 7, packets: 80, waitMs: 300 })).toEqual({ sent: 80, answered: 10 });
    program.tell('stop');
    const { totals, frames } = await program.next<Served>();
    expect(totals).toMatchObject({ rx: 80, aborted: 70, tx: 10, dropped: 0 });
    expect(sum(frames)).toBe(frames.total);
    await program.end();
    const warnings = program.complaints.filter((line) => line.includes('[SLUICE_POLICY]'));
    expect(warnings.length).toBeGreaterThanOrEqual(1);
    expect(warnings.length).toBeLessThanOrEqual(3);
    expect(warnings[0]).toContain('the policy is broken');
  });

  it('has its errors told to onAbort, and what that throws comes out of poll with the burst accounted for', async () => {
    const net = new Net();
    const program = net.run(`
      const errors = [];
      const port = await openPort({ interface: 'veth0', onAbort: (error, packet) => {
        errors.push([error.message, packet.destinationPort]);
        if (errors.length === 2) throw new RangeError('enough');
      } });
      say('ready');
      await told();
      const outcome = await failing(() => port.poll((packet) => { if (packet.ports & 1) throw new Error('odd'); return undefined; }));
      const between = port.totals();
      const rest = port.poll(() => Verdict.Drop);
      say({ errors, outcome, between, rest, frames: port.frames() });
    `);
    await program.next();
    net.udp({ port: 5001, packets: 20 });
    program.tell('poll');
    const result = await program.next<{
      errors: unknown[];
      outcome: object;
      between: PortTotals;
      frames: FrameCounts;
    }>();
    expect(result.errors).toEqual([['odd', 5001], ['odd', 5001]]); // prettier-ignore
    expect(result.outcome).toMatchObject({ name: 'RangeError', message: 'enough' });
    expect(result.between).toMatchObject({ rx: 20, aborted: 20 });
    expect(add(result.between)).toBe(20);
    expect(sum(result.frames)).toBe(result.frames.total);
  });

  it('sees interface, queue, offsets and malformed packets, and room in front of every packet', async () => {
    const net = new Net({ queues: 2 });
    const program = net.run(`
      const seen = new Map();
      const stop = new AbortController();
      let left = 64;
      const port = await openPort({ interface: 'veth0' });
      say({ queues: port.queues, ifindex: native().linkInfo('veth0').ifindex });
      await port.run((packet) => {
        if (packet.protocol !== IpProtocol.udp) return Verdict.Drop;
        const headroom = packet.data - packet.dataHardStart;
        const ordered = packet.dataHardStart <= packet.dataMeta && packet.dataMeta <= packet.data
          && packet.data < packet.dataEnd && packet.dataEnd <= packet.dataHardEnd;
        const text = JSON.stringify([packet.queue, packet.ifindex, packet.port, packet.malformed, headroom >= 256, ordered]);
        seen.set(text, (seen.get(text) ?? 0) + 1);
        if (--left === 0) stop.abort();
        return Verdict.Drop;
      }, stop);
      say([...seen]);
    `);
    const { queues, ifindex } = await program.next<{ queues: object[]; ifindex: number }>();
    expect(queues).toEqual([0, 1].map((queue) => ({ interface: 'veth0', ifindex, queue, zeroCopy: false })));
    net.udp({ port: 5000, packets: 64, sockets: 64 });
    const seen = new Map(await program.next<[string, number][]>());
    expect([...seen.keys()].sort()).toEqual([0, 1].map((queue) => JSON.stringify([queue, ifindex, 0, 0, true, true])));
    expect([...seen.values()].reduce((a, b) => a + b)).toBe(64);
  });
});

describe('queues', () => {
  it('that are not chosen leave their packets to the host', async () => {
    const net = new Net({ queues: 2 });
    const program = net.run(serve('() => Verdict.Drop', 'queues: [1]'));
    await program.next();
    const before = received(net);
    net.udp({ port: 5000, packets: 400, sockets: 64 });
    program.tell('stop');
    const { totals } = await program.next<Served>();
    expect(totals.rx).toBeGreaterThan(50);
    expect(totals.rx).toBeLessThan(350);
    expect(totals.rx + received(net) - before).toBe(400);
  });

  it('of an interface with destinations see only these', async () => {
    const net = new Net();
    net.node.ip('address add 10.98.0.77/32 dev veth0');
    const program = net.run(serve('() => Verdict.Drop', "destinations: ['10.98.0.64/26']"));
    await program.next();
    net.left.ip('neighbour replace 10.98.0.77 lladdr 02:00:00:00:98:02 dev eth0');
    const before = received(net);
    net.udp({ port: 5000, packets: 30 });
    net.udp({ port: 5000, packets: 20, address: '10.98.0.77' });
    program.tell('stop');
    expect((await program.next<Served>()).totals).toMatchObject({ rx: 20, dropped: 20 });
    expect(received(net) - before).toBe(30);
  });
});

/** Datagrams that the node's stack got: nobody listens. */
function received(net: Net): number {
  const [, values] = net.node
    .exec('cat', '/proc/net/snmp')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'));
  return Number(values.split(/\s+/)[2]);
}

describe('two interfaces', () => {
  it('hand packets to each other, both ways, and count a target that is none', async () => {
    const net = new Net({ right: true });
    // Both ends in one network, as if by a cable.
    net.left.ip('address add 10.97.0.1/24 dev eth0', 'neighbour add 10.97.0.2 lladdr 02:00:00:00:98:11 dev eth0');
    net.right!.ip('address add 10.97.0.2/24 dev eth0', 'neighbour add 10.97.0.1 lladdr 02:00:00:00:98:01 dev eth0');
    const program = net.run(`
      const port = await openPort({ interface: ['veth0', 'veth1'], hostPath: false, checksum: 'trust' });
      say('ready');
      await port.run((packet) => {
        packet.target = packet.destinationPort === 6000 ? 2 : packet.destinationPort === 6001 ? -1 : 1 - packet.port;
        return Verdict.Redirect;
      }, untilTold());
      port.close();
      say(port.totals());
    `);
    await program.next();
    net.left.exec('ping', '-c', '10', '-i', '0.05', '-W', '1', '10.97.0.2');
    net.udp({ port: 6000, packets: 7 });
    net.udp({ port: 6001, packets: 5 });
    program.tell('stop');
    expect(await program.next<PortTotals>()).toMatchObject({ rx: 32, redirected: 32, txLost: 12, missed: 0 });
  });
});

describe('run', () => {
  it('ends on abort within a moment, also when nothing arrives, and lets timers and sockets go on', async () => {
    const net = new Net();
    const program = net.run(`
      const port = await openPort({ interface: 'veth0', hostPath: false });
      await port.run(() => Verdict.Drop, { signal: AbortSignal.abort() });
      let ticks = 0;
      const timer = setInterval(() => ticks++, 10);
      const begin = performance.now();
      await port.run(() => Verdict.Drop, { signal: AbortSignal.timeout(500) });
      clearInterval(timer);
      say({ ms: performance.now() - begin, ticks, cpuMs: process.cpuUsage().user / 1000 });
      setTimeout(() => port.close(), 50);
      await port.run(() => Verdict.Drop);
      say(port.closed);
    `);
    const { ms, ticks } = await program.next<{ ms: number; ticks: number }>();
    expect(ms).toBeGreaterThanOrEqual(490);
    // Nothing but the signal ends it.
    expect(ms).toBeLessThan(5000);
    expect(ticks).toBeGreaterThan(10);
    expect(await program.next()).toBe(true);
    expect(await program.end()).toBe(0);
  });
});

describe('close', () => {
  it('carries out the last verdicts, keeps the totals, and makes everything else say that it is closed', async () => {
    const net = new Net();
    const program = net.run(`
      const port = await openPort({ interface: 'veth0' });
      say('ready');
      let packets = 0;
      while (packets === 0) packets = port.poll((packet) => turnAround(packet) ? Verdict.Tx : Verdict.Drop, 1000);
      const open = { xdp: attached('veth0'), taps: taps() };
      port[Symbol.dispose]();
      port.close();
      say({ open, xdp: attached('veth0'), taps: taps(), closed: port.closed, totals: port.totals(), frames: port.frames(),
        poll: await failing(() => port.poll(() => Verdict.Drop)),
        run: await failing(() => port.run(() => Verdict.Drop)),
        kernel: await failing(() => port.kernelStatistics()) });
      await told();
    `);
    await program.next();
    expect(net.udp({ port: 7, packets: 1, waitMs: 2000 })).toEqual({ sent: 1, answered: 1 });
    const result = await program.next<Record<string, unknown> & { frames: FrameCounts }>();
    expect(result.open).toMatchObject({ taps: [expect.stringMatching(/^slh\d+$/)] });
    expect(result.open).toMatchObject({ xdp: expect.stringMatching(/^sluice_redirec/) });
    expect(result).toMatchObject({ xdp: null, taps: [], closed: true, totals: { rx: 1, tx: 1, txLost: 0 } });
    expect(sum(result.frames)).toBe(result.frames.total);
    for (const key of ['poll', 'run', 'kernel']) expect(result[key]).toMatchObject({ code: 'SLUICE_STATE' });
  });

  it('from within a policy ends the poll in order, and a policy cannot poll', async () => {
    const net = new Net();
    const program = net.run(`
      const port = await openPort({ interface: 'veth0' });
      say('ready');
      await told();
      const inner = [];
      const packets = port.poll((packet) => {
        try { port.poll(() => Verdict.Drop); } catch (error) { inner.push(error.code); }
        port.close();
        return turnAround(packet) ? Verdict.Tx : Verdict.Drop;
      });
      say({ packets, inner, totals: port.totals(), closed: port.closed, xdp: attached('veth0') });
    `);
    await program.next();
    net.udp({ port: 7, packets: 5 });
    program.tell('poll');
    const result = await program.next<Record<string, unknown>>();
    expect(result).toMatchObject({ packets: 5, closed: true, xdp: null, totals: { rx: 5, tx: 5, txLost: 0 } });
    expect(result.inner).toEqual(Array.from({ length: 5 }, () => 'SLUICE_STATE'));
  });

  it('happens by itself when the process ends, however it does', async () => {
    const net = new Net();
    for (const ending of ['process.exit(0)', "process.kill(process.pid, 'SIGKILL')", "throw new Error('end')"]) {
      const program = net.run(`
        await openPort({ interface: 'veth0' });
        say(attached('veth0'));
        ${ending};
      `);
      expect(await program.next()).toMatch(/^sluice_/);
      await program.end();
      const after = net.run("say([attached('veth0'), taps()]);");
      expect(await after.next()).toEqual([null, []]);
    }
  });
});

describe('an interface that is deleted', () => {
  const report = `
    const outcome = (work) => { const begin = performance.now(); return failing(work).then((error) => ({ ...error, ms: performance.now() - begin })); };
  `;

  it.each([
    ['poll that waits long', 'for (;;) port.poll(() => Verdict.Drop, 60_000)'],
    ['poll that never waits', 'for (;;) port.poll(() => Verdict.Drop)'],
    ['run', 'await port.run(() => Verdict.Drop)'],
  ])('makes a %s throw, once and again, and close works', async (_name, work) => {
    const net = new Net();
    const program = net.run(`${report}
      const port = await openPort({ interface: 'veth0' });
      say('ready');
      const first = await outcome(async () => { ${work}; });
      const second = await outcome(() => port.poll(() => Verdict.Drop, 60_000));
      const totals = port.totals();
      port.close();
      say({ first, second, totals, taps: taps() });
    `);
    await program.next();
    net.udp({ port: 5000, packets: 3 });
    await new Promise((resolve) => setTimeout(resolve, 200));
    net.node.ip('link delete veth0');
    const result = await program.next<Record<string, { code: string; message: string; ms: number }>>();
    expect(result.first).toMatchObject({
      code: 'SLUICE_DEVICE',
      message: expect.stringContaining('veth0 was deleted'),
    });
    expect(result.second).toMatchObject({ code: 'SLUICE_DEVICE' });
    // It was asked to wait for a minute.
    expect(result.second.ms).toBeLessThan(10_000);
    expect(result).toMatchObject({ taps: [] });
    expect(await program.end()).toBe(0);
  });

  it('can be opened again when it is back', async () => {
    const net = new Net();
    const program = net.run(`
      const policy = (packet) => turnAround(packet) ? Verdict.Tx : Verdict.Drop;
      for (let i = 0; i < 2; i++) {
        const port = await openPort({ interface: 'veth0' });
        say('ready');
        await port.run(policy, untilTold()).catch((error) => say(error.code));
        port.close();
        if (i === 0) await told();
      }
    `);
    expect(await program.next()).toBe('ready');
    net.node.ip('link delete veth0');
    expect(await program.next()).toBe('SLUICE_DEVICE');
    net.connect();
    program.tell('back');
    expect(await program.next()).toBe('ready');
    expect(net.udp({ port: 7, packets: 5, waitMs: 2000 }).answered).toBe(5);
  });

  it('is no interface that is down for a while', async () => {
    const net = new Net();
    const program = net.run(serve('(packet) => turnAround(packet) ? Verdict.Tx : Verdict.Drop'));
    await program.next();
    net.node.ip('link set veth0 down');
    await new Promise((resolve) => setTimeout(resolve, 300));
    net.node.ip('link set veth0 up', `neighbour replace ${LEFT} lladdr 02:00:00:00:98:01 dev veth0`);
    expect(net.udp({ port: 7, packets: 10, waitMs: 3000 }).answered).toBe(10);
    program.tell('stop');
    expect((await program.next<Served>()).totals).toMatchObject({ rx: 10, tx: 10 });
  });
});

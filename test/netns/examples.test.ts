/** Every program of examples/ on real traffic, run from its TypeScript as examples/README.md says. */
import { spawnSync } from 'node:child_process';
import { copyFileSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/native.js';
import type { ChildProgram } from '../../src/playground/process.js';
import { daemonConfig, pause, TestDaemon, UDP_PORT, VIP, Wire } from '../support/daemon.js';
import { Net } from '../support/library.js';

const examples = join(packageRoot, 'examples');

/** Starts an example and waits until its program is on the interface. */
async function start(net: Net, name: string, ...args: string[]): Promise<{ child: ChildProgram; said: string[] }> {
  const said: string[] = [];
  // `sluice/ts` is found from the current directory, which is the clone's.
  const child = net.playground.start(
    net.node,
    process.execPath,
    ['--import', 'sluice/ts', join(examples, name), ...args],
    {
      label: name,
    },
  );
  child.on('line', (line) => said.push(line));
  const attached = (link: string) => net.node.query<{ xdp?: object }[]>('link', 'show', link)[0].xdp !== undefined;
  await expect
    .poll(() => child.running && args.filter((arg) => arg.startsWith('veth')).every(attached), { timeout: 20_000 })
    .toBe(true);
  // Attached, and then its sockets.
  await pause(300);
  return { child, said };
}

/** Ctrl-C; its totals, as it printed them. */
async function stop({ child, said }: { child: ChildProgram; said: string[] }): Promise<Record<string, number>> {
  child.kill('SIGINT');
  expect(await child.ended).toEqual({ code: 0, signal: null });
  const fields = [...said.join('\n').matchAll(/^ {2}(\w+): (\d+)/gm)];
  return Object.fromEntries(fields.map(([, name, value]) => [name, Number(value)]));
}

describe('the example', () => {
  it('readme.ts is in README.md, as it is, in 20 lines', () => {
    const source = readFileSync(join(examples, 'readme.ts'), 'utf8');
    const readme = readFileSync(join(packageRoot, 'README.md'), 'utf8');
    const blocks = [...readme.matchAll(/^```ts\n([^]*?)^```$/gm)].map(([, block]) => block);
    expect(blocks).toContain(source);
    expect(source.trimEnd().split('\n').length).toBeLessThanOrEqual(20);
  });

  it('readme.ts echoes a port, drops a port, and leaves the rest to the host', async () => {
    const net = new Net();
    const program = await start(net, 'readme.ts', 'veth0');
    expect(net.udp({ port: 7, packets: 50, waitMs: 3000 }).answered).toBe(50);
    expect(net.udp({ port: 9999, packets: 30 }).sent).toBe(30);
    expect(net.left.exec('ping', '-c', '3', '-i', '0.05', '-W', '1', '10.98.0.2')).toContain(' 0% packet loss');
    expect(await stop(program)).toMatchObject({ rx: 83, tx: 50, dropped: 30, passed: 3, aborted: 0, missed: 0 });
  });

  it('rx-drop.ts drops everything and says how fast', async () => {
    const net = new Net();
    const program = await start(net, 'rx-drop.ts', 'veth0');
    net.udp({ port: 5000, packets: 500 });
    await expect.poll(() => program.said.some((line) => /^[1-9]\d* packets\/s, 0 missed/.test(line))).toBe(true);
    expect(await stop(program)).toMatchObject({ rx: 500, dropped: 500, missed: 0 });
  });

  it('udp-echo.ts echoes, but no service, so that two of them do not talk for ever', async () => {
    const net = new Net();
    const program = await start(net, 'udp-echo.ts', 'veth0');
    expect(net.udp({ port: 7, packets: 20, waitMs: 3000, sockets: 4 }).answered).toBe(20);
    net.left.exec(
      'bash',
      '-c',
      'exec 3<>/dev/udp/10.98.0.2/7; echo hello >&3; [ "$(timeout 5 head -n 1 <&3)" = hello ]',
    );
    const fromEcho =
      "require('dgram').createSocket('udp4').bind(7, function () { this.send('x', 7, '10.98.0.2', () => this.close()); })";
    net.left.exec(process.execPath, '-e', fromEcho);
    expect(await stop(program)).toMatchObject({ rx: 22, tx: 21, dropped: 1 });
  });

  it('l2-forward.ts joins two interfaces', async () => {
    const net = new Net({ right: true });
    net.left.ip('address add 10.97.0.1/24 dev eth0', 'neighbour add 10.97.0.2 lladdr 02:00:00:00:98:11 dev eth0');
    net.right!.ip('address add 10.97.0.2/24 dev eth0', 'neighbour add 10.97.0.1 lladdr 02:00:00:00:98:01 dev eth0');
    const program = await start(net, 'l2-forward.ts', 'veth0', 'veth1');
    expect(net.left.exec('ping', '-c', '20', '-i', '0.02', '-W', '1', '10.97.0.2')).toContain(' 0% packet loss');
    expect(await stop(program)).toMatchObject({ rx: 40, redirected: 40, txLost: 0 });
  });

  it('threads.ts serves each queue by a thread', async () => {
    const net = new Net({ queues: 2 });
    const program = await start(net, 'threads.ts', 'veth0');
    const ready = () => program.said.filter((line) => line.endsWith('ready')).sort();
    await expect.poll(ready).toEqual(['queue 0: ready', 'queue 1: ready']);
    net.udp({ port: 5000, packets: 400, sockets: 64 });
    program.child.kill('SIGINT');
    expect(await program.child.ended).toEqual({ code: 0, signal: null });
    const dropped = [...program.said.join('\n').matchAll(/^ {2}dropped: (\d+)/gm)].map(([, count]) => Number(count));
    expect(dropped).toHaveLength(2);
    expect(dropped[0] + dropped[1]).toBe(400);
    expect(Math.min(...dropped)).toBeGreaterThan(50);
  });

  it('has a test here, each of them, and a line in examples/README.md', () => {
    const readme = readFileSync(join(examples, 'README.md'), 'utf8');
    const self = readFileSync(join(packageRoot, 'test/netns/examples.test.ts'), 'utf8');
    for (const name of readdirSync(examples).filter((file) => file.endsWith('.ts'))) {
      expect(readme).toContain(`[${name}](${name})`);
      expect(self).toMatch(new RegExp(`(start\\(net, |filter\\(wire, )'${name}'`));
    }
  });
});

describe('the filter', () => {
  /** Puts an example next to the config, far from this package: `module` is relative to the config. */
  function filter(wire: Wire, name: string, options: object): object {
    copyFileSync(join(examples, name), wire.playground.path(name));
    return { module: `./${name}`, options };
  }

  /** So many connection attempts from the client; how many of them got an answer or a refusal. */
  function knock(wire: Wire, port: number, times: number): number {
    const script = `
      const { connect } = require('node:net');
      let answered = 0, open = ${times};
      const done = () => { if (--open === 0) { console.log(answered); process.exit(); } };
      for (let i = 0; i < ${times}; i++) {
        const socket = connect({ host: '${VIP}', port: ${port} });
        socket.on('connect', () => { answered++; socket.destroy(); done(); });
        socket.on('error', () => { answered++; done(); });
        socket.setTimeout(700, () => { socket.destroy(); done(); });
      }`;
    return Number(wire.client.exec(process.execPath, '-e', script));
  }

  /** The service takes UDP only: TCP to the VIP that the filters let through goes to the node's own stack, which refuses it. */
  function wired(): Wire {
    const wire = new Wire({ backend: true });
    wire.node.ip(`address add ${VIP}/32 dev lo`);
    return wire;
  }

  it('no-telnet-filter.ts drops one port, another after a reload; one that throws in create is refused, the former goes on', async () => {
    const wire = wired();
    const config = (port: number) =>
      daemonConfig(wire, { filters: ['sanity', filter(wire, 'no-telnet-filter.ts', { port })] });
    const daemon = await TestDaemon.start(wire, config(23));
    expect([knock(wire, 23, 3), knock(wire, 24, 3)]).toEqual([0, 3]);
    daemon.configure(config(24));
    expect(await daemon.reload()).toMatchObject({ applied: true });
    expect([knock(wire, 23, 3), knock(wire, 24, 3)]).toEqual([3, 0]);
    daemon.configure(config(70000));
    const refused = await daemon.reload();
    expect(refused).toMatchObject({ applied: false });
    expect(JSON.stringify(refused.problems)).toContain('port 70000 is none');
    expect([knock(wire, 23, 3), knock(wire, 24, 3)]).toEqual([3, 0]);
    // A file that is broken now, under the configuration that runs: refused, too.
    daemon.configure(config(24));
    writeFileSync(wire.playground.path('no-telnet-filter.ts'), 'export default {\n  create( {\n');
    expect(JSON.stringify(await daemon.reload())).toMatch(/"applied":false.*no-telnet-filter\.ts:\d+:\d+/);
    // Nor does what was refused stand in the way of other changes.
    await daemon.setBackend({ weight: 5 });
    expect([knock(wire, 23, 3), knock(wire, 24, 3)]).toEqual([3, 0]);
    expect(await daemon.stop()).toEqual({ code: 0, signal: null });
  });

  it('syn-limit-filter.ts lets a source open so many connections a second, and remembers over changes of the tables', async () => {
    const wire = wired();
    const daemon = await TestDaemon.start(
      wire,
      daemonConfig(wire, { filters: [filter(wire, 'syn-limit-filter.ts', { perSecond: 5 })] }),
    );
    // Retransmissions come after a second, which is later than the client waits.
    expect(knock(wire, 24, 20)).toBe(5);
    await pause(1100);
    expect(knock(wire, 24, 4)).toBe(4);
    const before = (await daemon.status()).generation;
    await daemon.setBackend({ weight: 5 });
    await daemon.until(({ generation }) => generation > before, 'new tables');
    await pause(1100);
    expect(knock(wire, 24, 20)).toBe(5);
    // UDP is none of its business.
    const sender = await wire.send({ packets: 200, ratePerSecond: 1000 });
    expect(await sender.sent()).toBe(200);
    await daemon.until(({ totals }) => totals.redirect >= 200, `datagrams to ${VIP}:${UDP_PORT} are balanced`);
  });
});

describe('a TypeScript filter that is reloaded under traffic', () => {
  it('costs no packet and no order: workers go on while it is compiled', async () => {
    const wire = new Wire({ backend: true, queues: 2 });
    const receiver = await wire.receive();
    const path = wire.playground.path('slow.ts');
    // Evaluation that takes its time stands in for a machine that does.
    const source = (round: number) => `import { defineFilter, FilterVerdict } from 'sluice';
      await new Promise((resolve) => setTimeout(resolve, 1000));
      export default defineFilter({ name: 'slow${round}', create: () => () => FilterVerdict.Continue });\n`;
    writeFileSync(path, source(0));
    const config = daemonConfig(wire, { filters: [{ module: path }], frames: { count: 4096, ring: 512 } });
    const daemon = await TestDaemon.start(wire, config);
    // A ring is full after a third of a second without a worker.
    const sender = await wire.send({ ratePerSecond: 3000, flows: 16 });
    await daemon.until(({ totals }) => totals.redirect > 300, 'traffic flows');
    writeFileSync(path, source(1));
    expect(await daemon.reload()).toMatchObject({ applied: true });
    const sent = await sender.stop();
    const { totals, workers } = await daemon.until((status) => status.totals.rx >= sent, 'all packets are counted');
    expect([totals.rx, totals.redirect]).toEqual([sent, sent]);
    expect(workers.map(({ restarts, kernelLost }) => [restarts, kernelLost])).toEqual([[0, 0], [0, 0]]); // prettier-ignore
    expect((await receiver.stats()).reordered).toBe(0);
  });
});

describe('examples/README.md', () => {
  it('has commands that a shell takes', () => {
    const readme = readFileSync(join(examples, 'README.md'), 'utf8');
    for (const [, block] of readme.matchAll(/^```\n([^]*?)^```$/gm)) {
      const { status, stderr } = spawnSync('bash', ['-n'], { input: block, encoding: 'utf8' });
      expect([status, stderr]).toEqual([0, '']);
    }
  });
});

/** What must not start: it says what is wrong and what to do, with the right exit code, and leaves nothing behind. */
import { writeFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { bpfObjectPath } from '../../src/native.js';
import { ExitCode } from '../../src/errors.js';
import { AddonChild } from '../support/bpf_child.js';
import {
  daemonConfig,
  interfaceOf,
  lost,
  TestDaemon,
  VIP,
  Wire,
  xdpProgram,
  type ConfigDocument,
} from '../support/daemon.js';

/** Interfaces of the node that sluice itself makes. */
function taps(wire: Wire): string[] {
  return wire.node
    .query<{ ifname: string }[]>('link', 'show')
    .map(({ ifname }) => ifname)
    .filter((name) => name.startsWith('slh'));
}

async function refused(wire: Wire, config: ConfigDocument | string, prefix: string[] = []) {
  const before = xdpProgram(wire.node);
  const result = await TestDaemon.fails(wire, config, { prefix });
  expect(taps(wire)).toEqual([]);
  // The kernel detaches a moment after the last descriptor is closed.
  await expect.poll(() => xdpProgram(wire.node)).toBe(before);
  return result;
}

describe('a configuration with mistakes', () => {
  it('is refused whole, every mistake with its line and what would be right', async () => {
    const wire = new Wire();
    const text = `interfaces:
  - name: in0
    quues: all
services:
  - { name: a, vip: ${VIP}, port: 70000, backends: [] }
  - { name: b, vip: ${VIP}, port: 80, backends: [] }
  - { name: c, vip: ${VIP}, port: 80, backends: [] }
`;
    const { code, said } = await refused(wire, text);
    expect(code).toBe(ExitCode.config);
    expect(said).toMatch(/sluice\.yaml:3\b.*quues/);
    expect(said).toMatch(/queues/);
    expect(said).toMatch(/sluice\.yaml:5\b.*70000/);
    expect(said).toMatch(/sluice\.yaml:7\b/);
    expect(said).not.toMatch(/\n\s+at /);
  });

  it('is refused when a backend has no route, with the command that adds one', async () => {
    const wire = new Wire();
    const services = [{ name: 'udp', vip: VIP, port: 80, backends: ['203.0.113.9'] }];
    const { code, said } = await refused(wire, daemonConfig(wire, { services }));
    expect(code).toBe(ExitCode.config);
    expect(said).toContain('backend 203.0.113.9 of service udp has no route');
    expect(said).toContain('ip route add 203.0.113.9');
  });

  it.each([
    ['does not parse', 'export default {{{', /SyntaxError|Unexpected|broken\.mjs/],
    ['exports no filter', 'export const nothing = 1;', /broken\.mjs has no filter as its default export/],
    [
      'throws in create()',
      'export default { name: "x", create() { throw new Error("no quota file"); } };',
      /no quota file/,
    ],
  ])('is refused at once when a filter module %s', async (_, source, message) => {
    const wire = new Wire();
    const path = wire.playground.path('broken.mjs');
    writeFileSync(path, source);
    const begin = performance.now();
    const { code, said } = await refused(wire, daemonConfig(wire, { filters: [{ module: path }] }));
    expect(code).toBe(ExitCode.config);
    expect(said).toMatch(message);
    expect(performance.now() - begin).toBeLessThan(10_000);
  });
});

describe('an interface that cannot be had', () => {
  it('is named when it is missing', async () => {
    const wire = new Wire();
    const { code, said } = await refused(
      wire,
      daemonConfig(wire, { interfaces: [{ name: 'in0' }, { name: 'nosuch0' }] }),
    );
    expect(code).toBe(ExitCode.device);
    expect(said).toMatch(/no interface nosuch0[^]*ip -br link/);
  });

  it('is named when it has fewer queues than were asked for', async () => {
    const wire = new Wire({ queues: 2 });
    const { code, said } = await refused(wire, daemonConfig(wire, { interfaces: [{ name: 'in0', queues: [0, 2] }] }));
    expect(code).toBe(ExitCode.device);
    expect(said).toMatch(/in0 has 2 RX queues, so there is no queue 2[^]*ethtool -L in0/);
  });

  it('is refused with the reason when zero-copy is forced and the driver cannot (veth)', async () => {
    const wire = new Wire();
    const { code, said } = await refused(
      wire,
      daemonConfig(wire, { interfaces: [{ name: 'in0', mode: 'zero-copy' }] }),
    );
    expect(code).toBe(ExitCode.device);
    expect(said).toMatch(/in0 queue 0.*EOPNOTSUPP[^]*mode "copy" or "auto"/);
  });

  it('is left to the foreign XDP program that is on it', async () => {
    const wire = new Wire();
    wire.node.ip(`link set in0 xdpdrv object ${bpfObjectPath('pass')} section xdp`);
    const foreign = xdpProgram(wire.node);
    expect(foreign).not.toBeNull();
    const { code, said } = await refused(wire, daemonConfig(wire));
    expect(code).toBe(ExitCode.device);
    expect(said).toMatch(new RegExp(`in0 is taken: XDP program "\\w+" \\(id ${foreign}\\)[^]*xdp off`));
  });

  it('is named with its queue when another AF_XDP socket holds that', async () => {
    const wire = new Wire({ queues: 2 });
    const holder = new AddonChild(
      `const umem = new addon.Umem({ frameCount: 64, chunkSize: 2048 });
       const rings = { rxSize: 64, txSize: 64, fillSize: 64, completionSize: 64 };
       const socket = new addon.XskSocket(umem, { interface: 'in0', queue: 1, mode: 'copy', index: 0, ...rings });
       say('bound'); setInterval(() => socket.exchange(), 50);`,
      [],
      wire.node.name,
    );
    await holder.said('bound');
    const { code, said } = await refused(wire, daemonConfig(wire));
    expect(code).toBe(ExitCode.device);
    expect(said).toMatch(/in0 queue 1: EBUSY[^]*Another AF_XDP socket holds in0 queue 1/);
    expect(holder.process.exitCode).toBeNull();
  });

  it('stays with the sluice that has it, which a second one does not disturb', async () => {
    const wire = new Wire();
    const first = await TestDaemon.start(wire, daemonConfig(wire));
    const program = xdpProgram(wire.node);
    const sender = await wire.send({ packets: 6000 });
    const config = daemonConfig(wire, { control: { socket: wire.playground.path('second.sock') } });
    const second = await TestDaemon.fails(wire, config, { name: 'second' });
    expect(second.code).toBe(ExitCode.device);
    expect(second.said).toMatch(/in0 is taken: another sluice runs on it[^]*Stop the other instance first/);

    expect(await sender.sent()).toBe(6000);
    const status = await first.until(({ totals }) => totals.rx >= 6000, 'all packets are counted');
    expect(status).toMatchObject({ ready: true, drops: { no_backend: 6000 }, violations: [] });
    expect([lost(status), interfaceOf(status).xdp!.redirect]).toEqual([0, 6000]);
    expect(xdpProgram(wire.node)).toBe(program);
  });

  it('is refused as a way to backends when it has fewer queues than packets come in on', async () => {
    const wire = new Wire({ queues: 2, backend: true, backendQueues: 1 });
    const { code, said } = await refused(wire, daemonConfig(wire));
    expect(code).toBe(ExitCode.config);
    expect(said).toMatch(/10\.91\.0\.11 .* reached by out0.*1 of the 2 queues.*queue 1 could not leave/);
    expect(said).toContain('ethtool -L out0 combined 2');
  });

  it('is refused to a second sluice with the same control socket too, whatever interface it has', async () => {
    const wire = new Wire({ backend: true });
    const first = await TestDaemon.start(wire, daemonConfig(wire, { interfaces: ['in0'], services: [] }));
    const config = daemonConfig(wire, { interfaces: ['out0'], services: [], metrics: 'off' });
    const second = await TestDaemon.fails(wire, config, { name: 'second' });
    expect(second.code).toBe(ExitCode.failure);
    expect(second.said).toMatch(/another sluice runs with the control socket[^]*give each its own control\.socket/);
    expect((await first.status()).ready).toBe(true);
    expect(xdpProgram(wire.node, 'out0')).toBeNull();
  });
});

describe('a process without the rights', () => {
  const without = (...names: string[]) => {
    const list = names.map((name) => `-${name}`).join(',');
    return ['setpriv', `--bounding-set=${list}`, `--inh-caps=${list}`];
  };

  it.each([
    ['net_admin', /CAP_NET_ADMIN/],
    ['net_raw', /CAP_NET_RAW/],
  ])('is told which capability it lacks: %s', async (capability, message) => {
    const wire = new Wire();
    const { code, said } = await refused(wire, daemonConfig(wire), without(capability));
    expect(said).toMatch(message);
    expect(code).toBe(ExitCode.permission);
  });

  it('is told about CAP_BPF as an ordinary user', async () => {
    const wire = new Wire();
    const { code, said } = await refused(wire, daemonConfig(wire), without('net_admin', 'bpf', 'sys_admin'));
    expect(said).toMatch(/CAP_BPF/);
    expect(code).toBe(ExitCode.permission);
  });

  it('is told how many bytes of locked memory it needs', async () => {
    const wire = new Wire();
    const bytes = 24_576 * 2048;
    const prefix = ['prlimit', '--memlock=8388608:8388608', ...without('ipc_lock')];
    const { code, said } = await refused(wire, daemonConfig(wire), prefix);
    expect(said).toContain(`needs ${bytes} bytes of locked memory and the limit is 8388608`);
    expect(said).toMatch(/LimitMEMLOCK=.*CAP_IPC_LOCK/);
    expect(code).toBe(ExitCode.permission);
  });
});

/** openPort that fails leaves nothing; several threads on one interface. */
import { describe, expect, it } from 'vitest';
import type { PortTotals } from '../../src/library.js';
import { Net } from '../support/library.js';

interface Refusal {
  error: { name: string; code: string; message: string; remedy: string };
  /** XDP program and TAPs afterwards. */
  xdp: string | null;
  taps: string[];
  fds: number;
}

/** Tries to open with these options and says what came of it; `extra` runs before. */
const attempt = (options: string, extra = '') => `
  ${extra}
  // What the first attempt opens for good (the addon, its log) is no leak.
  await failing(() => openPort(${options}));
  const bpf = () => readdirSync('/proc/self/fd').length;
  const before = bpf();
  const error = await failing(async () => { (await openPort(${options})).close(); });
  say({ error, xdp: attached('veth0'), taps: taps(), fds: bpf() - before });
`;

async function refusal(net: Net, options: string, prefix: string[] = []): Promise<Refusal> {
  const result = await net.run(attempt(options), prefix).next<Refusal>();
  expect(result.error, 'it should have been refused').not.toBeNull();
  expect(result).toMatchObject({ xdp: null, taps: [], fds: 0 });
  return result;
}

describe('openPort that fails leaves nothing behind', () => {
  it('without its interface', async () => {
    const { error } = await refusal(new Net(), "{ interface: 'nowhere0' }");
    expect(error).toMatchObject({ code: 'SLUICE_DEVICE', message: expect.stringContaining('no interface nowhere0') });
    expect(error.remedy).toContain('ip -br link');
  });

  it('without the second of two interfaces', async () => {
    const { error } = await refusal(new Net(), "{ interface: ['veth0', 'nowhere0'] }");
    expect(error).toMatchObject({ code: 'SLUICE_DEVICE' });
  });

  it('without the queue', async () => {
    const { error } = await refusal(new Net(), "{ interface: 'veth0', queues: [0, 1] }");
    expect(error).toMatchObject({ code: 'SLUICE_DEVICE', message: expect.stringContaining('no queue 1') });
    expect(error.remedy).toContain('ethtool -L');
  });

  it('where the driver has no zero-copy', async () => {
    const { error } = await refusal(new Net(), "{ interface: 'veth0', mode: 'zero-copy' }");
    expect(error).toMatchObject({ code: 'EOPNOTSUPP' });
    expect(error.remedy).not.toBe('');
  });

  it('with too little locked memory', async () => {
    const memory = [
      'prlimit',
      '--memlock=1048576:1048576',
      'setpriv',
      '--bounding-set=-ipc_lock',
      '--inh-caps=-ipc_lock',
    ];
    const { error } = await refusal(new Net(), "{ interface: 'veth0' }", memory);
    expect(error).toMatchObject({ code: 'ENOBUFS' });
    expect(error.remedy).toContain('locked memory');
  });

  it('without the right to', async () => {
    const user = ['setpriv', '--inh-caps=-all', '--bounding-set=-all'];
    const { error } = await refusal(new Net(), "{ interface: 'veth0' }", user);
    expect(['EPERM', 'EACCES']).toContain(error.code);
    expect(error.remedy).toMatch(/root|CAP_/);
  });

  it('on an interface with a program of somebody else, which stays', async () => {
    const net = new Net();
    net.node.ip(`link set veth0 xdpdrv object build/bpf/pass.bpf.o section xdp`);
    const result = await net.run(attempt("{ interface: 'veth0' }")).next<Refusal>();
    expect(result.error).toMatchObject({ code: 'SLUICE_DEVICE', message: expect.stringContaining('is taken') });
    expect(result).toMatchObject({ xdp: expect.stringContaining('sluice_pass'), fds: 0, taps: [] });
  });

  it('when another process has it', async () => {
    const net = new Net();
    // It keeps the port: one that nobody refers to is closed by the garbage collector.
    const first = net.run(
      "const port = await openPort({ interface: 'veth0' }); say('ready'); await told(); port.close();",
    );
    await first.next();
    const result = await net.run(attempt("{ interface: 'veth0' }")).next<Refusal>();
    expect(result.error).toMatchObject({ code: 'SLUICE_DEVICE', message: expect.stringContaining('another sluice') });
    expect(result.fds).toBe(0);
    // The first is none the worse for it.
    expect(result.xdp).toMatch(/^sluice_redirec/);
  });

  it('with a frame of which nothing can be made', async () => {
    const { error } = await refusal(new Net(), "{ interface: 'veth0', frameSize: 1024 }");
    expect(error).toMatchObject({
      name: 'SluiceError',
      code: 'SLUICE_USAGE',
      message: expect.stringContaining('1024'),
    });
  });
});

describe('threads', () => {
  /** One worker a queue; each line told goes to all of them. */
  const threads = (main: string) => `
    if (!isMainThread) {
      const port = await openPort({ interface: workerData.nic, queues: [workerData.queue] });
      const stop = new AbortController();
      parentPort.on('message', () => stop.abort());
      parentPort.postMessage('ready');
      await port.run((packet) => turnAround(packet) ? Verdict.Tx : Verdict.Drop, stop);
      port.close();
      parentPort.postMessage(port.totals());
      parentPort.close();
    } else {
      const nic = await attach({ interface: 'veth0' });
      const spawn = async (queue) => {
        const worker = new Worker(new URL(import.meta.url), { workerData: { nic: nic.handle, queue } });
        const message = () => new Promise((resolve, reject) => { worker.once('message', resolve); worker.once('error', reject); });
        await message();
        return { worker, message, stop: () => { worker.postMessage('stop'); return message(); } };
      };
      ${main}
    }
  `;

  it('share an interface, a queue each', async () => {
    const net = new Net({ queues: 2 });
    const program = net.run(
      threads(`
        const workers = [await spawn(0), await spawn(1)];
        say('ready');
        await told();
        const totals = await Promise.all(workers.map((one) => one.stop()));
        nic.close();
        say({ totals, xdp: attached('veth0'), taps: taps() });
      `),
    );
    await program.next();
    const { sent, answered } = net.udp({ port: 7, packets: 400, sockets: 64, waitMs: 3000 });
    expect({ sent, answered }).toEqual({ sent: 400, answered: 400 });
    program.tell('stop');
    const { totals, ...left } = await program.next<{ totals: PortTotals[]; xdp: null; taps: string[] }>();
    expect(totals.map(({ tx }) => tx).reduce((a, b) => a + b)).toBe(400);
    for (const { tx, rx } of totals) {
      expect(tx).toBe(rx);
      expect(rx).toBeGreaterThan(50);
    }
    expect(left).toEqual({ xdp: null, taps: [] });
  });

  it('may die: the queue goes back to the host, the other goes on, and a new one takes over', async () => {
    const net = new Net({ queues: 2 });
    const program = net.run(
      threads(`
        const [first, second] = [await spawn(0), await spawn(1)];
        await first.worker.terminate();
        say('one');
        await told();
        const third = await spawn(0);
        say('two');
        await told();
        say(await Promise.all([third.stop(), second.stop()]));
      `),
    );
    await program.next();
    const half = net.udp({ port: 7, packets: 400, sockets: 64, waitMs: 1000 });
    expect(half.answered).toBeGreaterThan(50);
    expect(half.answered).toBeLessThan(350);
    program.tell('again');
    await program.next();
    expect(net.udp({ port: 7, packets: 400, sockets: 64, waitMs: 3000 }).answered).toBe(400);
    program.tell('stop');
    const totals = await program.next<PortTotals[]>();
    expect(totals[0].tx + totals[1].tx).toBe(400 + half.answered);
  });

  it('that take the same queue, or one that is not there, or come too late, are told', async () => {
    const net = new Net({ queues: 2 });
    const program = net.run(`
      const nic = await attach({ interface: 'veth0', hostPath: false });
      const port = await openPort({ interface: nic.handle, queues: [0] });
      const busy = await failing(() => openPort({ interface: nic.handle, queues: [0] }));
      const none = await failing(() => openPort({ interface: nic.handle, queues: [2] }));
      const option = await failing(() => openPort({ interface: nic.handle, hostPath: true }));
      const again = await failing(() => attach({ interface: 'veth0' }));
      nic.close();
      nic.close();
      const late = await failing(() => openPort({ interface: nic.handle, queues: [1] }));
      port.close();
      say({ busy, none, option, again, late, xdp: attached('veth0') });
    `);
    expect(await program.next()).toMatchObject({
      busy: { code: 'EBUSY', remedy: expect.stringMatching(/\S/) },
      none: { code: 'SLUICE_DEVICE', message: expect.stringContaining('no queue 2') },
      option: { code: 'SLUICE_USAGE', message: expect.stringContaining('hostPath') },
      again: { code: 'SLUICE_DEVICE' },
      late: { code: 'SLUICE_STATE', message: expect.stringContaining('does not answer') },
      xdp: null,
    });
  });

  it('that only hold an attachment end by themselves', async () => {
    const net = new Net();
    const program = net.run("await attach({ interface: 'veth0' }); say(attached('veth0')); lines.close();");
    expect(await program.next()).toMatch(/^sluice_/);
    expect(await program.end()).toBe(0);
  });
});

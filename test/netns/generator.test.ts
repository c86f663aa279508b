/** `sluice gen` as an operator runs it, into a veth whose other end is a sluice that drops it. */
import { expect, it } from 'vitest';
import { callControl } from '../../src/control/api/client.js';
import type { RuleListing } from '../../src/control/api/contract.js';
import { PcapngWriter } from '../../src/pcap/pcapng_writer.js';
import { compiledProgram, type ChildProgram } from '../../src/playground/process.js';
import { sniff } from '../support/capture_wire.js';
import { CLIENT, daemonConfig, interfaceOf, NODE, TestDaemon, VIP, Wire } from '../support/daemon.js';

const PORT = 7777;
const RULE = { name: 'bad', match: { protocol: 'udp', dport: PORT }, action: 'drop' };

function gen(wire: Wire, ...args: string[]): ChildProgram {
  const main = [compiledProgram('cli/main'), 'gen', '--interface', 'eth0', ...args];
  return wire.playground.start(wire.client, process.execPath, main, { label: 'sluice gen' });
}

async function output(program: ChildProgram): Promise<{ code: number | null; stdout: string; stderr: string }> {
  let stdout = '';
  program.on('line', (line) => (stdout += `${line}\n`));
  const { code } = await program.ended;
  return { code, stdout, stderr: program.errorOutput };
}

interface Sent {
  packets: number;
  sent: number;
  dropped: number;
  ended: string;
}

it('sends what a daemon then counts, by its rule in the kernel and in the workers', async () => {
  const wire = new Wire();
  const config = (offload: string) => daemonConfig(wire, { rules: [RULE], filters: ['sanity', 'rules'], offload });
  const daemon = await TestDaemon.start(wire, config('auto'));
  const acted = async (): Promise<number[]> => {
    const { rules }: RuleListing = await callControl(daemon.socket, 'rules.list', {}, 10_000);
    return [rules[0].acted, rules[0].kernelPackets];
  };
  // Its hardware address by the host's own neighbours.
  wire.client.ip(`neigh replace ${NODE} lladdr 02:00:00:00:90:02 dev eth0 nud permanent`);
  const load = ['--dst', VIP, '--dport', String(PORT), '--src', '10.90.0.0/24', '--flows', '1k', '--rate', '20k'];
  for (const [offload, kernel] of [
    ['auto', 1],
    ['off', 0],
  ] as const) {
    // prettier-ignore
    daemon.configure(config(offload));
    expect(await daemon.reload()).toMatchObject({ applied: true });
    const [before, inKernel] = await acted();
    const { code, stdout, stderr } = await output(gen(wire, ...load, '--count', '6000', '--json'));
    expect([code, stderr]).toEqual([0, '']);
    const result = JSON.parse(stdout) as Sent;
    expect(result).toMatchObject({ packets: 6000, ended: 'count', flows: 1000, source: '10.90.0.0/24', asked: 20_000 });
    expect([result.sent, result.dropped]).toEqual([6000, 0]);
    await expect.poll(acted).toEqual([before + 6000, inKernel + 6000 * kernel]);
  }
  const { xdp } = interfaceOf(await daemon.status());
  expect(xdp!.rules).toBe(6000);
});

it('is stopped and goes on as any job, and still sends as many as asked', async () => {
  const wire = new Wire();
  wire.node.exec('ethtool', '-K', 'in0', 'gro', 'on');
  const load = ['--dst', NODE, '--dst-mac', '02:00:00:00:90:02', '--count', '200k', '--duration', '50s'];
  const program = gen(wire, ...load, '--rate', '100k', '--json');
  const printed = output(program);
  const stopping = setInterval(() => {
    program.kill('SIGSTOP');
    setTimeout(() => program.kill('SIGCONT'), 20);
  }, 60);
  const { code, stdout, stderr } = await printed;
  clearInterval(stopping);
  expect([code, stderr]).toEqual([0, '']);
  expect(JSON.parse(stdout)).toMatchObject({ packets: 200_000, ended: 'count' });
});

it('ends on a signal with what it has sent, and says what is wrong with its arguments', async () => {
  const wire = new Wire();
  const mac = ['--dst-mac', '02:00:00:00:90:02'];
  const nowhere = await output(gen(wire, '--dst', NODE, ...mac, '--count', '100', '--rate', '10k'));
  expect([nowhere.code, nowhere.stdout]).toEqual([
    0,
    expect.stringContaining('interface: 0 sent, 0 dropped') as string,
  ]);
  expect(nowhere.stderr).toMatch(/^sluice gen: eth0 took 0 of 100 packets\n.*ethtool -K IF gro on$/);
  wire.node.exec('ethtool', '-K', 'in0', 'gro', 'on');
  const endless = gen(wire, '--dst', NODE, ...mac, '--duration', '50s', '--rate', '5k');
  const printed = output(endless);
  // Without XDP there, its kernel counts what is for none of its ports.
  const noPorts = (): number => Number(/NoPorts\s+(\d+)/.exec(wire.node.exec('nstat', '-asz', 'UdpNoPorts').replace('UdpNoPorts', 'NoPorts'))?.[1]); // prettier-ignore
  await expect.poll(noPorts).toBeGreaterThan(500);
  endless.kill('SIGINT');
  const { code, stdout } = await printed;
  expect(code).toBe(0);
  expect(stdout).toMatch(/^eth0: [\d,]+ packets in \d+\.\d\d s \(stopped\), /);
  expect(stdout).toMatch(/udp from 1 flow of 198\.18\.0\.0\/15 to 10\.90\.0\.2: [\d,]+ of 64 bytes/);

  const refused = async (...args: string[]): Promise<string> => {
    const { code: exit, stderr } = await output(gen(wire, ...args));
    return `${exit} ${stderr}`;
  };
  expect(await refused('--dst', VIP, ...mac)).toMatch(/^2 sluice: it is not said when to stop\n {2}Give --duration/);
  expect(await refused('--dst', CLIENT.replace(/1$/, '77'), '--count', '1')).toMatch(
    /^2 sluice: the hardware address of 10\.90\.0\.77 on eth0 is not known\n {2}Give --dst-mac/,
  );
});

it('sends from an AF_XDP socket too: as many, as fast and for as long as asked, to a peer without XDP', async () => {
  const wire = new Wire();
  const mac = ['--dst', NODE, '--dst-mac', '02:00:00:00:90:02', '--engine', 'xsk', '--json'];
  const arrived = (): number => wire.node.query<{ stats64: { rx: { packets: number } } }[]>('link', 'show', 'dev', 'in0')[0].stats64.rx.packets; // prettier-ignore
  const run = async (...args: string[]): Promise<Sent & { elapsedMs: number; cpuMs: number }> => {
    const { code, stdout, stderr } = await output(gen(wire, ...mac, ...args));
    expect([code, stderr]).toEqual([0, '']);
    return JSON.parse(stdout) as Sent & { elapsedMs: number; cpuMs: number };
  };
  const counted = await run('--count', '20k', '--rate', '100k', '--flows', '100', '--size', 'imix', '--cpu', '0');
  expect(counted).toMatchObject({ packets: 20_000, ended: 'count', sent: 20_000, dropped: 0 });
  expect(counted.elapsedMs).toBeGreaterThanOrEqual(199);
  expect(counted.cpuMs).toBeLessThan(counted.elapsedMs);
  await expect.poll(arrived).toBe(20_000);

  const timed = await run('--duration', '200ms');
  expect(timed.ended).toBe('time');
  expect(timed.packets).toBeGreaterThan(1000);
  expect(timed.sent + timed.dropped).toBe(timed.packets);

  const endless = gen(wire, ...mac, '--duration', '50s', '--rate', '2k');
  const printed = output(endless);
  const before = arrived();
  await expect.poll(arrived).toBeGreaterThan(before + 100);
  // The queue is its own as long as it sends.
  const second = await output(gen(wire, ...mac, '--count', '1'));
  expect([second.code, second.stderr]).toEqual([69, expect.stringMatching(/^sluice: .*eth0 queue 0.*EBUSY/) as string]);
  endless.kill('SIGINT');
  const { code, stdout } = await printed;
  expect([code, (JSON.parse(stdout) as Sent).ended]).toEqual([0, 'stopped']);
});

it('replays a capture as it is, again and again, with its own hardware addresses or others', async () => {
  const wire = new Wire();
  const file = wire.playground.path('replay.pcap');
  const frame = (i: number): Buffer => {
    const bytes = Buffer.alloc(60 + 10 * i, i);
    bytes.write('020000000077020000000078', 'hex');
    bytes.writeUInt16BE(0x88b5, 12);
    return bytes;
  };
  const writer = PcapngWriter.open(file);
  const interfaceId = writer.addInterface({ name: 'eth9' });
  for (let i = 0; i < 5; i++) writer.writePacket({ interfaceId, timestampNs: 0n, data: frame(i) });
  writer.close();
  const program = (...args: string[]): ChildProgram => gen(wire, '--pcap', file, ...args);
  const taken = await sniff(wire.playground, wire.node, 'in0', 'ether proto 0x88b5');
  expect((await output(program())).stdout).toMatch(/^eth0: 5 packets in .*\n {2}5 frames of a capture in turn, 60 to 100 bytes/); // prettier-ignore
  const result = await output(program('--count', '8', '--rate', '1k', '--dst-mac', '02:00:00:00:90:02', '--json'));
  expect([result.code, result.stderr]).toEqual([0, '']);
  expect(JSON.parse(result.stdout)).toMatchObject({ packets: 8, frames: 5, sent: 8, ended: 'count', bytes: 610 });
  const sent = (await taken()).map((bytes) => bytes.toString('hex'));
  const again = [0, 1, 2, 3, 4, 0, 1, 2].map((i) => {
    const bytes = frame(i);
    bytes.write('020000009002020000009001', 'hex');
    return bytes;
  });
  expect(sent).toEqual([...[0, 1, 2, 3, 4].map(frame), ...again].map((bytes) => bytes.toString('hex')));
});

/** `sluice capture` in an operator's shell: into files, through pipes, thinned out, and what tcpdump and tshark make of it. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { statSync } from 'node:fs';
import { afterEach, expect, it } from 'vitest';
import { readCapture, type Capture } from '../../src/pcap/capture.js';
import { compiledProgram } from '../../src/playground/process.js';
import { BACKEND, CLIENT, daemonConfig, NODE_OUT, pause, TestDaemon, UDP_PORT, VIP, Wire } from '../support/daemon.js';

const NTP_PORT = 9123;
const RULES = [{ name: 'no-ntp', match: { protocol: 'udp', dport: NTP_PORT }, action: 'drop' }];
/** Of each flow, to the service and to the rule. */
const FLOWS = 4;
const PACKETS = 2000;
const PER_SECOND = 2000;

let wire: Wire;
let daemon: TestDaemon;
const shells: ChildProcess[] = [];
afterEach(async () => {
  for (const shell of shells.splice(0)) shell.kill('SIGKILL');
  await wire.playground.close();
});

interface Shell {
  /** Ctrl-C, to a line of one program. */
  interrupt: () => void;
  /** Its output, when all of it has ended. */
  ended: Promise<{ code: number | null; out: string; errors: string }>;
}

/** A line in a shell whose `sluice` is ours, with the captures in it begun. */
async function shell(line: string): Promise<Shell> {
  const before = daemon.logged('capture begins').length;
  const sluice = `shopt -s expand_aliases; alias sluice='${process.execPath} ${compiledProgram('cli/main')}'; set -o pipefail`;
  const child = spawn('bash', ['-c', `${sluice}\n${line}`], { env: { ...process.env, SLUICE_SOCKET: daemon.socket } });
  shells.push(child);
  let [out, errors] = ['', ''];
  child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
  const ended = new Promise<{ code: number | null; out: string; errors: string }>((resolve) => {
    child.on('close', (code) => resolve({ code, out, errors }));
  });
  await expect.poll(() => daemon.logged('capture begins').length).toBe(before + 1);
  return { ended, interrupt: () => void child.kill('SIGINT') };
}

async function end({ ended }: Shell): Promise<string> {
  const { code, out, errors } = await ended;
  expect(code, errors).toBe(0);
  return out;
}

const lines = (text: string): string[] => text.split('\n').filter((line) => line !== '');

it('shows packets as they came in and as they left, to tcpdump in a pipe, to tshark, and in lines', async () => {
  wire = new Wire({ backend: true });
  daemon = await TestDaemon.start(wire, daemonConfig(wire, { rules: RULES, filters: ['sanity', 'rules'] }));
  const file = wire.playground.path('both.pcapng');
  const piped = await shell(`sluice capture --service udp --point both -c 20 -w - | tcpdump -nn -r -`);
  const written = await shell(`sluice capture --expr 'udp' --point both --snaplen 60 -c 30 -w ${file}`);
  const text = await shell(`sluice capture --rule no-ntp --reason rule --verdict drop --interface in0 --queue 0 -c 5`);
  await pause(150);
  await (await wire.send({ packets: 40, flows: 1, ratePerSecond: 1000, bytes: 100 })).sent();
  await (await wire.send({ packets: 40, flows: 1, ratePerSecond: 1000, bytes: 100, port: NTP_PORT })).sent();

  const seen = lines(await end(piped)).map((line) => line.replace(/^\S+ /, ''));
  expect(seen).toHaveLength(20);
  const [before, after] = [seen[0], seen[1]];
  expect(before).toMatch(new RegExp(`^IP ${CLIENT}\\.\\d+ > ${VIP}\\.${UDP_PORT}: UDP, length 100$`));
  expect(after).toBe(`IP ${NODE_OUT} > ${BACKEND}: ${before}`);
  expect(lines(await end(text))).toEqual(
    Array.from({ length: 5 }, () => expect.stringMatching(
      /^\d\d:\d\d:\d\d\.\d{6} in0:0 In {2}10\.90\.0\.1\.\d+ > 198\.51\.100\.10\.9123: udp length 128 {2}drop rule=no-ntp reason=rule queue=0$/,
    ) as string),
  ); // prettier-ignore

  await end(written);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const packets = [...readCapture(file)];
  expect(packets).toHaveLength(30);
  for (const { data, originalLength } of packets) expect([data.length, originalLength > 60]).toEqual([60, true]);
  const ours = packets.map(({ comment, verdict, queue, packetId, flags }) => [
    comment,
    verdict,
    queue,
    packetId,
    flags,
  ]);
  expect(ours[0]).toEqual([`redirect service=udp backend=${BACKEND} queue=0`, 4, 0, expect.anything(), 1]);
  expect(ours[1]).toEqual([...ours[0].slice(0, 4), 2]);
  // Not among the packages that the tests install.
  if (spawnSync('tshark', ['--version']).status === 0) {
    const fields = ['frame.comment', 'frame.verdict.ebpf_xdp', 'frame.interface_queue', 'frame.packet_id', 'frame.packet_flags_direction']; // prettier-ignore
    const args = ['-r', file, '-T', 'fields', '-E', 'separator=|', ...fields.flatMap((field) => ['-e', field])];
    const theirs = lines(spawnSync('tshark', args, { encoding: 'utf8' }).stdout).map((line) => line.split('|'));
    const numbers = theirs.map(([comment, ...rest]) => [comment, ...rest.map((value) => Number(value))]);
    expect(numbers).toEqual(ours.map(([comment, ...rest]) => [comment, ...rest.map((value) => Number(value))]));
  }
});

it('thins out: one in so many, the first of each flow, so many a second', async () => {
  wire = new Wire({ backend: true });
  daemon = await TestDaemon.start(wire, daemonConfig(wire, { rules: RULES, filters: ['sanity', 'rules'] }));
  const file = (name: string): string => wire.playground.path(`${name}.pcapng`);
  const until = (name: string, options: string): Promise<Shell> =>
    shell(`exec ${process.execPath} ${compiledProgram('cli/main')} capture ${options} -w ${file(name)}`);
  const captures = [
    await until('sampled', '--expr udp --sample 1/10'),
    await until('begun', '--expr udp --first 3'),
    await until('both', '--expr udp --first 3 --sample 1/100'),
    await until('slow', '--expr udp --rate 50/s'),
    await until('none', "--expr 'udp port 1' --verdict pass"),
  ];
  await pause(150);
  const begin = performance.now();
  const sender = await wire.send({ packets: PACKETS, flows: FLOWS, ratePerSecond: PER_SECOND });
  expect(await sender.sent()).toBe(PACKETS);
  const seconds = (performance.now() - begin) / 1000;
  await daemon.until(({ totals }) => totals.rx >= PACKETS, 'all are judged');
  await pause(300);
  for (const capture of captures) capture.interrupt();
  for (const capture of captures) await end(capture);

  const read = (name: string): Capture => readCapture(file(name));
  expect(read('sampled')).toHaveLength(PACKETS / 10);
  const flows = new Map<number, number>();
  for (const { data } of read('begun')) {
    const port = Buffer.from(data).readUInt16BE(34);
    flows.set(port, (flows.get(port) ?? 0) + 1);
  }
  expect([...flows.values()]).toEqual(Array(FLOWS).fill(3));
  const both = read('both').length;
  expect(both).toBeGreaterThanOrEqual(3 * FLOWS + Math.floor((PACKETS - 3 * FLOWS) / 100));
  expect(both).toBeLessThanOrEqual(3 * FLOWS + Math.ceil((PACKETS - 3 * FLOWS) / 100));
  // A tenth of a second's may come at once.
  expect(read('slow').length).toBeLessThanOrEqual(50 * seconds + 5 + 1);
  expect(read('slow').length).toBeGreaterThan(25);
  expect(read('none')).toHaveLength(0);
  const { received, lost } = read('sampled').statistics[0];
  expect([received, lost]).toEqual([PACKETS, 0]);
  expect((await daemon.status()).violations).toEqual([]);
});

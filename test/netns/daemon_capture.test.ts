/** Captures of a running daemon, as an operator makes them: every frame that was sent, byte for byte, with what became of it. */
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { connect } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { readCapture, type Capture, type CapturedPacket } from '../../src/pcap/capture.js';
import { compiledProgram } from '../../src/playground/process.js';
import { BACKEND, daemonConfig, pause, TestDaemon, UDP_PORT, VIP, Wire } from '../support/daemon.js';
import { sendFrames, sniff } from '../support/capture_wire.js';
import { PacketBuilder } from '../support/packet_builder.js';

const RULES = [
  { name: 'no-ntp', match: { protocol: 'udp', sport: 123 }, action: 'drop' },
  { name: 'sampled', match: { protocol: 'udp', sport: 777 }, action: 'sample', sample: { one_in: 10, snaplen: 60 } },
];

const frame = (sport: number, dport: number, number: number, bytes = 100) =>
  new PacketBuilder()
    .ethernet({ src: '02:00:00:00:90:01', dst: '02:00:00:00:90:02' })
    .ipv4({ src: '10.90.0.1', dst: VIP, id: number })
    .udp({ sport, dport })
    .payload(new Uint8Array(bytes).fill(number & 255))
    .build();

let wire: Wire;
let daemon: TestDaemon;
afterEach(() => wire.playground.close());

async function start(parts: object = {}): Promise<void> {
  wire = new Wire({ backend: true });
  daemon = await TestDaemon.start(wire, daemonConfig(wire, { rules: RULES, filters: ['sanity', 'rules'], ...parts }));
}

/** `sluice capture … -w -` of the daemon. */
class Running {
  private readonly chunks: Buffer[] = [];
  stderr = '';
  private readonly ended: Promise<number | null>;

  constructor(private readonly child: ChildProcessWithoutNullStreams) {
    child.stdout.on('data', (chunk: Buffer) => this.chunks.push(chunk));
    child.stderr.on('data', (chunk: Buffer) => (this.stderr += chunk.toString()));
    this.ended = new Promise((resolve) => child.on('close', resolve));
  }

  /** Starts it, and waits until the workers capture. */
  static async start(...args: string[]): Promise<Running> {
    const before = daemon.logged('capture begins').length;
    const all = [compiledProgram('cli/main'), 'capture', '--socket', daemon.socket, '-w', '-', ...args];
    const running = new Running(spawn(process.execPath, all));
    await expect.poll(() => daemon.logged('capture begins').length).toBe(before + 1);
    await pause(150);
    return running;
  }

  get bytes(): Buffer {
    return Buffer.concat(this.chunks);
  }

  /** Ctrl-C, and the whole capture. */
  async stop(): Promise<Capture> {
    this.child.kill('SIGINT');
    return this.end();
  }

  async end(): Promise<Capture> {
    expect(await this.ended, this.stderr).toBe(0);
    return readCapture(this.bytes);
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

/** Hexadecimal: what differs is seen. */
const hex = (frames: Iterable<Uint8Array>) => Array.from(frames, (frame) => Buffer.from(frame).toString('hex'));
const dataOf = (capture: Iterable<CapturedPacket>) => hex(Array.from(capture, ({ data }) => data));
const sum = (capture: Capture, key: 'received' | 'accepted' | 'lost' | 'delivered') =>
  capture.statistics.reduce((total, each) => total + each[key], 0);

it('drops by rule, passes and what is sent on: every frame as it was sent and as it left', async () => {
  await start();
  const everything = await Running.start('--point', 'both', '--interface', 'in0', '--expr', 'udp');
  const dropped = await Running.start('--rule', 'no-ntp', '--verdict', 'drop');
  const passed = await Running.start('--verdict', 'pass', '--expr', 'udp');
  const samples = await Running.start('--rule', 'sampled');
  const first = await Running.start('--service', 'udp', '--first', '2', '--snaplen', '42');
  const sent: Buffer[] = [];
  for (let i = 0; i < 400; i++) {
    const [sport, dport] = [
      [1000, UDP_PORT],
      [123, UDP_PORT],
      [1001, 9999],
      [777, UDP_PORT],
    ][i % 4];
    sent.push(Buffer.from(frame(sport, dport, i, i)));
  }
  const sniffed = await sniff(wire.playground, wire.backend!, 'eth0', `ip proto 4 and dst host ${BACKEND}`);
  await sendFrames(wire.client, 'eth0', sent);
  await expect.poll(() => everything.bytes.length > 0).toBe(true);
  await pause(400);
  const left = await sniffed();

  const all = await everything.stop();
  const inbound = [...all].filter(({ flags }) => flags === 1);
  const outbound = [...all].filter(({ flags }) => flags === 2);
  expect(dataOf(inbound)).toEqual(hex(sent));
  expect(dataOf(outbound)).toEqual(hex(left));
  expect(left).toHaveLength(200);
  // The two frames of a packet have one number.
  const numbers = new Map(inbound.map(({ packetId }, i) => [packetId, sent[i]]));
  expect(numbers.size).toBe(400);
  for (const { packetId, data } of outbound) {
    expect(Buffer.from(data.subarray(34))).toEqual(numbers.get(packetId)!.subarray(14));
  }
  expect(inbound.slice(0, 4).map(({ comment, verdict, queue }) => [comment, verdict, queue])).toEqual([
    [`redirect service=udp backend=${BACKEND} queue=0`, 4, 0],
    ['drop rule=no-ntp reason=rule service=udp queue=0', 1, 0],
    ['pass queue=0', 2, 0],
    [expect.stringContaining('redirect') as string, 4, 0],
  ]);
  const now = BigInt(Date.now()) * 1_000_000n;
  for (const { timestampNs } of all) expect(now - timestampNs < 60_000_000_000n && timestampNs <= now).toBe(true);
  expect(sum(all, 'lost')).toBe(0);
  expect(sum(all, 'accepted')).toBe(600);
  expect(sum(all, 'delivered')).toBe(600);
  expect(everything.stderr).toContain('600 frames captured, 600 met the conditions, 0 lost');

  expect(dataOf(await dropped.stop())).toEqual(hex(sent.filter((_, i) => i % 4 === 1)));
  expect(dataOf(await passed.stop())).toEqual(hex(sent.filter((_, i) => i % 4 === 2)));
  const sampled = await samples.stop();
  expect(sampled).toHaveLength(10);
  const known = new Set(sent.filter((_, i) => i % 4 === 3).map((bytes) => bytes.subarray(0, 60).toString('hex')));
  for (const { data, comment } of sampled) {
    expect(known.has(Buffer.from(data).toString('hex'))).toBe(true);
    expect(comment).toContain('rule=sampled');
  }
  const begins = await first.stop();
  expect(dataOf(begins)).toEqual(hex([0, 1, 3, 4, 5, 7].map((i) => sent[i].subarray(0, 42))));
  expect([...begins].map(({ originalLength }) => originalLength)).toEqual(
    [0, 1, 3, 4, 5, 7].map((i) => sent[i].length),
  );

  const status = await daemon.status();
  expect(status.violations).toEqual([]);
  expect(status.rules.find(({ name }) => name === 'no-ntp')!.packets).toBe(100);
  expect((await daemon.stop()).code).toBe(0);
  expect(daemon.logged('frames are missing')).toEqual([]);
});

it('ends by count, by time, with the daemon; is refused in words', async () => {
  await start();
  const frames = Array.from({ length: 50 }, (_, i) => Buffer.from(frame(1000 + i, UDP_PORT, i)));
  const counted = await Running.start('-c', '7');
  const lasting = await Running.start();
  // The last to begin: the frames come within its time.
  const timed = await Running.start('--duration', '4');
  await sendFrames(wire.client, 'eth0', frames);
  expect(dataOf(await counted.end())).toEqual(hex(frames.slice(0, 7)));
  expect(dataOf(await timed.end())).toEqual(hex(frames));

  const text = daemon.cli('capture', '--duration', '0.2', '--rate', '5/s');
  expect(text).toMatchObject({ code: 0, stdout: '' });
  expect(text.stderr).toMatch(/^0 frames captured, 0 met the conditions, 0 lost, 0 packets seen\n$/);
  expect(daemon.cli('capture', '--rule', 'no-ntpp')).toMatchObject({ code: 2, stderr: expect.stringContaining('Did you mean "no-ntp"?') }); // prettier-ignore
  expect(daemon.cli('capture', '--expr', 'host example.com').code).toBe(1);
  expect(daemon.cli('capture', '--sample', '100').code).toBe(2);

  const dump = spawnSync('tcpdump', ['-n', '-r', '-', 'src port 1003'], { input: lasting.bytes, encoding: 'utf8' });
  expect(dump.stdout).toContain(`10.90.0.1.1003 > ${VIP}.${UDP_PORT}: UDP, length 100`);
  expect((await daemon.stop()).code).toBe(0);
  const rest = await lasting.end();
  expect(dataOf(rest)).toEqual(hex(frames));
  expect(rest.statistics).not.toEqual([]);
});

it('a client that does not read, or is killed, costs captures only', async () => {
  await start();
  const deaf = connect(daemon.socket);
  deaf.pause();
  deaf.write('{"id":1,"method":"capture"}\n');
  const killed = await Running.start('--point', 'both');
  const receiver = await wire.receive();
  const big = { packets: 12_000, bytes: 1200, ratePerSecond: 6000 };
  const sender = await wire.send(big);
  await pause(300);
  killed.kill();
  expect(await sender.sent()).toBe(12_000);
  await expect.poll(async () => (await receiver.stats()).received).toBe(12_000);
  deaf.destroy();
  await expect.poll(() => daemon.logged('capture ends').length).toBe(2);
  const ends = daemon.logged('capture ends') as unknown as {
    seen: number;
    accepted: number;
    lost: number;
    delivered: number;
  }[];
  // 12,000 packets of 1,200 bytes are 16 MB: three times what waits for a client, its socket's buffer included.
  const { accepted, lost, delivered } = ends.find(({ seen }) => seen >= 12_000)!;
  expect(delivered).toBeGreaterThan(1000);
  expect(delivered).toBeLessThan(6000);
  expect(lost + delivered).toBe(accepted);
  expect((await daemon.status()).violations).toEqual([]);
  // The way without a capture is as it was.
  const again = await Running.start('-c', '1');
  await sendFrames(wire.client, 'eth0', [Buffer.from(frame(5, UDP_PORT, 1))]);
  expect(await again.end()).toHaveLength(1);
});

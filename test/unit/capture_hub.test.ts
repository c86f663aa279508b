import { mkdtempSync, rmSync, statSync } from 'node:fs';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { captureCommand } from '../../src/cli/commands/capture.js';
import type { CaptureRequest, ControlTarget } from '../../src/control/api/contract.js';
import { ControlServer } from '../../src/control/api/server.js';
import { openCapture } from '../../src/control/capture/client.js';
import { CaptureHub, type CaptureWorker } from '../../src/control/capture/hub.js';
import { createLog } from '../../src/control/log.js';
import { DropReason, Verdict } from '../../src/dataplane/verdict.js';
import { readCapture, type Capture } from '../../src/pcap/capture.js';
import {
  captureCounter,
  CaptureCounter,
  CaptureRecord,
  CaptureRingWriter,
  RecordKind,
} from '../../src/shared/capture_ring.js';
import type { CaptureCommand } from '../../src/shared/capture_spec.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';
import { fakeView } from '../support/fake_view.js';
import { PacketBuilder } from '../support/packet_builder.js';

const INTERFACES = [
  { name: 'in0', index: 0, queues: [0, 1] },
  { name: 'out0', index: 1, queues: [0, 1] },
];

/** A worker that writes whatever a test has it write. */
class FakeWorker implements CaptureWorker {
  command: CaptureCommand | null = null;
  running = true;
  private writer: CaptureRingWriter | null = null;
  private readonly known = new Set<number>();

  constructor(readonly queue: number) {}

  post(command: CaptureCommand): boolean {
    if (!this.running) return false;
    this.command = command;
    this.writer = new CaptureRingWriter(command.ring);
    for (const { capture, serial } of command.captures) {
      if (!this.known.has(serial)) this.writer.begin(capture, serial);
      this.known.add(serial);
    }
    this.writer.carriedOut(command.version);
    return true;
  }

  /** Captures a frame for all captures that run. */
  write(bytes: Uint8Array, fields: Partial<Record<keyof typeof FIELDS, number>> = {}): void {
    const writer = this.writer!;
    const at = writer.reserve(bytes.length);
    for (const { capture } of this.command!.captures) {
      writer.counters[captureCounter(capture, 0, CaptureCounter.seen)]++;
      writer.counters[captureCounter(capture, 0, CaptureCounter.accepted)]++;
      if (at < 0) writer.counters[captureCounter(capture, 0, CaptureCounter.lost)]++;
    }
    if (at < 0) return;
    const values = { ...FIELDS, ...fields, length: bytes.length, wireLength: bytes.length };
    const { words } = writer;
    words[at + CaptureRecord.captures] = this.command!.captures.reduce((all, { capture }) => all | (1 << capture), 0);
    words[at + CaptureRecord.kind] = values.kind;
    words[at + CaptureRecord.verdict] = values.verdict;
    words[at + CaptureRecord.reason] = values.reason;
    words[at + CaptureRecord.rule] = values.rule;
    words[at + CaptureRecord.service] = values.service;
    words[at + CaptureRecord.backend] = values.backend;
    words[at + CaptureRecord.port] = values.port;
    words[at + CaptureRecord.packet] = values.packet;
    words[at + CaptureRecord.sampled] = values.sampled;
    words[at + CaptureRecord.seconds] = 1_700_000_000;
    words[at + CaptureRecord.nanoseconds] = 123_456_789;
    words[at + CaptureRecord.wireLength] = values.wireLength;
    words[at + CaptureRecord.length] = values.length;
    new Uint8Array(words.buffer).set(bytes, (at + CaptureRecord.SIZE) * 4);
    writer.publish();
  }
}

const FIELDS = {
  kind: RecordKind.in as number,
  verdict: Verdict.Pass as number,
  reason: DropReason.none as number,
  rule: -1,
  service: -1,
  backend: -1,
  port: 0,
  packet: 1,
  sampled: 0,
};

let directory: string;
let server: ControlServer;
let hub: CaptureHub;
let workers: FakeWorker[];
let logged: string;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'sluice-capture-'));
  logged = '';
  const stream = new Writable({ write: (chunk, _, done) => ((logged += String(chunk)), done()) });
  const log = createLog({ level: 'info', format: 'json', stream });
  workers = [new FakeWorker(0), new FakeWorker(1)];
  hub = new CaptureHub({ workers: () => workers, interfaces: () => INTERFACES, log });
  const view = fakeView();
  const target = { capture: (params) => hub.open(params, () => view) } as Partial<ControlTarget> as ControlTarget;
  server = await ControlServer.listen(join(directory, 'sock'), target, log);
});

afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

/** A capture and all that it gives. */
class Client {
  private readonly chunks: Buffer[] = [];
  readonly ended: Promise<Capture>;

  constructor(private readonly socket: Socket) {
    socket.on('data', (chunk: Buffer) => this.chunks.push(chunk));
    this.ended = new Promise((resolve, reject) => {
      socket.on('end', () => resolve(readCapture(Buffer.concat(this.chunks)))).on('error', reject);
      socket.resume();
    });
  }

  stop(): Promise<Capture> {
    this.socket.end();
    return this.ended;
  }
}

const open = async (request: CaptureRequest = {}) => new Client(await openCapture(join(directory, 'sock'), request));
const refusal = (request: object) =>
  openCapture(join(directory, 'sock'), request as CaptureRequest).then(String, String);
const frame = (fill: number, length = 60) => new Uint8Array(length).fill(fill);

describe('a capture', () => {
  it('comes as pcapng with what became of each frame, and its counters at the end', async () => {
    const client = await open();
    workers[0].write(frame(1), { verdict: Verdict.Drop, reason: DropReason.rule, rule: 0, service: 0 });
    workers[1].write(frame(2, 61), { verdict: Verdict.Redirect, service: 0, backend: 1, packet: -1 });
    workers[1].write(frame(3), { kind: RecordKind.out, verdict: Verdict.Redirect, port: 1, backend: 777, packet: -1 });
    const capture = await client.stop();
    expect(capture.interfaces.map(({ name, description }) => `${name} ${description}`)).toEqual([
      'in0 queue 0',
      'out0 queue 0',
      'in0 queue 1',
      'out0 queue 1',
    ]);
    expect([...capture].map(({ index: _, ...packet }) => packet)).toEqual(
      [
        { interfaceId: 0, flags: 1, queue: 0, verdict: 1, packetId: 1n, data: frame(1), comment: 'drop rule=drop-flood reason=rule service=web queue=0' }, // prettier-ignore
        { interfaceId: 2, flags: 1, queue: 1, verdict: 4, packetId: 0x1ffffffffn, data: frame(2, 61), comment: 'redirect service=web backend=10.1.0.1 queue=1' }, // prettier-ignore
        { interfaceId: 3, flags: 2, queue: 1, verdict: 4, packetId: 0x1ffffffffn, data: frame(3), comment: 'redirect backend=#777 queue=1' }, // prettier-ignore
      ].map((packet) => ({
        ...packet,
        timestampNs: 1_700_000_000_123_456_789n,
        originalLength: packet.data.length,
      })),
    );
    const statistics = capture.statistics.map(({ received, accepted, lost, delivered }) => [received, accepted, lost, delivered]); // prettier-ignore
    expect(statistics).toEqual([
      [1, 1, 0, 1],
      [0, 0, 0, 0],
      [2, 2, 0, 1],
      [0, 0, 0, 1],
    ]);
    expect(workers.map(({ command }) => command!.captures)).toEqual([[], []]);
    const lines = logged.trim().split('\n').map((line) => JSON.parse(line) as { msg: string; audit: boolean }); // prettier-ignore
    expect(lines.map(({ msg, audit }) => [msg, audit])).toEqual([
      ['capture begins', true],
      ['capture ends', true],
    ]);
  });

  it('is cut to what its client asked for, and by the sampler where it is after the rule', async () => {
    const [whole, short, rule] = [await open(), await open({ snaplen: 20 }), await open({ rules: ['see-dns'] })];
    workers[0].write(frame(1, 500), { rule: 1, sampled: 40 });
    const lengths = await Promise.all(
      [whole, short, rule].map(async (client) => [...(await client.stop())][0].data.length),
    );
    expect(lengths).toEqual([500, 20, 40]);
  });

  it('goes on over the death of a worker, and counts what that one had counted', async () => {
    const client = await open();
    workers[0].write(frame(1));
    workers[0].running = false;
    hub.workerGone(0);
    const again = (workers[0] = new FakeWorker(0));
    hub.workerReady(0);
    expect(again.command!.captures).toHaveLength(1);
    again.write(frame(2));
    const capture = await client.stop();
    expect([...capture].map(({ data }) => data[0])).toEqual([1, 2]);
    expect(capture.statistics[0]).toMatchObject({ received: 2, accepted: 2, lost: 0, delivered: 2 });
  });

  it('loses what the ring has no room for, and says how many', async () => {
    const client = await open();
    for (let i = 0; i < 3000; i++) workers[0].write(frame(i, 1500));
    const capture = await client.stop();
    const [{ accepted, lost, delivered }] = capture.statistics;
    expect([accepted, lost + delivered, capture.length]).toEqual([3000, 3000, delivered]);
    expect(delivered).toBeGreaterThan(1300);
    expect(lost).toBeGreaterThan(1000);
  });

  it('ends by itself after its count and its time', async () => {
    const [counted, timed] = [await open({ count: 2 }), await open({ duration: 0.1 })];
    for (let i = 0; i < 5; i++) workers[0].write(frame(i));
    expect(await counted.ended).toHaveLength(2);
    expect(await timed.ended).toHaveLength(5);
  });

  it('is told to the workers of its queues alone, with numbers for names', async () => {
    const client = await open({
      queues: [1],
      interfaces: ['out0'],
      verdicts: ['drop', 'tx'],
      reasons: ['no_backend'],
      services: ['web'],
      rules: ['see-dns'],
      point: 'both',
      oneIn: 10,
      first: 2,
      rate: 100,
    });
    expect(workers[0].command!.captures).toEqual([]);
    expect(workers[1].command!.captures).toEqual([
      {
        capture: 0,
        serial: 1,
        points: 3,
        ports: 2,
        verdicts: 10,
        reasons: [DropReason.noBackend],
        services: [0],
        rules: [1],
        program: null,
        oneIn: 10,
        first: 2,
        rate: 100,
        snaplen: 262144,
      },
    ]);
    await client.stop();
  });

  it('that is one too many is refused, until another ends', async () => {
    const clients = await Promise.all(Array.from({ length: 8 }, () => open()));
    expect(await refusal({})).toContain('8 captures run already');
    await clients[3].stop();
    const next = await open();
    workers[0].write(frame(9));
    expect(await next.stop()).toHaveLength(1);
    await Promise.all(clients.map((client) => client.stop()));
  });

  it('ends in order when the daemon does', async () => {
    const client = await open();
    workers[0].write(frame(1));
    await server.close();
    const capture = await client.ended;
    expect(capture).toHaveLength(1);
    expect(capture.statistics).toHaveLength(4);
  });
});

it.each([
  [{ rules: ['drop-floot'] }, 'there is no rule "drop-floot"'],
  [{ rules: [] }, '"rules" must be a list of names'],
  [{ verdicts: ['hold'] }, 'there is no verdict "hold"'],
  [{ reasons: ['none'] }, 'there is no drop reason "none"'],
  [{ queues: [2] }, 'there is no queue 2'],
  [{ queues: ['0'] }, '"queues" must be a list of numbers'],
  [{ point: 'constructor' }, 'point must be one of in, out, both'],
  [{ count: 0 }, 'count must be a whole number from 1'],
  [{ rate: 1.5 }, 'rate must be a whole number from 1 to 1000000'],
  [{ duration: -1 }, 'duration must be seconds'],
  [{ snaplen: 1e9 }, 'snaplen must be a whole number from 1 to 262144'],
  [{ expr: 7 }, '"expr" must be a string'],
  [{ rule: ['x'] }, 'there is no parameter "rule"'],
])('refuses %j in words', async (request, words) => expect(await refusal(request)).toContain(words));

describe('sluice capture', () => {
  const udp = new PacketBuilder()
    .ethernet()
    .ipv4({ src: '192.0.2.1', dst: '198.51.100.1' })
    .udp({ sport: 53, dport: 9 })
    .payload(10)
    .build();

  /** Runs it until it ends by itself; the worker captures two frames. */
  async function run(...args: string[]) {
    const env = new FakeEnv();
    const ended = runCommand(captureCommand(env), ['--socket', join(directory, 'sock'), '-c', '2', ...args]);
    await expect.poll(() => workers[0].command?.captures.length).toBe(1);
    workers[0].write(udp, { verdict: Verdict.Tx, service: 0, backend: 0 });
    workers[0].write(udp, { verdict: Verdict.Tx, kind: RecordKind.out });
    return { env, ...(await ended) };
  }

  it('prints a line a frame, and what was lost', async () => {
    const { env, code } = await run();
    expect(code).toBe(0);
    const lines = env.out.trimEnd().split('\n');
    expect(lines).toEqual([
      '22:13:20.123456 in0:0 In  192.0.2.1.53 > 198.51.100.1.9: udp length 38  tx service=web backend=10.1.0.0 queue=0',
      '22:13:20.123456 in0:0 Out 192.0.2.1.53 > 198.51.100.1.9: udp length 38  tx queue=0',
    ]);
    expect(env.err).toBe('2 frames captured, 2 met the conditions, 0 lost, 2 packets seen\n');
  });

  it('writes a file that nobody else may read', async () => {
    const file = join(directory, 'x.pcapng');
    const { env, code } = await run('-w', file);
    expect([code, env.out]).toEqual([0, '']);
    expect([...readCapture(file)].map(({ data }) => data)).toEqual([udp, udp]);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  });

  it('ends in order when it is interrupted', async () => {
    const env = new FakeEnv();
    const ended = runCommand(captureCommand(env), ['--socket', join(directory, 'sock')]);
    await expect.poll(() => workers[0].command?.captures.length).toBe(1);
    workers[0].write(udp);
    env.controller.abort();
    expect((await ended).code).toBe(0);
    expect(env.err).toContain('1 frame captured, 1 met the conditions');
  });

  it('says what cannot be written', async () => {
    const args = ['--socket', join(directory, 'sock'), '-w', join(directory, 'none', 'x.pcapng')];
    const { code, error } = await runCommand(captureCommand(new FakeEnv()), args);
    expect(code).toBe(2);
    expect(error?.message).toContain('cannot write the capture');
    expect(workers[0].command).toBeNull();
  });
});

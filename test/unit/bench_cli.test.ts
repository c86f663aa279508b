/** `sluice bench`: what its arguments mean, when it ends, and what it prints. The jobs themselves: test/netns/bench_pps.test.ts. */
import { describe, expect, it } from 'vitest';
import type { BenchCounts, BenchSettings, Job } from '../../src/bench/modes.js';
import { runJob, type BenchReport } from '../../src/bench/run.js';
import { balancingTables, filterTables } from '../../src/bench/tables.js';
import { benchCommand } from '../../src/cli/commands/bench.js';
import { readBench, type BenchOptions } from '../../src/cli/commands/bench_options.js';
import { parseAddress, parseMac } from '../../src/shared/addr.js';
import { BackendField } from '../../src/shared/layout.js';
import { RuleField } from '../../src/shared/rule_layout.js';
import { FakeEnv, runCommand } from '../support/fake_env.js';

const NOTHING: BenchCounts = { rx: 0, rxBytes: 0, tx: 0, txBytes: 0, dropped: 0, txLost: 0, missed: 0 };
const DEFAULTS: BenchOptions = {
  interface: ['eth1'],
  queue: '0',
  interval: '1s',
  dst: '198.51.100.10',
  dport: '9',
  txPktSize: '64',
  flows: '1',
  backends: '16',
  rules: '100',
};

/** Ten packets a round, for so many rounds. */
class FakeJob implements Job {
  readonly way = 'copy';
  rounds = 0;
  closed = 0;
  slept: number[] = [];

  constructor(
    private readonly last = Infinity,
    private readonly onRound: () => void = () => undefined,
  ) {}

  get done(): boolean {
    return this.rounds >= this.last;
  }

  round(sleepMs: number): number {
    this.rounds++;
    this.slept.push(sleepMs);
    this.onRound();
    return 10;
  }

  nowMs(): number {
    return performance.now() | 0;
  }

  counts(): BenchCounts {
    return { ...NOTHING, rx: this.rounds * 10, rxBytes: this.rounds * 640, dropped: this.rounds * 10 };
  }

  close(): void {
    this.closed++;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

describe('arguments', () => {
  it("have xdpsock's defaults, but for the batch", () => {
    const { settings, durationMs, intervalMs } = readBench('rxdrop', DEFAULTS);
    expect([durationMs, intervalMs]).toEqual([0, 1000]);
    expect(settings).toEqual({
      mode: 'rxdrop',
      interfaces: ['eth1'],
      queue: 0,
      xdp: 'auto',
      batch: 128,
      poll: false,
      load: null,
      service: null,
      rules: 100,
    });
  });

  it('choose how packets come and go', () => {
    const xdp = (options: Partial<BenchOptions>) => readBench('l2fwd', { ...DEFAULTS, ...options }).settings.xdp;
    expect([xdp({ copy: true }), xdp({ zeroCopy: true }), xdp({ xdpSkb: true })]).toEqual([
      'copy',
      'zero-copy',
      'generic',
    ]);
    expect(() => xdp({ copy: true, zeroCopy: true })).toThrow('exclude each other');
  });

  it('describe what txonly sends and what lb balances', () => {
    const txDmac = '02:00:00:00:00:09';
    const { load } = readBench('txonly', {
      ...DEFAULTS,
      txDmac,
      txPktCount: '10k',
      flows: '4',
      txPktSize: 'imix',
    }).settings;
    expect(load).toMatchObject({ packets: 10_000, flows: 4, template: 'udp', destinationPort: 9, packetsPerSecond: 0 });
    expect(load!.sizes.map(({ bytes }) => bytes)).toEqual([64, 590, 1514]);
    const { service } = readBench('lb', { ...DEFAULTS, txDmac, backends: '3', dst: '2001:db8::1' }).settings;
    expect(service).toEqual({
      vip: parseAddress('2001:db8::1'),
      port: 9,
      backends: 3,
      destinationMac: parseMac(txDmac),
    });
  });

  it.each([
    ['rxdorp', {}, 'there is no mode "rxdorp"'],
    ['rxdrop', { interface: [] }, 'rxdrop takes 1 interface, not 0'],
    ['forward', {}, 'forward takes 2 interfaces, not 1'],
    ['lb', { interface: ['a', 'b', 'c'] }, 'lb takes 1 or 2 interfaces, not 3'],
    ['lb', {}, 'balanced packets need a hardware address'],
    ['txonly', {}, 'packets need a hardware address'],
    ['rxdrop', { batchSize: '2000' }, '--batch-size "2000" is not understood'],
    ['filter', { rules: '5000' }, '--rules "5000" is not understood'],
    ['rxdrop', { duration: 'long' }, '"long" is not understood'],
  ] as const)('of %s are refused: %j', (mode, options, said) => {
    expect(() =>
      readBench(mode, {
        ...DEFAULTS,
        ...options,
        interface: [...('interface' in options ? options.interface : ['eth1'])],
      }),
    ).toThrow(said);
  });
});

describe('a run', () => {
  const options = { poll: false, intervalMs: 1000, durationMs: 0, signal: new AbortController().signal };

  it('ends when the job has done all, and reports what it did once it is closed', async () => {
    const job = new FakeJob(5);
    const reports: BenchReport[] = [];
    await runJob(job, options, (report) => {
      expect(job.closed).toBe(1);
      reports.push(report);
    });
    expect(reports).toMatchObject([{ rx: 50, rxBytes: 3200, dropped: 50, final: true }]);
    expect(job.slept).toEqual([0, 0, 0, 0, 0]);
  });

  it('ends with its time, reports each interval, and sleeps only when it is told to', async () => {
    const reports: BenchReport[] = [];
    const job = new FakeJob();
    await runJob(job, { ...options, poll: true, intervalMs: 250, durationMs: 1000 }, (report) => reports.push(report));
    expect(reports.at(-1)).toMatchObject({ final: true, rx: job.rounds * 10 });
    expect(reports.at(-1)!.seconds).toBeGreaterThanOrEqual(1);
    expect(reports.length).toBeGreaterThanOrEqual(2);
    expect(reports.length).toBeLessThanOrEqual(5);
    expect(reports.map(({ final }) => final).lastIndexOf(false)).toBe(reports.length - 2);
    // 0: before a turn of the event loop.
    expect(new Set(job.slept)).toEqual(new Set([20, 0]));
    expect(job.slept.filter((ms) => ms === 0).length).toBeLessThan(job.rounds / 10);
  });

  it('has what was judged leave before the event loop gets its turn', async () => {
    // Packets come for as long as it waits for them, one round trip behind the other.
    let inHand = 0;
    const job = new FakeJob();
    job.round = (sleepMs) => (inHand = sleepMs > 0 ? 1 : 0);
    const atTurns: number[] = [];
    let turn = setImmediate(function look() {
      atTurns.push(inHand);
      turn = setImmediate(look);
    });
    await runJob(job, { ...options, poll: true, durationMs: 350 }, () => undefined);
    clearImmediate(turn);
    expect(atTurns.length).toBeGreaterThanOrEqual(3);
    expect(new Set(atTurns)).toEqual(new Set([0]));
  });

  it('counts the pauses of the garbage collector, up to the end', async () => {
    const hold: unknown[] = [];
    // 160 MiB and more of short-lived arrays: several collections of the young generation.
    const garbage = new FakeJob(20, () => {
      for (let i = 0; i < 10_000; i++) hold[0] = new Array(100).fill(i);
    });
    let gc: BenchReport['gc'];
    await runJob(garbage, options, (report) => (gc = report.gc));
    expect(gc!.count).toBeGreaterThan(0);
    expect(gc!.maxMs).toBeGreaterThan(0);
    expect(gc!.totalMs).toBeGreaterThanOrEqual(gc!.maxMs);
    expect(gc!.heapBytes).toBeGreaterThan(1 << 20);
  });

  it('ends on the signal, and closes the job also when that fails', async () => {
    const controller = new AbortController();
    const stopped = new FakeJob();
    setTimeout(() => controller.abort(), 30);
    await runJob(stopped, { ...options, signal: controller.signal }, () => undefined);
    expect(stopped.closed).toBe(1);
    const failing = new FakeJob(Infinity, () => {
      throw new Error('an interface is gone');
    });
    await expect(runJob(failing, options, () => undefined)).rejects.toThrow('an interface is gone');
    expect(failing.closed).toBe(1);
  });
});

describe('the command', () => {
  async function run(
    ...args: string[]
  ): Promise<{ env: FakeEnv; settings: BenchSettings[]; code: number; error: Error | null }> {
    const env = new FakeEnv();
    const settings: BenchSettings[] = [];
    const command = benchCommand(env, (given) => {
      settings.push(given);
      return Promise.resolve(new FakeJob(7));
    });
    return { env, settings, ...(await runCommand(command, args)) };
  }

  it('says what it does, and rates on average at the end', async () => {
    const { env, settings, code } = await run('rxdrop', '-i', 'eth1', '-q', '3', '-p');
    expect(code).toBe(0);
    expect(settings).toMatchObject([{ mode: 'rxdrop', queue: 3, poll: true }]);
    const [first, titles, total, line] = env.out.split('\n');
    expect(first).toBe(
      'rxdrop on eth1, queue 3, copy, up to 128 at a time, sleeps while there is nothing; Ctrl-C ends it',
    );
    expect(titles.trim().split(/ {2,}/)).toEqual([
      'seconds',
      'rx pps',
      'tx pps',
      'drops/s',
      'missed/s',
      'tx lost/s',
      'CPU',
    ]);
    expect(total).toBe('rxdrop: 70 received, 0 sent, 70 dropped, 0 missed; on average:');
    expect(line).toMatch(/^ +0\.0 .* \d+ %$/);
  });

  it('prints lines of JSON: ready, then counts', async () => {
    const { env } = await run('forward', '-i', 'eth1', '-i', 'eth2', '--json');
    const lines = env.out.trim().split('\n').map((line) => JSON.parse(line) as object); // prettier-ignore
    expect(lines).toMatchObject([
      { ready: true, way: 'copy' },
      { mode: 'forward', rx: 70, tx: 0, final: true },
    ]);
  });

  it('ends with the exit code of usage, and opens nothing, when it is not understood', async () => {
    const { code, settings, error } = await run('forward', '-i', 'eth1');
    expect([code, settings, error?.message]).toEqual([2, [], 'forward takes 2 interfaces, not 1']);
  });
});

describe('its tables', () => {
  it('balance over as many backends as asked, out of the last interface', () => {
    const service = {
      vip: parseAddress('198.51.100.10'),
      port: 9,
      backends: 200,
      destinationMac: parseMac('02:00:00:00:00:09'),
    };
    const smac = parseMac('02:00:00:00:00:01');
    for (const [interfaces, port] of [
      [['d0'], 0],
      [['d0', 'd1'], 1],
    ] as const) {
      const { backends, backendList } = balancingTables(service, interfaces, smac);
      const records = new Int32Array(backends);
      const numbers = [...new Int32Array(backendList)];
      expect(numbers.length).toBe(200);
      const field = (number: number, of: number): number => records[number * BackendField.STRIDE + of];
      expect(new Set(numbers.map((number) => field(number, BackendField.port)))).toEqual(new Set([port]));
      expect(new Set(numbers.map((number) => field(number, BackendField.addr0))).size).toBe(200);
    }
  });

  it('have a rule for each port', () => {
    const { rules, filters, backendList } = filterTables(100, ['d0']);
    expect((new Int32Array(rules).length - RuleField.HEADER) / RuleField.STRIDE).toBe(100);
    expect(filters.map(({ kind }) => kind)).toEqual(['sanity', 'rules']);
    expect(new Int32Array(backendList).length).toBe(0);
  });
});

/** `sluice bench`: packets a second of one job on one queue, with the words of xdpsock. */
import { Command } from 'commander';
import { openJob } from '../../bench/index.js';
import { MODES, type BenchSettings, type Job } from '../../bench/modes.js';
import { runJob, type BenchReport } from '../../bench/run.js';
import { native } from '../../native.js';
import { processEnv, type Env } from '../env.js';
import { count, print, printJson } from '../output.js';
import { readBench, type BenchOptions } from './bench_options.js';

const HELP = `
Modes:
  rxdrop   receive and drop
  txonly   send UDP as fast as it goes (--tx-dmac, and what to send)
  l2fwd    send each packet back, hardware addresses swapped
  forward  send each packet out of the other interface: -i A -i B
  lb       balance UDP to --dst over backends, IP in IP, out of the last interface (--tx-dmac)
  filter   drop UDP by rules on its port, 1000 and on

rxdrop, l2fwd and forward are programs of some lines over the library; lb and filter are what a worker of "sluice run" does, flow table and checks
included, with nothing in the kernel but the redirect. Every IP packet of the queue is taken (lb: those to --dst): not on the interface that your terminal
comes in by. Received packets are what others send: "sluice gen" or another machine. It needs root, and ends with Ctrl-C or --duration.

Examples:
  sluice bench rxdrop -i eth1
  sluice bench l2fwd -i eth1 -q 2 -z -d 10s
  sluice bench forward -i eth1 -i eth2 -p
  sluice bench txonly -i eth1 -G 02:00:00:00:00:01 -s 64 --json
  sluice bench lb -i eth1 -i eth2 -G 02:00:00:00:00:01 --backends 64
`;

const collect = (value: string, before: string[]): string[] => [...before, value];

/** The command. `open` is for tests. */
export function benchCommand(
  env: Env = processEnv(),
  open: (settings: BenchSettings) => Promise<Job> = openJob,
): Command {
  return new Command('bench')
    .description('packets a second that one thread receives, sends, forwards, balances or filters, each second')
    .argument('<mode>', MODES.join(', '))
    .option('-i, --interface <name>', 'interface; twice for modes with two', collect, [])
    .option('-q, --queue <number>', 'its queue', '0')
    .option('-p, --poll', 'sleep while there is nothing, instead of spinning')
    .option('-c, --copy', 'force copy mode')
    .option('-z, --zero-copy', 'force zero-copy')
    .option('-S, --xdp-skb', 'use generic XDP')
    .option('-b, --batch-size <packets>', 'most packets at a time; default 128, of lb and filter 64')
    .option('-n, --interval <time>', 'time between two lines', '1s')
    .option('-d, --duration <time>', 'end after 500ms, 10s, 5m (default: Ctrl-C)')
    .option('-G, --tx-dmac <mac>', 'txonly, lb: hardware address to send to')
    .option('--dst <address>', 'txonly: destination; lb: address of the service', '198.51.100.10')
    .option('--dport <port>', 'txonly: destination port; lb: port of the service', '9')
    .option('-C, --tx-pkt-count <packets>', 'txonly: end after so many')
    .option('-s, --tx-pkt-size <bytes>', 'txonly: bytes of a frame without FCS, or imix', '64')
    .option('--flows <number>', 'txonly: distinct sources', '1')
    .option('--backends <number>', 'lb: backends of the service', '16')
    .option('-R, --rules <number>', 'filter: rules', '100')
    .option('--json', 'a line of JSON each interval, counts since the start')
    .addHelpText('after', HELP)
    .action(async (mode: string, options: BenchOptions) => {
      const { settings: plan, intervalMs, durationMs } = readBench(mode, options);
      const load = plan.load && { ...plan.load, sourceMac: native().linkInfo(plan.load.interface).address };
      const settings: BenchSettings = { ...plan, load };
      const job = await open(settings);
      if (options.json) printJson(env, { ready: true, way: job.way }, 0);
      else print(env, ...heading(settings, job));
      const { poll } = settings;
      const say = options.json ? jsonLines(env, settings) : textLines(env, settings);
      await runJob(job, { poll, intervalMs, durationMs, signal: env.signal }, say);
    });
}

function heading({ mode, interfaces, queue, poll, batch }: BenchSettings, { way }: Job): string[] {
  const spins = mode === 'txonly' ? '' : poll ? ', sleeps while there is nothing' : ', spins';
  return [
    `${mode} on ${interfaces.join(' and ')}, queue ${queue}, ${way}, up to ${batch} at a time${spins}; Ctrl-C ends it`,
    ['seconds', 'rx pps', 'tx pps', 'drops/s', 'missed/s', 'tx lost/s', 'CPU']
      .map((title) => title.padStart(WIDTH))
      .join(''),
  ];
}

/** Of a column. */
const WIDTH = 12;

function jsonLines(env: Env, { mode }: BenchSettings): (report: BenchReport) => void {
  return (report) => printJson(env, { mode, ...report }, 0);
}

/** Rates since the line before; the last line has those of the whole. */
function textLines(env: Env, { mode }: BenchSettings): (report: BenchReport) => void {
  const nothing: BenchReport = {
    seconds: 0,
    rx: 0,
    rxBytes: 0,
    tx: 0,
    txBytes: 0,
    dropped: 0,
    txLost: 0,
    missed: 0,
    cpuSeconds: 0,
    final: false,
  };
  let last = nothing;
  return (now) => {
    const before = now.final ? nothing : last;
    const seconds = now.seconds - before.seconds;
    const rate = (name: 'rx' | 'tx' | 'dropped' | 'missed' | 'txLost'): string =>
      count((now[name] - before[name]) / seconds).padStart(WIDTH);
    const cpu = `${Math.round(((now.cpuSeconds - before.cpuSeconds) / seconds) * 100)} %`.padStart(WIDTH);
    const line = now.seconds.toFixed(1).padStart(WIDTH) + rate('rx') + rate('tx') + rate('dropped') + rate('missed') + rate('txLost') + cpu; // prettier-ignore
    if (now.final) {
      const total = `${mode}: ${count(now.rx)} received, ${count(now.tx)} sent, ${count(now.dropped)} dropped, ${count(now.missed)} missed; on average:`;
      print(env, total, line);
    } else print(env, line);
    last = now;
  };
}

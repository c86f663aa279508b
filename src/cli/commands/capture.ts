import { once } from 'node:events';
import { createWriteStream, openSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Writable } from 'node:stream';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { CaptureRequest } from '../../control/api/contract.js';
import { openCapture } from '../../control/capture/client.js';
import { SluiceError } from '../../errors.js';
import { BlockStream } from '../../pcap/block_stream.js';
import { readCapture, type Capture } from '../../pcap/capture.js';
import type { InterfaceStatistics } from '../../pcap/pcapng_options.js';
import { controlSocket, processEnv, type Env } from '../env.js';
import { frameText } from '../frame_text.js';
import { count, plain, plural } from '../output.js';

interface Options {
  socket?: string;
  rule?: string[];
  verdict?: string[];
  reason?: string[];
  service?: string[];
  interface?: string[];
  queue?: number[];
  expr?: string;
  point?: CaptureRequest['point'];
  count?: number;
  duration?: number;
  sample?: number;
  first?: number;
  rate?: number;
  snaplen?: number;
  write?: string;
}

/** How long the daemon may take to send the end of a capture, ms. */
const END_MS = 3000;

/** `sluice capture`: packets of the running daemon, with what became of them. */
export function captureCommand(env: Env = processEnv()): Command {
  return new Command('capture')
    .description('Capture packets from the data path of the running sluice, with verdict, rule, service and backend')
    .option('--rule <name>', 'that this rule matched; of a rule that samples: that it sampled', list)
    .option('--verdict <name>', 'drop, pass, tx, redirect or aborted', list)
    .option('--reason <name>', 'dropped for this reason, as `sluice status` names it', list)
    .option('--service <name>', 'for this service', list)
    .option('--expr <expression>', 'pcap-filter(7), over the frame as it came in')
    .option('--interface <name>', 'that came in here', list)
    .option('--queue <number>', 'that came in on this queue', numbers)
    .addOption(
      new Option('--point <point>', 'the frame as it came in, as it leaves, or both').choices(['in', 'out', 'both']),
    )
    .option('-c, --count <frames>', 'end after so many frames', whole)
    .option('--duration <seconds>', 'end after so long', seconds)
    .option('--sample <1/N>', 'one packet in N', sample)
    .option(
      '--first <packets>',
      'the first packets of each flow; with --sample: these and one in N of the others',
      whole,
    )
    .option('--rate <packets>', 'most packets a second', rate)
    .option('--snaplen <bytes>', 'most bytes of a frame', whole)
    .option('-w, --write <file>', 'write pcapng to a file, - for standard output; else one line a frame')
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .addHelpText(
      'after',
      `
All conditions must hold; one that is given twice means either. Ends with Ctrl-C, after -c frames or --duration seconds. Sampling, --first and
--rate are by worker. Whoever may open the control socket may see users' data: usually root alone.

Examples:
  sluice capture --verdict drop
  sluice capture --rule drop-ntp --sample 1/1000 -w ntp.pcapng
  sluice capture --service web --point both --expr 'host 192.0.2.1' -w - | tcpdump -n -r -
  sluice capture --reason no_backend --first 3 --duration 10`,
    )
    .action((options: Options) => capture(env, options));
}

async function capture(env: Env, options: Options): Promise<void> {
  // First, so that nothing is captured for a file that cannot be.
  const sink = options.write === undefined ? null : open(env, options.write);
  const socket = await openCapture(controlSocket(env, options.socket), requestOf(options));
  const summary = new Summary();
  const end = (): void => {
    socket.end();
    setTimeout(() => socket.destroy(), END_MS).unref();
  };
  let failure: Error | null = null;
  const fail = (error: Error): void => {
    failure ??= error;
    socket.destroy();
  };
  sink?.on('error', fail);
  // Our own side of what went wrong is told by `failure`; the daemon's death ends the stream.
  socket.on('error', () => undefined);
  if (env.signal.aborted) end();
  else env.signal.addEventListener('abort', end, { once: true });
  try {
    const blocks = new BlockStream();
    for await (const chunk of socket as AsyncIterable<Buffer>) {
      const piece = blocks.push(chunk);
      const read = piece === null ? null : readCapture(piece, { name: '(capture)' });
      if (read) summary.add(read);
      if (sink === null) await show(env, read);
      else if (!sink.write(chunk)) await Promise.race([once(sink, 'drain'), once(sink, 'close')]);
    }
  } catch (error) {
    fail(error as Error);
  } finally {
    env.signal.removeEventListener('abort', end);
    if (sink !== null && sink !== env.stdout) await new Promise((done) => sink.end(done));
  }
  if (failure !== null) throw writeError(failure, options.write);
  env.stderr.write(`${summary.text()}\n`);
}

function open(env: Env, file: string): Writable {
  if (file === '-') return env.stdout;
  try {
    return createWriteStream(file, { fd: openSync(resolve(env.cwd, file), 'w', 0o600) });
  } catch (error) {
    throw writeError(error as Error, file);
  }
}

function writeError(error: Error, file: string | undefined): Error {
  if (!('syscall' in error) || file === undefined) return error;
  return new SluiceError('SLUICE_USAGE', `cannot write the capture ${file}: ${error.message}`, 'Check the path.', {
    cause: error,
  });
}

function requestOf(options: Options): CaptureRequest {
  const { rule, verdict, reason, service, interface: interfaces, queue, sample: oneIn } = options;
  const { expr, point, count: frames, duration, first, rate: most, snaplen } = options;
  const request = {
    ...{ rules: rule, verdicts: verdict, reasons: reason, services: service, interfaces, queues: queue, oneIn },
    ...{ expr, point, count: frames, duration, first, rate: most, snaplen },
  };
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== undefined));
}

/** One line a frame: time, where, which way, the frame in short, what became of it. */
async function show(env: Env, read: Capture | null): Promise<void> {
  if (read === null) return;
  const lines: string[] = [];
  for (const { timestampNs, interfaceId, data, flags, queue, comment } of read) {
    const time = new Date(Number(timestampNs / 1_000_000n)).toISOString().slice(11, 23);
    const micros = String((timestampNs / 1000n) % 1000n).padStart(3, '0');
    const where = `${read.interfaces[interfaceId].name}:${queue ?? '?'} ${flags === 2 ? 'Out' : 'In '}`;
    lines.push(plain(`${time}${micros} ${where} ${frameText(data)}  ${comment ?? ''}`));
  }
  if (lines.length === 0) return;
  // A terminal that is slow holds the daemon's stream up, which then counts what is lost.
  if (!env.stdout.write(`${lines.join('\n')}\n`))
    await Promise.race([once(env.stdout, 'drain'), once(env.stdout, 'close')]);
}

/** What the end of a capture says. */
class Summary {
  private frames = 0;
  private readonly statistics: InterfaceStatistics[] = [];

  add(read: Capture): void {
    this.frames += read.length;
    this.statistics.push(...read.statistics);
  }

  text(): string {
    const frames = `${plural(this.frames, 'frame')} captured`;
    if (this.statistics.length === 0) return `${frames}; sluice has ended without its counters`;
    const sum = (key: 'received' | 'accepted' | 'lost'): number =>
      this.statistics.reduce((total, each) => total + each[key], 0);
    return `${frames}, ${count(sum('accepted'))} met the conditions, ${count(sum('lost'))} lost, ${count(sum('received'))} packets seen`;
  }
}

function list(value: string, before: string[] = []): string[] {
  return [...before, ...value.split(',').filter((name) => name !== '')];
}

function numbers(value: string, before: number[] = []): number[] {
  return [...before, ...value.split(',').map((text) => wholeFrom(text, 0))];
}

function whole(value: string): number {
  return wholeFrom(value, 1);
}

function wholeFrom(value: string, least: number): number {
  const number = Number(value);
  if (!/^\d+$/.test(value) || number < least || !Number.isSafeInteger(number)) {
    throw new InvalidArgumentError(`It must be a whole number from ${least}.`);
  }
  return number;
}

function seconds(value: string): number {
  const number = Number(value);
  if (value.trim() === '' || !(number > 0)) throw new InvalidArgumentError('It must be a number of seconds.');
  return number;
}

function sample(value: string): number {
  const match = /^1\/(\d+)$/.exec(value);
  if (match === null) throw new InvalidArgumentError('It must be 1/N.');
  return whole(match[1]);
}

function rate(value: string): number {
  return whole(value.replace(/\/s(ec)?$/, ''));
}

import { readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { Command, Option } from 'commander';
import { FRAME_LEAST, FRAME_MOST, KernelRuns, type TestFrame } from '../../control/ebpf/kernel_runs.js';
import { compileExpressions, type ExpressionResult } from '../../control/expression/compile.js';
import { isKernelError, SluiceError } from '../../errors.js';
import { readCapture } from '../../pcap/capture.js';
import { interpret } from '../../shared/cbpf/interpret.js';
import { compileJavaScript } from '../../shared/cbpf/javascript.js';
import { link, mayLink } from '../../shared/cbpf/link.js';
import { hasLoop } from '../../shared/cbpf/loops.js';
import type { PacketMatch, Program } from '../../shared/cbpf/program.js';
import { processEnv, type Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';
import { layer3Offset, programOfOptions, withProgramOptions, type ProgramOptions } from './program_options.js';

/** Which frames a program matches: positions, from 0. */
type Matches = (program: Program) => number[];

/** What runs a program over frames. All give the same answers. */
const ENGINES: Record<string, (frames: readonly TestFrame[], env: Env) => Matches> = {
  interpreter: (frames) => inUserSpace(frames, interpreted),
  // There is no JavaScript of a program with a loop.
  js: (frames, env) => {
    const compiles = mayLink();
    if (!compiles) noteOn(env)('Node runs with --disallow-code-generation-from-strings: interpreted instead');
    return inUserSpace(frames, (program) =>
      !compiles || hasLoop(program) ? interpreted(program) : link(compileJavaScript([program]))[0],
    );
  },
  ebpf: inTheKernel,
};

function inUserSpace(frames: readonly TestFrame[], matchOf: (program: Program) => PacketMatch): Matches {
  return (program) => {
    const match = matchOf(program);
    return positions(frames, ({ data, wireLength }) => match(data, 0, data.byteLength, wireLength) !== 0);
  };
}

/** By BPF_PROG_TEST_RUN. What the kernel does not take is interpreted, and a line on stderr says so. */
function inTheKernel(frames: readonly TestFrame[], env: Env): Matches {
  const runs = new KernelRuns(frames);
  const note = noteOn(env);
  if (runs.left.length > 0) {
    const which = runs.left.length <= 5 ? runs.left.join(', ') : `${runs.left.slice(0, 5).join(', ')}, …`;
    const limits = `the kernel runs no test with less than ${FRAME_LEAST} or more than ${FRAME_MOST} bytes`;
    note(`${plural(runs.left.length, 'frame')} (${which}) interpreted: ${limits}`);
  }
  return (program) => {
    try {
      const run = runs.run(program);
      if (run.ok) return positions(frames, (_, i) => run.results[i] !== 0);
      note(`an expression is interpreted: ${run.error}`);
      return inUserSpace(frames, interpreted)(program);
    } catch (cause) {
      if (!isKernelError(cause) || cause.code !== 'EPERM') throw cause;
      const remedy = 'Run it as root, or with --engine js or interpreter: the answers are the same.';
      throw new SluiceError('SLUICE_PERMISSION', 'the engine ebpf needs CAP_BPF and CAP_NET_ADMIN', remedy, { cause });
    }
  };
}

function noteOn(env: Env): (text: string) => void {
  return (text) => void env.stderr.write(`sluice match: ${plain(text)}\n`);
}

function positions(frames: readonly TestFrame[], holds: (frame: TestFrame, i: number) => boolean): number[] {
  const found: number[] = [];
  for (let i = 0; i < frames.length; i++) if (holds(frames[i], i)) found.push(i);
  return found;
}

function interpreted(program: Program): PacketMatch {
  return (view, at, length, wireLength) => interpret(program, view, at, length, wireLength);
}

interface Options extends ProgramOptions {
  engine: string;
  json?: boolean;
  exprFile?: string;
  strict: boolean;
}

/** A line of JSON, one an expression. */
type MatchLine = FailedLine | { expr: string; ok: true; /** Positions in the file, from 0. */ matches: number[] };
type FailedLine = { expr: string; ok: false; error: string };

/** `sluice match`: which frames of a capture match an expression. Needs neither root nor the addon, but for the engine ebpf. */
export function matchCommand(env: Env = processEnv()): Command {
  return withProgramOptions(new Command('match'))
    .description('Print which frames of a capture match an expression, signature or name: 0-based numbers, one a line')
    .argument('<capture>', 'pcap or pcapng file, Ethernet; - for standard input')
    .argument(
      '[expression...]',
      'pcap-filter(7); several words are joined by spaces to ONE expression, as tcpdump does',
    )
    .addOption(new Option('--engine <name>', 'what runs the bytecode').choices(Object.keys(ENGINES)).default('js'))
    .option('--expr-file <file>', 'expressions, one a line, - for standard input; prints one line of JSON for each')
    .option('--json', 'print {"expr":…,"ok":true,"matches":[…]} or {"expr":…,"ok":false,"error":…}')
    .option('--no-strict', 'match the frames before the damage of a damaged capture')
    .addHelpText(
      'after',
      `
Every line of --expr-file is an expression; the empty one matches every frame, there are no comments. Names of hosts are
never looked up. Exit code 1 when an expression does not compile.
The engine ebpf runs the programs in the kernel (BPF_PROG_TEST_RUN) and needs root; the others need nothing.

Examples:
  sluice match attack.pcap 'udp src port 53 and greater 512'
  sluice match attack.pcapng tcp port 80 and host 192.0.2.1
  sluice match attack.pcap --p0f '*:64:0:*:mss*44,7:mss,sok,ts,nop,ws:df,id+:0'
  sluice match attack.pcap --dns '*.example.com' --qtype ANY
  sluice match --engine interpreter --expr-file rules.txt attack.pcap | jq -c '[.expr, (.matches | length)]'`,
    )
    .action((capture: string, words: string[], options: Options) => {
      const other = programOfOptions(options, words);
      const expressions = other === null ? expressionsOf(env, words, options) : [other.text];
      if (capture === '-' && options.exprFile === '-') {
        throw new SluiceError('SLUICE_USAGE', 'both the capture and --expr-file are -', 'Give a file for one of them.');
      }
      const file = capture === '-' ? capture : resolve(env.cwd, capture);
      const failed: FailedLine[] = [];
      const lines = other === null ? matchAll(env, file, expressions, options) : matchOne(env, file, other, options);
      for (const line of lines) {
        if (!line.ok) failed.push(line);
        if (options.json || options.exprFile !== undefined) printJson(env, line, 0);
        else if (line.ok && line.matches.length > 0) print(env, line.matches.join('\n'));
      }
      if (failed.length > 0) {
        const of =
          expressions.length > 1 ? `${failed.length} of ${expressions.length} do not compile; the first: ` : '';
        const [{ expr, error }] = failed;
        throw new SluiceError('SLUICE_FORMAT', `${of}${JSON.stringify(shortened(plain(expr)))}: ${plain(error)}`);
      }
    });
}

/** Of an expression, as much as an error message needs. */
function shortened(text: string): string {
  return text.length <= 200 ? text : `${text.slice(0, 199)}…`;
}

function expressionsOf(env: Env, words: readonly string[], { exprFile }: Options): string[] {
  if (exprFile === undefined) {
    if (words.length > 0) return [words.join(' ')];
    throw new SluiceError(
      'SLUICE_USAGE',
      'no expression',
      "Give one after the capture, '' to match all, or --expr-file FILE.",
    );
  }
  if (words.length > 0) {
    throw new SluiceError('SLUICE_USAGE', 'both an expression and --expr-file', 'Give one of them.');
  }
  const text = readText(exprFile === '-' ? 0 : resolve(env.cwd, exprFile));
  // The last line needs no line end. Editors of Windows begin files with U+FEFF.
  return text === '' ? [] : text.replace(/^\ufeff|\r?\n$/g, '').split(/\r?\n/);
}

function readText(file: string | 0): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new SluiceError('SLUICE_USAGE', `cannot read the expressions: ${why}`, 'Check the path.', { cause });
  }
}

/** One line an expression, made as it is asked for: all of them could be too much to hold. */
function* matchAll(
  env: Env,
  capture: string,
  expressions: readonly string[],
  { engine, strict }: Options,
): Generator<MatchLine> {
  const frames = framesOf(env, capture, strict);
  const matches = ENGINES[engine](frames, env);
  const line = (expr: string, result: ExpressionResult): MatchLine =>
    result.ok ? { expr, ok: true, matches: matches(result.program) } : { expr, ok: false, error: result.error };
  for (const [i, result] of compileExpressions(expressions).entries()) yield line(expressions[i], result);
}

/** The line of a program that begins at the layer-3 header. */
function matchOne(
  env: Env,
  capture: string,
  { text, program }: { text: string; program: Program },
  options: Options,
): MatchLine[] {
  if (options.exprFile !== undefined) {
    throw new SluiceError('SLUICE_USAGE', '--expr-file beside --p0f or --dns', 'Give one of them.');
  }
  const packets = framesOf(env, capture, options.strict).map(({ data, wireLength }): TestFrame => {
    const offset = layer3Offset(data);
    return {
      data: new DataView(data.buffer, data.byteOffset + offset, data.byteLength - offset),
      wireLength: wireLength - offset,
    };
  });
  return [{ expr: text, ok: true, matches: ENGINES[options.engine](packets, env)(program) }];
}

/** `capture`: a path, or - for standard input. */
function framesOf(env: Env, capture: string, strict: boolean): TestFrame[] {
  const file =
    capture === '-'
      ? readCapture(readFileSync(0), { strict, name: '(standard input)' })
      : readCapture(capture, { strict });
  if (file.damage !== null) noteOn(env)(`damaged capture: ${file.damage.message}`);
  return Array.from({ length: file.length }, (_, i): TestFrame => {
    const { data, originalLength } = file.packet(i);
    return { data: new DataView(data.buffer, data.byteOffset, data.byteLength), wireLength: originalLength };
  });
}

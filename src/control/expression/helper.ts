import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../../errors.js';
import { packageRoot } from '../../native.js';

/** What compiling may cost. */
export interface ExpressionLimits {
  /** Bytes of an expression in UTF-8; at most 65,536, where the helper stops. */
  readonly textBytes: number;
  /** CPU time of one expression, milliseconds. */
  readonly cpuMs: number;
  /** Address space of the helper, MiB. */
  readonly memoryMib: number;
  /** Time by the clock, milliseconds, of an expression that starts a run of the helper: for a machine without a CPU to spare. */
  readonly wallMs: number;
}

/** What became of one text: libpcap's instructions as struct sock_filter, its error, or why the helper died of it. */
export type HelperAnswer =
  | { readonly kind: 'compiled'; readonly bytes: Buffer }
  | { readonly kind: 'error'; readonly text: string }
  | { readonly kind: 'killed'; readonly signal: string };

/** Expressions a run of the helper: bounds what is in memory at once. */
const BATCH = 256;
/** Answers of one run, far above what `BATCH` expressions can make. */
const ANSWER_BYTES = 256 << 20;

/**
 * Has libpcap compile texts in a process of its own (`native/pcap/`), one answer a text. A text that kills the helper costs
 * itself only: a new helper goes on with the next one. Throws SLUICE_NATIVE when there is no helper, or it does not start.
 */
export function askHelper(texts: readonly string[], limits: ExpressionLimits): HelperAnswer[] {
  const answers: HelperAnswer[] = [];
  while (answers.length < texts.length) {
    answers.push(...runHelper(texts.slice(answers.length, answers.length + BATCH), limits));
  }
  return answers;
}

/** One run: answers of the first texts, at least one; of all of them unless one killed the helper. */
function runHelper(texts: readonly string[], limits: ExpressionLimits): HelperAnswer[] {
  const path = helperPath();
  const { error, signal, status, stdout, stderr } = spawnSync(path, [String(limits.cpuMs), String(limits.memoryMib)], {
    input: Buffer.concat(texts.map(request)),
    // Nothing of our surroundings is of use to it.
    cwd: '/',
    env: {},
    timeout: limits.wallMs,
    killSignal: 'SIGKILL',
    maxBuffer: ANSWER_BYTES,
  });
  if (stdout === null) throw broken(path, error?.message ?? 'it does not start', error);
  const answers = parseAnswers(stdout);
  // It may die after its last answer, at exit: then nothing is missing.
  if (answers.length >= texts.length) return answers;
  if (signal === null) throw broken(path, stderr.toString().trim() || (error?.message ?? `exit code ${status}`), error);
  const late = signal === 'SIGKILL' && timedOut(error);
  // The clock ran for those before it too: the one in hand gets a run of its own.
  if (late && answers.length > 0) return answers;
  return [...answers, { kind: 'killed', signal: late ? 'timeout' : signal }];
}

function timedOut(error: Error | undefined): boolean {
  return (error as NodeJS.ErrnoException | undefined)?.code === 'ETIMEDOUT';
}

function request(text: string): Buffer {
  const body = Buffer.from(text, 'utf8');
  const head = Buffer.alloc(4);
  head.writeUInt32LE(body.length);
  return Buffer.concat([head, body]);
}

/** The whole answers in what it wrote; the wire format is at the top of native/pcap/main.cc. */
function parseAnswers(bytes: Buffer): HelperAnswer[] {
  const answers: HelperAnswer[] = [];
  for (let at = 0; at + 8 <= bytes.length;) {
    const status = bytes.readUInt32LE(at);
    const end = at + 8 + bytes.readUInt32LE(at + 4);
    if (end > bytes.length) break;
    const body = bytes.subarray(at + 8, end);
    answers.push(status === 0 ? { kind: 'compiled', bytes: body } : { kind: 'error', text: body.toString('utf8') });
    at = end;
  }
  return answers;
}

function helperPath(): string {
  const candidates = ['Release', 'Debug'].map((kind) => join(packageRoot, 'build', kind, 'sluice-pcap'));
  const path = candidates.find((candidate) => existsSync(candidate));
  if (path !== undefined) return path;
  throw new SluiceError(
    'SLUICE_NATIVE',
    `the compiler of expressions is not built: no ${candidates[0]}`,
    'Run: npm run setup',
  );
}

function broken(path: string, why: string, cause: Error | undefined): SluiceError {
  return new SluiceError(
    'SLUICE_NATIVE',
    `the compiler of expressions ${path} does not work: ${why}`,
    'Run: npm run setup (it installs libpcap and builds it)',
    { cause },
  );
}

/** A client's request for a capture, checked, with numbers for names. */
import { DROP_REASONS, VERDICTS, Verdict } from '../../dataplane/verdict.js';
import { SluiceError } from '../../errors.js';
import { CapturePoint, type CaptureSpec } from '../../shared/capture_spec.js';
import type { CaptureRequest } from '../api/contract_capture.js';
import { isObject, onlyKeys } from '../api/params.js';
import { nearest } from '../config/nearest.js';
import { compileExpressions } from '../expression/compile.js';

/** What names mean now. */
export interface CaptureNames {
  rules: readonly { name: string; id: number }[];
  services: readonly { name: string; number: number }[];
  /** Interfaces of the configuration, with the queues that have a worker. */
  interfaces: readonly { name: string; index: number; queues: readonly number[] }[];
}

/** A capture as it was asked for: what the workers do, and what the control plane does. */
export interface CapturePlan {
  spec: Omit<CaptureSpec, 'capture' | 'serial'>;
  /** Workers that take part. */
  queues: number[];
  /** Frames after which it ends; 0: none. */
  count: number;
  /** Seconds after which it ends; 0: none. */
  duration: number;
}

/** Largest frame there is, and what `snaplen` is when it is not given. */
export const MAX_SNAPLEN = 262144;

const LIMITS: Readonly<Record<'count' | 'oneIn' | 'first' | 'rate' | 'snaplen', number>> = {
  count: Number.MAX_SAFE_INTEGER,
  oneIn: 2 ** 30,
  first: 1_000_000,
  rate: 1_000_000,
  snaplen: MAX_SNAPLEN,
};

/** Seconds: a day. */
const MAX_DURATION = 86_400;

const POINTS: Readonly<Record<string, CapturePoint>> = {
  in: CapturePoint.in,
  out: CapturePoint.out,
  both: CapturePoint.both,
};

/** Drop reasons by name. "none" is no reason. */
const REASONS = DROP_REASONS.map((name, number) => ({ name, number })).slice(1);
/** A packet that is held is none yet. */
const VERDICT_NAMES = VERDICTS.map((name, number) => ({ name, number })).slice(0, Verdict.Hold);

/** Throws SLUICE_USAGE for what cannot be, SLUICE_FORMAT for an expression that does not compile. */
export function planCapture(params: Record<string, unknown>, names: CaptureNames): CapturePlan {
  const request = checkShape(params);
  const numbers = (key: 'count' | 'oneIn' | 'first' | 'rate' | 'snaplen', otherwise: number): number =>
    whole(request, key, LIMITS[key]) ?? otherwise;
  const interfaces = find(request.interfaces, 'interface', names.interfaces);
  const served = new Set(names.interfaces.flatMap(({ queues }) => queues));
  const queues = request.queues ?? [...served].sort((a, b) => a - b);
  const strange = queues.find((queue) => !served.has(queue));
  if (strange !== undefined) {
    throw usage(`there is no queue ${strange}`, `The queues are: ${[...served].sort((a, b) => a - b).join(', ')}.`);
  }
  return {
    spec: {
      points: POINTS[request.point ?? 'in'],
      ports: (interfaces ?? names.interfaces).reduce((bits, { index }) => bits | (1 << index), 0),
      verdicts: (find(request.verdicts, 'verdict', VERDICT_NAMES) ?? []).reduce(
        (bits, { number }) => bits | (1 << number),
        0,
      ),
      reasons: (find(request.reasons, 'drop reason', REASONS) ?? []).map(({ number }) => number),
      rules: find(request.rules, 'rule', names.rules)?.map(({ id }) => id) ?? null,
      services: find(request.services, 'service', names.services)?.map(({ number }) => number) ?? null,
      program: program(request.expr),
      oneIn: numbers('oneIn', 0),
      first: numbers('first', 0),
      rate: numbers('rate', 0),
      snaplen: numbers('snaplen', MAX_SNAPLEN),
    },
    queues,
    count: numbers('count', 0),
    duration: duration(request.duration),
  };
}

const LISTS = ['rules', 'verdicts', 'reasons', 'services', 'interfaces'] as const;

function checkShape(params: Record<string, unknown>): CaptureRequest {
  if (!isObject(params)) throw usage('params is not a JSON object');
  onlyKeys(params, [...LISTS, ...Object.keys(LIMITS), 'queues', 'expr', 'point', 'duration']);
  for (const key of LISTS) {
    const list = params[key];
    if (list === undefined) continue;
    if (!Array.isArray(list) || list.length === 0 || !list.every((name) => typeof name === 'string')) {
      throw usage(`parameter "${key}" must be a list of names`);
    }
  }
  const { queues, expr, point } = params;
  if (queues !== undefined && !(Array.isArray(queues) && queues.length > 0 && queues.every(Number.isInteger))) {
    throw usage('parameter "queues" must be a list of numbers');
  }
  if (expr !== undefined && typeof expr !== 'string') throw usage('parameter "expr" must be a string');
  if (point !== undefined && !(typeof point === 'string' && Object.hasOwn(POINTS, point))) {
    throw usage(`point must be one of ${Object.keys(POINTS).join(', ')}, not ${JSON.stringify(point)}`);
  }
  return params as CaptureRequest;
}

/** The things that are named, null when none are. */
function find<Thing extends { name: string }>(
  wanted: readonly string[] | undefined,
  kind: string,
  things: readonly Thing[],
): Thing[] | null {
  if (wanted === undefined) return null;
  return [...new Set(wanted)].map((name) => {
    const thing = things.find((each) => each.name === name);
    if (thing) return thing;
    const known = things.map((each) => each.name);
    const meant = nearest(name, known);
    const list = known.length > 0 && known.length <= 16 ? `There are: ${known.join(', ')}.` : '';
    throw usage(
      `there is no ${kind} ${JSON.stringify(name.slice(0, 64))}`,
      meant === null ? list : `Did you mean "${meant}"?`,
    );
  });
}

function whole(request: CaptureRequest, key: keyof typeof LIMITS, most: number): number | undefined {
  const value: unknown = request[key];
  if (value === undefined) return undefined;
  if (Number.isInteger(value) && (value as number) >= 1 && (value as number) <= most) return value as number;
  throw usage(`${key} must be a whole number from 1 to ${most}, not ${JSON.stringify(value)}`);
}

function duration(value: unknown): number {
  if (value === undefined) return 0;
  if (typeof value === 'number' && value > 0 && value <= MAX_DURATION) return value;
  throw usage(`duration must be seconds, above 0 and up to ${MAX_DURATION}, not ${JSON.stringify(value)}`);
}

function program(expr: string | undefined): CaptureSpec['program'] {
  if (expr === undefined || expr.trim() === '') return null;
  const [result] = compileExpressions([expr]);
  if (!result.ok) throw new SluiceError('SLUICE_FORMAT', `${JSON.stringify(expr.slice(0, 200))}: ${result.error}`);
  const words = new SharedArrayBuffer(result.program.words.byteLength);
  new Int32Array(words).set(result.program.words);
  return { link: result.program.link, words };
}

function usage(message: string, remedy = ''): SluiceError {
  return new SluiceError('SLUICE_USAGE', message, remedy);
}

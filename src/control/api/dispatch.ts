/** From a request line to an answer. Never throws: whatever goes wrong is the answer. */
import { exitCodeOf, ExitCode, isKernelError, SluiceError } from '../../errors.js';
import { abridged, type Log } from '../log.js';
import { MAX_REASON, MAX_WEIGHT } from './contract.js';
import type { BackendChange, ControlAnswer, ControlError, ControlMethod, ControlTarget } from './contract.js';
import { ControlStream } from './contract_capture.js';
import { RULE_HANDLERS } from './dispatch_rules.js';
import { SET_HANDLERS } from './dispatch_sets.js';
import { isObject, onlyKeys, stringParam, type Handler, type Params } from './params.js';
import { nearest } from '../config/nearest.js';
import { BACKEND_STATES } from './view.js';
import type { BackendState } from './view.js';

const HANDLERS: Record<ControlMethod, Handler> = {
  version: (params, target) => (onlyKeys(params, []), target.version()),
  status: (params, target) => (onlyKeys(params, []), target.status()),
  async reload(params, target, log) {
    onlyKeys(params, []);
    const result = await target.reload();
    const { applied, generation, changes, problems } = result;
    const brief = { applied, generation, changes: abridged(changes), problems: problems.length };
    log.info('control: reload', { audit: true, ...brief });
    return result;
  },
  async 'backend.set'(params, target, log) {
    onlyKeys(params, ['service', 'backend', 'weight', 'state', 'reason']);
    const service = stringParam(params, 'service');
    const backend = stringParam(params, 'backend');
    const change = backendChange(params);
    const result = await target.setBackend(service, backend, change);
    log.info('control: backend set', { audit: true, ...result, reason: change.reason });
    return result;
  },
  ...RULE_HANDLERS,
  ...SET_HANDLERS,
  capture(params, target) {
    if (target.capture) return target.capture(params);
    throw new SluiceError('SLUICE_STATE', 'this daemon cannot capture');
  },
};

/** Answers one line. Failures of the program itself are logged with their stack and told without it. */
export async function answer(line: string, target: ControlTarget, log: Log): Promise<ControlAnswer> {
  let id: unknown = null;
  let method: unknown;
  try {
    const request = parseRequest(line);
    id = request.id ?? null;
    method = request.method;
    const { handler, params } = handlerOf(request);
    const result = (await handler(params, target, log)) ?? null;
    return result instanceof ControlStream ? { id, result: result.result, stream: result } : { id, result };
  } catch (error) {
    if (!(error instanceof SluiceError) && !isKernelError(error)) {
      log.limited('control-failure', 5).error('control: a request failed', { method: String(method), err: error });
    } else if (method !== 'status' && method !== 'version' && method !== 'rules.list') {
      log.limited('control-refused', 5).warn('control: a request was refused', { method: String(method), err: error });
    }
    return { id, error: describeFailure(error) };
  }
}

/** What a client is told of an error: a stable code, one sentence, and what to do. No stack, no paths of our source. */
export function describeFailure(error: unknown): ControlError {
  if (error instanceof SluiceError) return { code: error.code, message: error.message, remedy: error.remedy };
  if (isKernelError(error)) {
    const exit = exitCodeOf(error);
    const code =
      exit === ExitCode.permission ? 'SLUICE_PERMISSION' : exit === ExitCode.device ? 'SLUICE_DEVICE' : 'SLUICE_STATE';
    return { code, message: error.message, remedy: error.remedy ?? '' };
  }
  return {
    code: 'SLUICE_STATE',
    message: 'the daemon failed to carry this out',
    remedy: 'Its log has the details: that is a bug in sluice, please report it.',
  };
}

function parseRequest(line: string): Params {
  let request: unknown;
  try {
    request = JSON.parse(line);
  } catch (error) {
    throw new SluiceError('SLUICE_FORMAT', `the request is not JSON: ${(error as Error).message}`);
  }
  if (!isObject(request)) throw new SluiceError('SLUICE_FORMAT', 'the request is not a JSON object');
  return request;
}

function handlerOf(request: Params): { handler: Handler; params: Params } {
  const { method } = request;
  // Own properties only: "constructor" is no method of ours.
  if (typeof method !== 'string' || !Object.hasOwn(HANDLERS, method)) {
    const meant = typeof method === 'string' ? nearest(method, Object.keys(HANDLERS)) : null;
    throw new SluiceError(
      'SLUICE_USAGE',
      typeof method === 'string' ? `there is no method "${method.slice(0, 64)}"` : 'the request names no method',
      meant === null ? `The methods are: ${Object.keys(HANDLERS).join(', ')}.` : `Did you mean "${meant}"?`,
    );
  }
  const params = request.params ?? {};
  if (!isObject(params)) throw new SluiceError('SLUICE_FORMAT', 'params is not a JSON object');
  return { handler: HANDLERS[method as ControlMethod], params };
}

/** The change that params ask for. Throws SLUICE_USAGE when they ask for none, or for one that cannot be. */
function backendChange(params: Params): BackendChange {
  const { weight, state, reason } = params;
  if (weight === undefined && state === undefined) {
    throw new SluiceError('SLUICE_USAGE', 'nothing to change: give a weight, a state, or both');
  }
  if (weight !== undefined && !(Number.isInteger(weight) && Number(weight) >= 0 && Number(weight) <= MAX_WEIGHT)) {
    throw new SluiceError(
      'SLUICE_USAGE',
      `weight must be an integer from 0 to ${MAX_WEIGHT}, not ${JSON.stringify(weight)}`,
    );
  }
  if (state !== undefined && !BACKEND_STATES.includes(state as BackendState)) {
    const known = BACKEND_STATES.join(', ');
    throw new SluiceError('SLUICE_USAGE', `state must be one of ${known}, not ${JSON.stringify(state)}`);
  }
  if (reason !== undefined && !isReason(reason)) {
    throw new SluiceError('SLUICE_USAGE', `reason must be text of 1 to ${MAX_REASON} printable characters`);
  }
  return {
    ...(weight === undefined ? {} : { weight: weight as number }),
    ...(state === undefined ? {} : { state: state as BackendState }),
    ...(reason === undefined ? {} : { reason }),
  };
}

function isReason(value: unknown): value is string {
  // Nothing that could move a terminal's cursor when the status is shown.
  return typeof value === 'string' && value.length <= MAX_REASON && /^[^\p{Cc}\p{Cf}\p{Zl}\p{Zp}]+$/u.test(value);
}

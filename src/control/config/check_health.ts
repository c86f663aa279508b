/** What a `health:` must satisfy beyond the values of single keys. */
import type { PortRange } from '../../shared/config.js';
import type { Findings } from './findings.js';
import { isHostName } from './health_values.js';
import type { Path } from './problem.js';
import { TYPES_OF_KEY, healthTypeOf, type HealthKey, type RawHealth } from './schema_health.js';

/** What it needs to know of the service. */
interface CheckedService {
  port?: readonly (PortRange | 'any' | undefined)[];
}

/** @param at where `health` is: ['services', 3, 'health'] */
export function checkHealth(
  raw: Partial<RawHealth> | undefined,
  service: CheckedService,
  at: Path,
  findings: Findings,
): void {
  // A type that could not be read has its error; what goes with it cannot be told.
  if (raw === undefined || findings.touched([...at, 'type'])) return;
  checkKeys(raw, at, findings);
  checkTimes(raw, at, findings);
  checkHttp(raw, at, findings);
  const hasPort = raw.port !== undefined || (service.port ?? []).some((port) => typeof port === 'object');
  if (!hasPort && !findings.touched([...at, 'port'])) {
    findings.error(at, 'the service has no port of its own to check', 'Write the port to check: health: {port: 80}.');
  }
}

function checkKeys(raw: Partial<RawHealth>, at: Path, findings: Findings): void {
  const type = healthTypeOf(raw);
  for (const [key, types] of Object.entries(TYPES_OF_KEY)) {
    if (raw[key as HealthKey] === undefined || types.includes(type)) continue;
    const remedy = `It belongs to type: ${types.join(' or ')}.`;
    findings.error([...at, key], `means nothing to a check of type ${type}`, remedy, 'key');
  }
}

function checkTimes({ interval, timeout, flap }: Partial<RawHealth>, at: Path, findings: Findings): void {
  if (interval !== undefined && timeout !== undefined && timeout > interval) {
    findings.warn(
      [...at, 'timeout'],
      'is longer than interval: while a backend is silent, it is checked once a timeout',
      'Write a timeout of at most the interval.',
    );
  }
  if (flap?.suppress === undefined || flap.reuse === undefined || flap.half_life === 0) return;
  if (flap.reuse >= flap.suppress) {
    findings.error(
      [...at, 'flap', 'reuse'],
      `is ${flap.reuse}, not below suppress, which is ${flap.suppress}`,
      'Write a number below suppress.',
    );
  } else if (flap.half_life !== undefined && flap.max_hold !== undefined) {
    // RFC 2439 §4.2: the ceiling must be above the cutoff, or nothing is ever suppressed.
    const ceiling = flap.reuse * 2 ** (flap.max_hold / flap.half_life);
    if (ceiling <= flap.suppress) {
      const needed = Math.ceil(flap.half_life * Math.log2(flap.suppress / flap.reuse));
      findings.error(
        [...at, 'flap', 'max_hold'],
        'is too short for any backend to be held',
        `Write more than ${needed}s, or flap: off.`,
      );
    }
  }
}

function checkHttp(raw: Partial<RawHealth>, at: Path, findings: Findings): void {
  if (raw.status?.length === 0) findings.error([...at, 'status'], 'is an empty list', 'Write for example 200-399.');
  if (raw.method === 'HEAD' && raw.body !== undefined) {
    findings.error([...at, 'body'], 'cannot match: an answer to HEAD has no body', 'Write method: GET.');
  }
  if (healthTypeOf(raw) !== 'https' || raw.tls?.verify === false) return;
  const named = raw.tls?.server_name !== undefined || (raw.host !== undefined && isHostName(nameOf(raw.host)));
  if (!named && !findings.touched(at)) {
    findings.error(
      at,
      'https has no name to verify the certificate for',
      'Write host: www.example.com or tls: {server_name: www.example.com}; tls: {verify: false} takes any certificate.',
    );
  }
}

/** A host without its port. */
function nameOf(host: string): string {
  return host.replace(/:\d+$/, '');
}

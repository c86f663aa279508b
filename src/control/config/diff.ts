/** What changes between two configurations, and whether a running sluice can take the change. */
import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '../../errors.js';
import type { Config, FilterConfig } from '../../shared/config.js';

export interface ConfigDiff {
  /** Changes that need sockets, frames or flow tables made anew. A reload that has any is refused whole. */
  restart: string[];
  /** Changes that are applied to the running workers. */
  live: string[];
}

/**
 * Compares two configurations. Each entry is a sentence that starts with the path of what changed, as it is in the file:
 * "frames.ring: 2048 → 4096".
 */
export function diffConfig(old: Config, next: Config): ConfigDiff {
  const diff: ConfigDiff = { restart: [], live: [] };
  diffInterfaces(old, next, diff);
  diffFields('frames', old.frames, next.frames, FRAME_KEYS, diff.restart);
  diffFields('flows', old.flows, next.flows, { slots: 'slots' }, diff.restart);
  diffFields('flows', old.flows, next.flows, { maxNewPerSecond: 'max_new_per_second' }, diff.live);
  diffFields('flows.timeouts', old.flows.timeouts, next.flows.timeouts, TIMEOUT_KEYS, diff.live);
  if (!isDeepStrictEqual(old.encapsulation, next.encapsulation)) {
    const text = (config: Config): string =>
      [config.encapsulation.source4, config.encapsulation.source6]
        .flatMap((address) => address?.text ?? [])
        .join(', ') || 'by route';
    diff.live.push(`encapsulation.source: ${text(old)} → ${text(next)}`);
  }
  // The key itself stays out of logs: whoever knows it can aim flows at a backend.
  if (!isDeepStrictEqual(old.hashKey, next.hashKey))
    diff.live.push('hash_key: changed; flows that are not in a flow table move');
  diffServices(old, next, diff);
  if (!isDeepStrictEqual(old.filters, next.filters)) {
    const text = (config: Config): string => config.filters.map(filterName).join(', ') || 'none';
    const same = text(old) === text(next) ? 'settings changed' : `${text(old)} → ${text(next)}`;
    diff.live.push(`filters: ${same}`);
  }
  diffNamed('rules', old.rules, next.rules, diff.live);
  if (diff.live.every((line) => !line.startsWith('rules[')) && !isDeepStrictEqual(old.rules, next.rules)) {
    diff.live.push('rules: order changed');
  }
  if (!isDeepStrictEqual(old.metrics, next.metrics))
    diff.restart.push(`metrics.listen: ${listenText(old)} → ${listenText(next)}`);
  diffFields('control', old.control, next.control, { socket: 'socket' }, diff.restart);
  diffFields('log', old.log, next.log, { level: 'level' }, diff.live);
  diffFields('log', old.log, next.log, { format: 'format' }, diff.restart);
  return diff;
}

/** Throws SluiceError (SLUICE_CONFIG) that lists what a running sluice cannot take; returns when there is no such thing. */
export function assertLive(diff: ConfigDiff): void {
  if (diff.restart.length === 0) return;
  const list = diff.restart.map((line) => `  ${line}`).join('\n');
  throw new SluiceError(
    'SLUICE_CONFIG',
    `these changes need a restart, so nothing was applied:\n${list}`,
    'Restart sluice, or take these changes back and reload.',
  );
}

const FRAME_KEYS = { count: 'count', size: 'size', hugepages: 'hugepages', ring: 'ring', burst: 'burst' } as const;
const TIMEOUT_KEYS = {
  tcpSyn: 'tcp_syn',
  tcpEstablished: 'tcp_established',
  tcpClosing: 'tcp_closing',
  udp: 'udp',
  other: 'other',
} as const;
const INTERFACE_KEYS = {
  queues: 'queues',
  mode: 'mode',
  poll: 'poll',
  hostPath: 'host_path',
} as const;
/** Applied by a link update and new tables. */
const LIVE_INTERFACE_KEYS = { fallback: 'fallback', redirect: 'redirect', checksum: 'checksum' } as const;

function diffInterfaces(old: Config, next: Config, diff: ConfigDiff): void {
  const names = (config: Config): string => config.interfaces.map((entry) => entry.name).join(', ');
  if (names(old) !== names(next)) {
    // The order counts too: an interface's position is the port number that workers and tables use.
    diff.restart.push(`interfaces: ${names(old)} → ${names(next)}`);
    return;
  }
  next.interfaces.forEach((entry, i) => {
    const path = `interfaces[${entry.name}]`;
    diffFields(path, old.interfaces[i], entry, INTERFACE_KEYS, diff.restart);
    diffFields(path, old.interfaces[i], entry, LIVE_INTERFACE_KEYS, diff.live);
  });
}

/** Compares the fields that `keys` names; its values are what they are called in the file. */
function diffFields<T extends object>(
  path: string,
  old: T,
  next: T,
  keys: Partial<Record<keyof T & string, string>>,
  out: string[],
): void {
  for (const [field, key] of Object.entries(keys) as [keyof T & string, string][]) {
    if (isDeepStrictEqual(old[field], next[field])) continue;
    out.push(`${path}.${key}: ${valueText(old[field])} → ${valueText(next[field])}`);
  }
}

function diffServices(old: Config, next: Config, diff: ConfigDiff): void {
  diffNamed('services', old.services, next.services, diff.live, (before, after, path) => {
    const backends = new Map(before.backends.map((backend) => [backend.address.text, backend]));
    const lines: string[] = [];
    for (const backend of after.backends) {
      const was = backends.get(backend.address.text);
      backends.delete(backend.address.text);
      const at = `${path}.backends[${backend.address.text}]`;
      if (was === undefined) lines.push(`${at}: added`);
      else diffFields(at, was, backend, { weight: 'weight', state: 'state' }, lines);
    }
    for (const address of backends.keys()) lines.push(`${path}.backends[${address}]: removed`);
    const rest = { ...before, backends: after.backends };
    if (!isDeepStrictEqual(rest, after)) lines.push(`${path}: settings changed`);
    return lines;
  });
}

/** Compares two lists whose entries have unique names, by name. */
function diffNamed<T extends { name: string }>(
  path: string,
  old: readonly T[],
  next: readonly T[],
  out: string[],
  inside: (before: T, after: T, path: string) => string[] = () => [],
): void {
  const before = new Map(old.map((entry) => [entry.name, entry]));
  for (const entry of next) {
    const was = before.get(entry.name);
    before.delete(entry.name);
    const at = `${path}[${entry.name}]`;
    if (was === undefined) out.push(`${at}: added`);
    else if (!isDeepStrictEqual(was, entry)) {
      const lines = inside(was, entry, at);
      out.push(...(lines.length === 0 ? [`${at}: changed`] : lines));
    }
  }
  for (const name of before.keys()) out.push(`${path}[${name}]: removed`);
}

function filterName(filter: FilterConfig): string {
  return filter.kind === 'module' ? filter.name : filter.kind;
}

function listenText(config: Config): string {
  const listen = config.metrics.listen;
  if (listen === null) return 'off';
  return listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`;
}

function valueText(value: unknown): string {
  return Array.isArray(value) ? `[${value.join(', ')}]` : String(value);
}

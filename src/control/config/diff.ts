/** What changes between two configurations, and whether a running sluice can take the change. */
import { isDeepStrictEqual } from 'node:util';
import { SluiceError } from '../../errors.js';
import type { Config, FilterConfig, RuleConfig } from '../../shared/config.js';
import { diffFields, diffNamed } from './diff_fields.js';
import { diffMitigation } from './diff_mitigation.js';
import { encapsulationChanges, serviceChanges } from './diff_service.js';

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
  diff.live.push(...encapsulationChanges('encapsulation', old.encapsulation, next.encapsulation));
  diffFields('icmp', old.icmp, next.icmp, ICMP_KEYS, diff.live);
  diffFields('fragments', old.fragments, next.fragments, { slots: 'slots', held: 'held' }, diff.restart);
  diffFields('fragments', old.fragments, next.fragments, FRAGMENT_KEYS, diff.live);
  diffFields('decapsulate', old.decapsulate, next.decapsulate, DECAPSULATE_KEYS, diff.live);
  // The key itself stays out of logs: whoever knows it can aim flows at a backend.
  if (!isDeepStrictEqual(old.hashKey, next.hashKey))
    diff.live.push('hash_key: changed; flows that are not in a flow table move');
  diffNamed('services', old.services, next.services, diff.live, (before, after, path) => {
    const inherits =
      isDeepStrictEqual(before.encapsulation, old.encapsulation) &&
      isDeepStrictEqual(after.encapsulation, next.encapsulation);
    return serviceChanges(before, after, path, inherits);
  });
  if (!isDeepStrictEqual(old.filters, next.filters)) {
    const text = (config: Config): string => config.filters.map(filterName).join(', ') || 'none';
    const same = text(old) === text(next) ? 'settings changed' : `${text(old)} → ${text(next)}`;
    diff.live.push(`filters: ${same}`);
  }
  diffNamed('rules', old.rules, next.rules, diff.live, ruleChanges);
  if (diff.live.every((line) => !line.startsWith('rules[')) && !isDeepStrictEqual(old.rules, next.rules)) {
    diff.live.push('rules: order changed');
  }
  if (old.offload !== next.offload) diff.live.push(`offload: ${old.offload} → ${next.offload}`);
  if (old.flowOffload !== next.flowOffload) {
    diff.live.push(`flow_offload: ${old.flowOffload} → ${next.flowOffload}`);
  }
  diffNamed('sets', old.sets, next.sets, diff.live);
  diffMitigation(old, next, diff.live);
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
const ICMP_KEYS = { echo: 'echo', tooBig: 'too_big', maxPerSecond: 'max_per_second' } as const;
/** Table and held frames are laid out when a worker starts; the rest is looked at for each packet. */
const FRAGMENT_KEYS = { policy: 'policy', outOfOrder: 'out_of_order', timeout: 'timeout' } as const;
const DECAPSULATE_KEYS = { addresses: 'addresses', sources: 'from', guePorts: 'gue_ports' } as const;
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

/** What an operator looks for: a rule that starts to drop. */
function ruleChanges(before: RuleConfig, after: RuleConfig, path: string): string[] {
  const mode = ({ mode = 'enforce' }: RuleConfig): string => mode;
  if (mode(before) === mode(after)) return [`${path}: changed`];
  const rest = isDeepStrictEqual({ ...before, mode: '' }, { ...after, mode: '' }) ? '' : ', and more changed';
  return [`${path}.mode: ${mode(before)} → ${mode(after)}${rest}`];
}

function filterName(filter: FilterConfig): string {
  return filter.kind === 'module' ? filter.name : filter.kind;
}

function listenText(config: Config): string {
  const listen = config.metrics.listen;
  if (listen === null) return 'off';
  return listen.host.includes(':') ? `[${listen.host}]:${listen.port}` : `${listen.host}:${listen.port}`;
}

/** From a configuration as the schema puts it out, which has passed all checks, to the one that the control plane reads. */
import { isAbsolute, resolve } from 'node:path';
import type { Address, Config, FilterConfig, PortRange, RuleConfig, ServiceConfig } from '../../shared/config.js';
import { moduleName, modulePath } from './check_policy.js';
import type { RawConfig, RawFilter, RawRule, RawService } from './schema.js';

const TCP = 6;

/** `path` and `directory` are absolute; `directory` is what relative paths in the configuration are relative to. */
export function normalise(raw: RawConfig, path: string, directory: string): Config {
  const timeouts = raw.flows.timeouts;
  const socket = raw.control.socket;
  return {
    path,
    interfaces: raw.interfaces.map(({ host_path, ...rest }) => ({ ...rest, hostPath: host_path })),
    frames: raw.frames,
    flows: {
      slots: raw.flows.slots,
      maxNewPerSecond: raw.flows.max_new_per_second,
      timeouts: {
        tcpSyn: timeouts.tcp_syn,
        tcpEstablished: timeouts.tcp_established,
        tcpClosing: timeouts.tcp_closing,
        udp: timeouts.udp,
        other: timeouts.other,
      },
    },
    encapsulation: { source4: sourceOf(raw, 4), source6: sourceOf(raw, 6) },
    hashKey: raw.hash_key,
    services: raw.services.map(serviceOf),
    filters: raw.filters.map((filter) => filterOf(filter, directory)),
    rules: raw.rules.map(ruleOf),
    metrics: { listen: raw.metrics.listen },
    control: { socket: isAbsolute(socket) ? socket : resolve(directory, socket) },
    log: raw.log,
    warnings: [],
  };
}

function sourceOf(raw: RawConfig, family: 4 | 6): Address | null {
  return raw.encapsulation.source?.find((address) => address.family === family) ?? null;
}

function serviceOf(raw: RawService): ServiceConfig {
  const ports = raw.port ?? [];
  return {
    name: raw.name,
    vip: raw.vip,
    ports: ports.filter((port): port is PortRange => port !== 'any').sort((a, b) => a.first - b.first),
    protocols: raw.protocol.filter((protocol) => protocol !== 'any'),
    ringSize: raw.ring_size,
    flowTable: raw.flow_table,
    backends: raw.backends,
  };
}

function filterOf(raw: RawFilter, directory: string): FilterConfig {
  if (raw.sanity !== undefined) {
    return { kind: 'sanity', checks: [...new Set(raw.sanity.checks)], protocols: raw.sanity.protocols ?? null };
  }
  if (raw.module === undefined) return { kind: 'rules' };
  return {
    kind: 'module',
    name: raw.name ?? moduleName(raw.module),
    path: modulePath(raw.module, directory),
    // Objects with a prototype again: a filter's author expects ordinary ones. The reader has refused __proto__.
    options: structuredClone(raw.options),
  };
}

function ruleOf(raw: RawRule): RuleConfig {
  const { protocol, tcp_flags: tcpFlags, ...rest } = raw.match;
  const match: RuleConfig['match'] = { ...rest };
  if (typeof protocol === 'number') match.protocol = protocol;
  if (tcpFlags !== undefined) {
    match.tcpFlags = tcpFlags;
    // A packet of another protocol reads as one without flags, and would match "!syn".
    match.protocol = TCP;
  }
  for (const key of Object.keys(match) as (keyof typeof match)[]) if (match[key] === undefined) delete match[key];
  return { name: raw.name, match, action: raw.action };
}

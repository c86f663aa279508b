/** `sluice backend-agent`: the backend's half of the tunnel, for as long as it runs. */
import { once } from 'node:events';
import { Command } from 'commander';
import { DECAP_STATS } from '../../control/bpf_layout.js';
import { BackendAgent } from '../../control/agent/agent.js';
import type { DecapStats, HopCounts } from '../../control/agent/decapsulator.js';
import { readSettings, resolveSettings, type AgentSettings, type RawSettings } from '../../control/agent/settings.js';
import { processEnv, sleepUnless, type Env } from '../env.js';
import { count, print, printJson } from '../output.js';

interface Options {
  config?: string;
  json?: boolean;
  interface?: string[];
  vip?: string[];
  from?: string[];
  address?: string[];
  guePort?: string[];
  secondHop?: string;
  udpChecksum?: string;
  mode?: string;
  sysctl?: boolean;
  statsInterval?: string;
  metrics?: string;
}

const HELP = `
Takes IP in IP and GUE off, from the sources named and from nobody else, and gives what is inside to this host, which owns the VIPs and
answers clients directly. A packet of a connection that is not here goes on to the next backend of its chain. Stays in
the foreground; SIGTERM, SIGINT and SIGHUP take back all that it changed. Needs CAP_NET_ADMIN, CAP_BPF and CAP_PERFMON, and root for --sysctl and
second hop (they write below /proc/sys).

A file given with --config has the same settings, in YAML: interface, vip, from, address, gue_port, second_hop, udp_checksum, mode,
sysctl, stats_interval, metrics. Options count more than the file.

Examples:
  sluice backend-agent --interface eth0 --vip 198.51.100.10 --from 10.0.0.0/28
  sluice backend-agent --interface eth0 --vip 198.51.100.0/24 --vip 2001:db8:100::10 --from 10.0.0.0/24 --sysctl
  sluice backend-agent --config /etc/sluice/backend.yaml --json`;

/** Collects an option that may be given several times. */
function several(value: string, before: string[] = []): string[] {
  return [...before, value];
}

export function backendAgentCommand(env: Env = processEnv()): Command {
  return new Command('backend-agent')
    .description('On a backend: take the tunnel off, own the VIPs, send strays on to the next hop')
    .option('-i, --interface <name>', 'where tunnel packets come in; may be repeated', several)
    .option('--vip <prefix>', 'address or prefix to own on lo; may be repeated', several)
    .option('--from <prefix>', 'outer source to let in: balancers, and other backends; may be repeated', several)
    .option('--address <address>', 'outer destination that is ours (default: the addresses of the interfaces)', several)
    .option('--gue-port <port>', 'UDP port of GUE, up to four (default: 6080; GLB has 19523)', several)
    .option('--second-hop <on|off>', 'send packets of unknown connections to the next hop (default: on)')
    .option('--udp-checksum <verify|ignore>', 'outer UDP checksums other than 0 (default: verify)')
    .option('--mode <mode>', 'auto, native or generic XDP (default: auto)')
    .option('--sysctl', 'set rp_filter, arp_ignore and arp_announce of the interfaces where they would hurt')
    .option('--stats-interval <seconds>', 'between two reports; 0: only at the end (default: 60)')
    .option('--metrics <host:port>', 'serve Prometheus metrics there')
    .option('-c, --config <file>', 'settings from a file')
    .option('--json', 'print one JSON object a line')
    .addHelpText('after', HELP)
    .action((options: Options) => run(env, options));
}

async function run(env: Env, options: Options): Promise<void> {
  const settings = resolveSettings(options.config === undefined ? {} : readSettings(options.config), raw(options));
  const json = options.json === true;
  const say = (message: string, level: 'info' | 'warning'): void => {
    if (json) printJson(env, { type: 'note', level, message }, 0);
    else (level === 'warning' ? env.stderr : env.stdout).write(`${message}\n`);
  };
  // A terminal that goes away is an end like any other: nothing may stay behind on the host.
  const hangup = new AbortController();
  process.on('SIGHUP', () => hangup.abort('SIGHUP'));
  const signal = AbortSignal.any([env.signal, hangup.signal]);
  const agent = await BackendAgent.start(settings, say);
  const closers: (() => Promise<void>)[] = [() => agent.close()];
  try {
    if (settings.metrics) closers.unshift(await serveMetrics(settings.metrics, agent));
    if (json) printJson(env, { type: 'ready', pid: process.pid, interfaces: agent.attachments() }, 0);
    else print(env, 'ready');
    await report(env, agent, settings, json, signal);
  } finally {
    if (json) printJson(env, statsDocument(agent), 0);
    else print(env, ...statsLines(agent.stats(), agent.hops()));
    for (const close of closers) await close();
    if (json) printJson(env, { type: 'stopped' }, 0);
    else print(env, 'stopped');
  }
}

/** Options under the names of the file; what was not given is not there. */
function raw(options: Options): RawSettings {
  const {
    guePort: gue_port,
    secondHop: second_hop,
    udpChecksum: udp_checksum,
    statsInterval: stats_interval,
  } = options;
  const { vip, from, address, mode, sysctl, metrics } = options;
  const all: RawSettings = {
    interface: options.interface,
    vip,
    from,
    address,
    gue_port,
    second_hop,
    udp_checksum,
    mode,
    sysctl,
    stats_interval,
    metrics,
  };
  return Object.fromEntries(Object.entries(all).filter(([, value]) => value !== undefined));
}

async function serveMetrics(where: { host: string; port: number }, agent: BackendAgent): Promise<() => Promise<void>> {
  const { MetricsServer } = await import('../../control/metrics/server.js');
  const { AgentMetrics } = await import('../../control/agent/metrics.js');
  const { createLog } = await import('../../control/log.js');
  const log = createLog({ level: 'warn', format: 'auto' });
  const server = await MetricsServer.serve(where, new AgentMetrics(agent), log);
  return async () => {
    await server.close();
    log.close();
  };
}

/** Reports until `signal` is aborted: as text one line each time that something was counted, as JSON each time. */
async function report(
  env: Env,
  agent: BackendAgent,
  settings: AgentSettings,
  json: boolean,
  signal: AbortSignal,
): Promise<void> {
  if (settings.statsIntervalMs === 0) {
    if (!signal.aborted) await once(signal, 'abort');
    return;
  }
  let before = agent.stats();
  while (!signal.aborted) {
    await sleepUnless(signal, settings.statsIntervalMs);
    if (signal.aborted) return;
    const now = agent.stats();
    const moved = growth(before, now);
    if (json) printJson(env, statsDocument(agent), 0);
    else if (moved !== '') print(env, moved);
    before = now;
  }
}

function statsDocument(agent: BackendAgent): object {
  const hops = agent.hops().map(({ address, ...counts }) => ({ address: address.text, ...counts }));
  return { type: 'stats', packets: agent.stats(), hops };
}

/** "decap_gue0 +1,204, local_socket +1,190", in the order of the program; '' when no counter moved. */
function growth(before: DecapStats, now: DecapStats): string {
  const moved = DECAP_STATS.filter((name) => now[name] !== before[name]);
  return moved.map((name) => `${name} +${count(now[name] - before[name])}`).join(', ');
}

function statsLines(stats: DecapStats, hops: readonly HopCounts[]): string[] {
  const counted = DECAP_STATS.filter((name) => stats[name] > 0);
  return [
    ...counted.map((name) => `${name.padEnd(20)} ${count(stats[name]).padStart(14)}`),
    ...hops.map(
      ({ address, forwarded, unresolved }) => `hop ${address.text}: ${forwarded} sent, ${unresolved} unresolved`,
    ),
  ];
}

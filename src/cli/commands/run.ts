import { once } from 'node:events';
import { Command } from 'commander';
import { ControlServer } from '../../control/api/server.js';
import { loadConfig } from '../../control/config/index.js';
import { createLog } from '../../control/log.js';
import { Manager } from '../../control/manager/manager.js';
import type { Env } from '../env.js';

/** `sluice run`: the daemon, in the foreground. */
export function runCommand(env: Env): Command {
  return new Command('run')
    .description('Serve a configuration until SIGTERM or SIGINT; SIGHUP reloads it')
    .requiredOption('-c, --config <file>', 'configuration, YAML')
    .addHelpText(
      'after',
      `
Needs CAP_NET_ADMIN, CAP_NET_RAW, CAP_BPF and, for more UMEM than RLIMIT_MEMLOCK, CAP_IPC_LOCK. When the process ends in any way, the
kernel takes the XDP program off and traffic goes to the host's stack.

Examples:
  sluice run --config /etc/sluice/sluice.yaml
  sluice reload                    # or SIGHUP to the process`,
    )
    .action(async ({ config }: { config: string }) => serve(config, env));
}

async function serve(path: string, env: Env): Promise<void> {
  // A SIGHUP while it starts would end the process: it is remembered and obeyed once there is something to reload.
  let reload = (): void => void (reloadAtStart = true);
  let reloadAtStart = false;
  const onHangup = (): void => reload();
  process.on('SIGHUP', onHangup);
  const config = loadConfig(path);
  const log = createLog(config.log);
  for (const warning of config.warnings) log.warn(warning.message, { path: warning.path, line: warning.line });
  const manager = await Manager.start(config, log);
  const closers: (() => Promise<void>)[] = [() => manager.stop()];
  try {
    const control = await ControlServer.listen(config.control.socket, manager, log);
    closers.unshift(() => control.close());
    if (config.metrics.listen) {
      // Loaded last: packets are served by now.
      const { MetricsServer } = await import('../../control/metrics/server.js');
      const metrics = await MetricsServer.listen(config.metrics.listen, () => manager.runtime(), log);
      closers.unshift(() => metrics.close());
    }
    reload = () => void manager.reload();
    log.info('serving', {
      config: config.path,
      pid: process.pid,
      control: config.control.socket,
      metrics: config.metrics.listen,
    });
    if (reloadAtStart) reload();
    if (!env.signal.aborted) await once(env.signal, 'abort');
    log.info('stopping', { signal: String(env.signal.reason) });
  } finally {
    for (const close of closers) await close();
    process.off('SIGHUP', onHangup);
    log.info('stopped');
    log.close();
  }
}

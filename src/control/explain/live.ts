/** The configuration that a running daemon works by: its file, with what was changed over the control socket. */
import { isDeepStrictEqual } from 'node:util';
import type { Config } from '../../shared/config.js';
import { callControl } from '../api/client.js';
import type { Status, RuleListing } from '../api/contract.js';
import { loadConfig } from '../config/index.js';
import { rulesFromTree } from '../config/read_rules.js';
import { backendKey } from '../registry.js';
import { ruleDocument } from '../rules/document.js';
import type { BackendOverride } from '../service_plan.js';

export interface LiveConfig {
  config: Config;
  overrides: ReadonlyMap<string, BackendOverride>;
  /** How it differs from the file, a line each. */
  live: string[];
}

/** @throws SluiceError SLUICE_CONTROL when no daemon answers; ConfigError when its file does not hold a config any more */
export async function liveConfig(socketPath: string): Promise<LiveConfig> {
  const status = await callControl(socketPath, 'status', {});
  const listing = await callControl(socketPath, 'rules.list', {});
  return mergeLive(loadConfig(status.configPath), status, listing);
}

/** The config with the daemon's own states of backends and its rules. */
export function mergeLive(
  config: Config,
  status: Pick<Status, 'services'>,
  { rules: listed }: Pick<RuleListing, 'rules'>,
): LiveConfig {
  const live: string[] = [];
  const overrides = new Map<string, BackendOverride>();
  for (const service of config.services) {
    const now = status.services.find(({ name }) => name === service.name);
    for (const { address, state, weight } of service.backends) {
      const backend = now?.backends.find((one) => one.address === address.text);
      if (backend === undefined) {
        live.push(`backend ${address.text} of ${service.name} is in the file only: not reloaded yet`);
      } else if (backend.state !== state || backend.weight !== weight) {
        const { reason } = backend;
        overrides.set(backendKey(service.name, address.text), { state: backend.state, weight: backend.weight, reason });
        live.push(`backend ${address.text} of ${service.name}: ${backend.state}, weight ${backend.weight} (${reason})`);
      }
    }
  }
  const inForce = listed.map(({ rule }) => rule);
  if (isDeepStrictEqual(inForce, JSON.parse(JSON.stringify(config.rules.map(ruleDocument)))))
    return { config, overrides, live };
  const rules = rulesFromTree(inForce, 'the rules of the daemon');
  live.push(`rules (${rules.length}), not those of the file: ${rules.map(({ name }) => name).join(', ')}`);
  return { config: { ...config, rules }, overrides, live };
}

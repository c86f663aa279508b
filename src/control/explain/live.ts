/** The configuration that a running daemon works by: its file, with what was changed over the control socket, and what time ended. */
import { isDeepStrictEqual } from 'node:util';
import type { Config, SetConfig } from '../../shared/config.js';
import type { SetType } from '../../shared/sets/index.js';
import { callControl } from '../api/client.js';
import type { ListedSet, RuleListing, SetEntry, Status } from '../api/contract.js';
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
  const sets: LiveSet[] = [];
  for (const set of (await callControl(socketPath, 'sets.list', {})).sets) {
    if (!set.changed && set.origin === 'config' && set.timeout === null) continue;
    const { entries } = await callControl(socketPath, 'sets.entries', { set: set.name }, ENTRIES_TIMEOUT_MS);
    sets.push({ set, entries });
  }
  return mergeLive(loadConfig(status.configPath), status, listing, sets);
}

/** A million entries take a second or two. */
const ENTRIES_TIMEOUT_MS = 60_000;

/** A set that may have other entries than its file. */
export interface LiveSet {
  set: Pick<ListedSet, 'name' | 'type' | 'family' | 'maxelem' | 'timeout' | 'origin'>;
  entries: readonly SetEntry[];
}

/** The config with the daemon's own states of backends, its rules and its sets. */
export function mergeLive(
  config: Config,
  status: Pick<Status, 'services'>,
  { rules: listed }: Pick<RuleListing, 'rules'>,
  liveSets: readonly LiveSet[] = [],
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
  const sets = new Map(config.sets.map((set) => [set.name, set]));
  for (const { set, entries } of liveSets) {
    sets.set(set.name, liveSetConfig(sets.get(set.name), set, entries));
    live.push(`set ${set.name}: ${entries.length} entries, as it has them now`);
  }
  const merged = { ...config, sets: [...sets.values()] };
  const inForce = listed.map(({ rule }) => rule);
  if (isDeepStrictEqual(inForce, JSON.parse(JSON.stringify(config.rules.map(ruleDocument)))))
    return { config: merged, overrides, live };
  const rules = rulesFromTree(inForce, 'the rules of the daemon');
  live.push(`rules (${rules.length}), not those of the file: ${rules.map(({ name }) => name).join(', ')}`);
  return { config: { ...merged, rules }, overrides, live };
}

/** @param file as the file has it; undefined for a set that was made at run time */
function liveSetConfig(
  file: SetConfig | undefined,
  { name, type, family, maxelem, timeout }: LiveSet['set'],
  entries: readonly SetEntry[],
): SetConfig {
  const same = file?.type === type ? file : undefined;
  return {
    name,
    type: type as SetType,
    family: family as SetConfig['family'],
    maxelem,
    timeout,
    // Nobody sees these of a set that is filled for one packet.
    counters: false,
    comment: false,
    forceadd: false,
    mask4: same?.mask4 ?? null,
    mask6: same?.mask6 ?? null,
    drop: file?.drop ?? null,
    source: { kind: 'entries', entries: entries.map(entryLine) },
  };
}

/** As behind the name in an `add` line. */
function entryLine({ text, timeout, nomatch }: SetEntry): string {
  return `${text}${timeout === null ? '' : ` timeout ${timeout}`}${nomatch ? ' nomatch' : ''}`;
}

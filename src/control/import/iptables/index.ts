/** Rules from what iptables-save and ip6tables-save print, with a note about everything that is not the same. */
import { SluiceError } from '../../../errors.js';
import { ConfigError, parseConfig } from '../../config/index.js';
import { Notes, type ConvertInput, type ConvertNote } from '../../convert/draft.js';
import { writeRules } from '../../rules/write.js';
import type { ImportedLimit } from './connlimit.js';
import { ImportedSets, type ImportedSet } from './match_set.js';
import { readSaved, type SavedTable } from './saved.js';
import { ChainWalk, type ImportedRule } from './walk.js';

export type { ImportedRule } from './walk.js';

export type Hook = 'input' | 'forward';

export interface IptablesImport {
  /** A configuration of one interface with the rules; `parseConfig` takes it unless a note of line 0 says otherwise. */
  yaml: string;
  rules: ImportedRule[];
  /** Sets that the rules ask for, and limits on connections, as the configuration has them. */
  sets: ImportedSet[];
  limits: ImportedLimit[];
  notes: ConvertNote[];
  /** Notes beyond those that are kept. */
  more: number;
}

/** Most text that is read, characters. */
export const MAX_INPUT = 16 * 1024 * 1024;

/** Chains that a packet from the network goes through, in order: netfilter's priorities, include/uapi/linux/netfilter_ipv4.h. */
const WAYS: Readonly<Record<Hook, readonly (readonly [table: string, chain: string])[]>> = {
  input: [
    ['raw', 'PREROUTING'],
    ['mangle', 'PREROUTING'],
    ['mangle', 'INPUT'],
    ['filter', 'INPUT'],
  ],
  forward: [
    ['raw', 'PREROUTING'],
    ['mangle', 'PREROUTING'],
    ['mangle', 'FORWARD'],
    ['filter', 'FORWARD'],
  ],
};

const OTHER: Readonly<Record<Hook, Hook>> = { input: 'forward', forward: 'input' };

/**
 * @param hook whose chains are taken: of packets for this host, or of those that it forwards; null: where there are rules,
 * INPUT when both have some
 * @param interfaceName of the configuration that is made
 * @param ipset what `ipset save` prints, by the name of its file; null: sets begin empty, and their types are guessed
 * @throws SluiceError SLUICE_FORMAT when there is no table in the text
 */
export function importIptables(
  input: ConvertInput,
  hook: Hook | null,
  interfaceName: string,
  ipset: ConvertInput | null = null,
): IptablesImport {
  if (input.text.length > MAX_INPUT) {
    throw new SluiceError('SLUICE_FORMAT', `more than ${MAX_INPUT / 2 ** 20} MiB to import`);
  }
  const notes = new Notes();
  const tables = readSaved(input, notes);
  if (tables.length === 0) {
    throw new SluiceError('SLUICE_FORMAT', `there is no table in ${input.name}`, 'Give what iptables-save prints.');
  }
  const sets = new ImportedSets(ipset);
  const walk = new ChainWalk(notes, sets);
  for (const family of [4, 6] as const)
    importFamily(
      tables.filter((table) => table.family === family),
      hook,
      walk,
      notes,
    );
  const { rules, limits } = walk;
  const yaml = writeRules(rules, interfaceName, {
    ...(sets.list.length > 0 ? { sets: sets.list } : {}),
    ...(limits.length > 0 ? { mitigation: { limits } } : {}),
  });
  checkResult(yaml, input.name, notes);
  const list = notes.list.sort((a, b) => a.line - b.line);
  return { yaml, rules, sets: sets.list, limits, notes: list, more: notes.more };
}

function importFamily(tables: readonly SavedTable[], asked: Hook | null, walk: ChainWalk, notes: Notes): void {
  const find = (name: string, chain: string): SavedTable[] =>
    tables.filter((table) => table.name === name && table.chains.has(chain));
  const used = (name: string, chain: string): boolean =>
    find(name, chain).some(({ chains }) => chains.get(chain)!.rules.length > 0 || chains.get(chain)!.policy === 'DROP');
  const own = (hook: Hook): boolean => WAYS[hook].slice(2).some(([name, chain]) => used(name, chain));
  const hook = asked ?? (own('input') || !own('forward') ? 'input' : 'forward');

  const way = WAYS[hook].filter(([name, chain]) => used(name, chain));
  way.forEach(([name, chain], i) => {
    for (const table of find(name, chain)) walk.chain(table, chain, i === way.length - 1);
  });

  const taken = new Set(WAYS[hook].map((steps) => steps.join(' ')));
  const others = new Set(WAYS[OTHER[hook]].map((steps) => steps.join(' ')));
  for (const table of tables) {
    for (const [name, { policy, rules, place }] of table.chains) {
      const key = `${table.name} ${name}`;
      if (taken.has(key) || rules.length === 0) continue;
      const what = `${rules.length} rule${rules.length === 1 ? '' : 's'} of ${name} in table ${table.name}`;
      if (others.has(key)) {
        notes.lost(place, `not taken: ${what}, which is for other packets`, `See them with --hook ${OTHER[hook]}.`);
      } else if (name === 'OUTPUT' || name === 'POSTROUTING') {
        notes.changed(place, `left out: ${what}, which is for packets that leave`);
      } else if (policy !== null || table.name === 'nat') {
        notes.lost(place, `not understood: ${what}`);
      }
    }
  }
}

/** What the readers let through and the configuration does not. */
function checkResult(yaml: string, file: string, notes: Notes): void {
  try {
    parseConfig(yaml);
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const { path, message, remedy } of error.problems) {
      notes.lost({ file, line: 0 }, `sluice check refuses ${path || 'the result'}: ${message}`, remedy);
    }
  }
}

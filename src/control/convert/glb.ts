/**
 * Reads GLB Director's JSON: forwarding tables (docs/setup/forwarding-table-config.md; as source, or as glb-healthcheck writes them)
 * and the director's own configuration (docs/setup/glb-director-configuration.md), told apart by their keys.
 */
import type { ConvertInput, Draft, Notes } from './draft.js';
import { DIRECTOR_KEYS, readDirector, type GlbDirector } from './glb_director.js';
import { glbTimes, type GlbTimes } from './glb_health.js';
import { readPart, type Part } from './glb_parts.js';
import { GlbTables } from './glb_tables.js';
import { Unreadable } from './places.js';

/** UDP port of GLB's GUE (src/glb-hashing/glb_gue.h, GLB_GUE_PORT). */
const GUE_PORT = 19523;

/** Without a configuration of the director: its defaults. */
const DEFAULT_DIRECTOR: GlbDirector = { fields: null, source: null, echo: 'forward' };

/** Never throws: what is wrong is in the notes. */
export function readGlb(inputs: readonly ConvertInput[], notes: Notes): Draft {
  const tables: { part: Part; times: GlbTimes }[] = [];
  let director = DEFAULT_DIRECTOR;
  for (const input of inputs) {
    try {
      const root = readPart(input);
      if (root.json.tables !== undefined) {
        const times = glbTimes(root, notes);
        for (const part of root.children('tables', notes)) tables.push({ part, times });
      } else if (DIRECTOR_KEYS.some((key) => root.json[key] !== undefined)) director = readDirector(root, notes);
      else if (root.json.forwarding_table !== undefined) {
        notes.changed(root.place(), 'glb-healthcheck’s own files and commands: sluice makes the checks itself');
      } else {
        notes.lost(
          root.place(),
          'is neither a forwarding table (no "tables") nor a configuration of the director',
          'Give forwarding_table.json, and director.conf beside it.',
        );
      }
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      const line = Number(/^is not JSON \(line (\d+)\)/.exec(error.message)?.[1] ?? 0);
      notes.lost({ file: input.name, line }, error.message, error.remedy);
    }
  }
  const made = new GlbTables(director, notes);
  for (const { part, times } of tables) made.add(part, times);
  return {
    encapsulation: {
      kind: 'gue',
      ...(director.source !== null && { source: [director.source] }),
      gue: { port: GUE_PORT, variant: 0 },
    },
    icmp: { echo: director.echo },
    services: made.services,
  };
}

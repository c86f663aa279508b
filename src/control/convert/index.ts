/** From the configuration of another load balancer to one of sluice, with a note about everything that is not the same. */
import { SluiceError } from '../../errors.js';
import { ConfigError, parseConfig } from '../config/index.js';
import { CONVERT_SOURCES, detectSource, misplaced, type ConvertSource } from './detect.js';
import { Notes, type ConvertInput, type ConvertNote, type Draft } from './draft.js';
import { readGlb } from './glb.js';
import { readIpvs } from './ipvs.js';
import { readKatran } from './katran.js';
import { writeDraft } from './write.js';

export { CONVERT_SOURCES };
export type { ConvertInput, ConvertNote, ConvertSource };

export interface ConvertOptions {
  /** null: by what the inputs have in them. */
  from: ConvertSource | null;
  /** Name of the interface in what is made. */
  interface: string;
}

export interface Conversion {
  from: ConvertSource;
  /** The configuration. `parseConfig` takes it unless a note of line 0 says otherwise. */
  yaml: string;
  notes: ConvertNote[];
  /** Notes beyond those that are kept. */
  more: number;
  services: number;
  backends: number;
}

/** Most text that is read, characters. */
export const MAX_INPUT = 16 * 1024 * 1024;

const READERS: Record<ConvertSource, (inputs: readonly ConvertInput[], notes: Notes) => Draft> = {
  ipvs: readIpvs,
  katran: readKatran,
  glb: readGlb,
};

/**
 * Converts inputs, which together describe one load balancer. Throws SluiceError: SLUICE_USAGE when it is not clear whose they are;
 * SLUICE_FORMAT when there is no service in them, with the notes in the message.
 */
export function convert(inputs: readonly ConvertInput[], options: ConvertOptions): Conversion {
  const size = inputs.reduce((sum, { text }) => sum + text.length, 0);
  if (size > MAX_INPUT) throw new SluiceError('SLUICE_FORMAT', `more than ${MAX_INPUT / 2 ** 20} MiB to convert`);
  const from = options.from ?? detectSource(inputs);
  if (from === null) {
    const known = misplaced(inputs);
    throw new SluiceError(
      'SLUICE_USAGE',
      known?.what ?? 'cannot tell whose configuration this is',
      known?.remedy ?? `Write --from ${CONVERT_SOURCES.join('|')}.`,
    );
  }
  const notes = new Notes();
  const draft = READERS[from](inputs, notes);
  if (draft.services.length === 0) {
    const why = notes.list.slice(0, 20).map(noteText);
    throw new SluiceError(
      'SLUICE_FORMAT',
      [`there is no service in it that could be converted (read as ${from})`, ...why].join('\n'),
      `Is it ${WHAT[from]}?`,
    );
  }
  const yaml = writeDraft(draft, options.interface, COMMENT);
  checkResult(yaml, inputs[0].name, notes);
  return {
    from,
    yaml,
    notes: sorted(notes.list, inputs),
    more: notes.more,
    services: draft.services.length,
    backends: draft.services.reduce((sum, { backends }) => sum + backends.length, 0),
  };
}

/** As they stand in the files; what is about the result comes first. */
function sorted(notes: ConvertNote[], inputs: readonly ConvertInput[]): ConvertNote[] {
  const order = new Map(inputs.map(({ name }, i) => [name, i]));
  return notes.sort((a, b) => order.get(a.file)! - order.get(b.file)! || a.line - b.line);
}

const WHAT: Record<ConvertSource, string> = {
  ipvs: 'the output of ipvsadm -S -n',
  katran: 'a script of katran_goclient calls, or the output of katran_goclient -l',
  glb: 'a forwarding_table.json of GLB Director',
};

const COMMENT = 'Made by sluice convert: what it says on stderr belongs to it.\nCheck with: sluice check FILE';

/** "file:12: lost: …" */
export function noteText({ file, line, kind, message }: ConvertNote): string {
  return `${file}${line > 0 ? `:${line}` : ''}: ${kind}: ${message}`;
}

/** What the readers let through and the configuration does not: limits, and what is between services. */
function checkResult(yaml: string, file: string, notes: Notes): void {
  try {
    for (const { path, message, remedy } of parseConfig(yaml).warnings) {
      notes.changed({ file, line: 0 }, `${path === '' ? '' : `${path}: `}${message}`, remedy);
    }
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const { path, message, remedy } of error.problems) {
      notes.lost({ file, line: 0 }, `sluice check refuses ${path || 'the result'}: ${message}`, remedy);
    }
  }
}

/** Files of p0f signatures, in the syntax of p0f.fp: the TCP SYN signatures of them (sections [tcp:request]), with their labels. */
import { SluiceError } from '../../errors.js';
import { p0fProgram } from './p0f_program.js';

export interface NamedSignature {
  /** As the file has it: "s:unix:Linux:3.11 and newer". */
  readonly label: string;
  readonly signature: string;
  /** From 1. */
  readonly line: number;
}

export interface P0fFile {
  readonly signatures: readonly NamedSignature[];
  /** Lines that were not understood, or that no packet could match. */
  readonly problems: readonly { readonly line: number; readonly message: string; readonly remedy: string }[];
  /** Signatures of other kinds, by section: mtu, tcp:response, http:request. They are no matches of single SYNs. */
  readonly others: ReadonlyMap<string, number>;
}

const SECTION = 'tcp:request';
/** p0f's own file has 400 signatures in 40 KiB. */
const BYTES_MOST = 4 << 20;

/**
 * Reads a file of signatures. Never throws for what is in it: a line that is wrong is a problem, the others count.
 *
 * @throws SluiceError SLUICE_FORMAT for a file that is too long to be one
 */
export function readP0fFile(text: string): P0fFile {
  if (text.length > BYTES_MOST) {
    throw new SluiceError('SLUICE_FORMAT', `a p0f file of ${text.length} characters`, `Give it at most ${BYTES_MOST}.`);
  }
  const signatures: NamedSignature[] = [];
  const problems: { line: number; message: string; remedy: string }[] = [];
  const others = new Map<string, number>();
  let section = '';
  let label: string | null = null;
  text.split(/\r?\n/).forEach((raw, index) => {
    const line = index + 1;
    const trimmed = raw.trim();
    if (trimmed === '' || trimmed.startsWith(';')) return;
    const heading = /^\[([a-z]+(?::[a-z]+)?)\]$/.exec(trimmed);
    if (heading !== null) {
      section = heading[1];
      label = null;
      return;
    }
    const setting = /^([a-z_]+)\s*=\s*(.*)$/.exec(trimmed);
    if (setting === null) {
      problems.push({ line, message: `not understood: ${short(trimmed)}`, remedy: 'Write [section] or name = value.' });
      return;
    }
    const [, name, value] = setting;
    if (name === 'label') label = value;
    // classes, sys, ua_os: what p0f says of what it found, nothing that a packet is matched by.
    if (name !== 'sig') return;
    if (section !== SECTION) {
      others.set(section, (others.get(section) ?? 0) + 1);
      return;
    }
    if (label === null) {
      problems.push({
        line,
        message: 'a signature without a label',
        remedy: 'Write label = type:class:name:flavor above it.',
      });
      return;
    }
    try {
      p0fProgram(value);
      signatures.push({ label, signature: value, line });
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      problems.push({ line, message: error.message, remedy: error.remedy });
    }
  });
  return { signatures, problems, others };
}

function short(text: string): string {
  return JSON.stringify(text.length > 60 ? `${text.slice(0, 60)}…` : text);
}

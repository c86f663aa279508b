/**
 * DNS names as match programs: the question of a message over UDP. They begin at the layer-3 header.
 *
 * cBPF has no loops, so the walk over a name's labels is written out, for the 127 that a name can have; a packet passes as many steps as its name
 * has labels. The walk keeps where the last few labels began: a pattern that is open in front is compared from its own first label on, and so
 * only ever at the start of a label, whatever bytes labels are made of.
 */
import { SluiceError } from '../../errors.js';
import { Assembler, type Label } from '../../shared/cbpf/assembler.js';
import { Code, Word, type Program } from '../../shared/cbpf/program.js';
import { DNS_BYTES, UDP_BYTES, writeUdpHeaders } from './dns_headers.js';
import { minimal, writeLabels } from './dns_labels.js';
import { LABEL_MOST, NAME_MOST, readDnsPattern, type DnsPattern } from './dns_names.js';
import { queryType } from './dns_types.js';

export interface DnsOptions {
  /** Query types by name or number; empty or left out: any. */
  readonly qtype?: readonly (string | number)[];
  /** Responses from port 53 instead of queries to it. */
  readonly response?: boolean;
}

/** Cells of M[]: where the last labels began, from the layer-3 header, in turns; behind them what patterns need of that. */
const enum Cell {
  ring = 0,
  /** Where the name begins. */
  start = 15,
}

/** Labels that a name has at most: 127 of one byte, and the root. */
const LABELS_MOST = (NAME_MOST - 1) >> 1;
/** Labels behind a `*` in front, at most: what fits into M[] beside the start and one cell of the patterns' own. */
const LABELS_BEHIND_MOST = Cell.start - 1;

/**
 * Compiles patterns of names (see readDnsPattern): a packet matches when the name of its first question is one of them, letters in either case.
 * It is UDP to port 53 (a response: from port 53), unfragmented or a first fragment, without IPv6 extension headers; QR says query (response),
 * QDCOUNT is not 0, and the question is all there. A compressed or malformed name does not match. No patterns: every well-formed name.
 *
 * @throws SluiceError SLUICE_CONFIG
 */
export function dnsProgram(names: readonly string[], options: DnsOptions = {}): Program {
  const patterns = minimal(names.map(readDnsPattern));
  const types = [...new Set((options.qtype ?? []).map(queryType))];
  const asm = new Assembler();
  const end: Ends = { asm, matches: asm.label(), fail: asm.label(), types };
  writeHeaders(end, options.response ?? false);
  if (patterns.some(needsWalk) || patterns.length === 0) writeWalked(end, patterns);
  else writeDirect(end, patterns);
  asm.jump(end.fail);
  asm.place(end.fail);
  asm.op(Code.RET_K, 0);
  asm.place(end.matches);
  asm.op(Code.RET_K, 1);
  const program = asm.size > Word.MAX_INSTRUCTIONS ? null : asm.build('ip');
  if (program !== null) return program;
  throw new SluiceError(
    'SLUICE_CONFIG',
    `DNS names: ${names.length} of them make a program of more than ${Word.MAX_INSTRUCTIONS} instructions`,
    'Spread them over several rules.',
  );
}

interface Ends {
  readonly asm: Assembler;
  readonly matches: Label;
  readonly fail: Label;
  /** Query types, one of which it must be; none: any. */
  readonly types: readonly number[];
}

function needsWalk({ front, behind }: DnsPattern): boolean {
  return front || behind;
}

/** From the headers to X = where the name begins. */
function writeHeaders({ asm, fail }: Ends, response: boolean): void {
  const must = (code: Code, k: number, holds: boolean): void =>
    asm.branch(code, k, holds ? null : fail, holds ? fail : null);
  writeUdpHeaders(asm, fail, response ? 'source' : 'destination');
  // QR is the first bit of the flags; QDCOUNT is the third field (RFC 1035 section 4.1.1).
  asm.op(Code.LD_B_IND, UDP_BYTES + 2);
  must(Code.JSET_K, 0x80, response);
  asm.op(Code.LD_H_IND, UDP_BYTES + 4);
  must(Code.JEQ_K, 0, false);
  asm.op(Code.TXA);
  asm.op(Code.ADD_K, UDP_BYTES + DNS_BYTES);
  asm.op(Code.TAX);
}

/** All patterns have a known number of labels: each is compared from the start. X is there. */
function writeDirect(end: Ends, patterns: readonly DnsPattern[]): void {
  const { asm } = end;
  asm.op(Code.STX, Cell.start);
  for (const { labels } of patterns) {
    const next = asm.label();
    const { at, moved } = writeLabels(asm, labels, next, true);
    writeType(end, at, next);
    asm.place(next);
    if (moved) asm.op(Code.LDX_MEM, Cell.start);
  }
}

/** QTYPE is one of those asked for, and QCLASS is there: the question is complete. X + `at` is behind the name. */
function writeType({ asm, matches, types }: Ends, at: number, next: Label): void {
  asm.op(Code.LD_H_IND, at + 2);
  asm.op(Code.LD_H_IND, at);
  if (types.length === 0) return asm.jump(matches);
  for (const type of types) asm.branch(Code.JEQ_K, type, matches, null);
  asm.jump(next);
}

/** The name is walked to its end first. X is at its start. */
function writeWalked(end: Ends, patterns: readonly DnsPattern[]): void {
  const { asm, fail, matches, types } = end;
  const depths = [...new Set(patterns.filter(({ front }) => front).map(({ labels }) => labels.length))].sort(
    (a, b) => a - b,
  );
  const deepest = depths.at(-1) ?? 0;
  // The ring has the starts of as many labels as the deepest pattern has; each depth gets a cell behind it.
  const cells = new Map(depths.filter((depth) => depth > 0).map((depth, i) => [depth, deepest + i]));
  if (deepest > LABELS_BEHIND_MOST || deepest + cells.size > Cell.start) {
    throw new SluiceError(
      'SLUICE_CONFIG',
      `DNS names: ${deepest} labels behind a "*."` +
        (cells.size > 1 ? `, and ${cells.size} different numbers of labels` : ''),
      `The two together are at most ${Cell.start}: spread the names over several rules, or write fewer labels.`,
    );
  }
  const ring = Math.max(1, deepest);
  const ends = Array.from({ length: ring }, () => asm.label());
  asm.op(Code.STX, Cell.start);
  for (let i = 0; i < deepest; i++) asm.op(Code.STX, Cell.ring + i);
  for (let i = 0; i < LABELS_MOST; i++) writeStep(asm, i, deepest, ends[i % ring], fail);
  // Behind the last label only the root is left.
  asm.op(Code.LD_B_IND, 0);
  asm.branch(Code.JEQ_K, 0, ends[LABELS_MOST % ring], fail);
  const walked = asm.label();
  for (let i = 0; i < ring; i++) {
    asm.place(ends[i]);
    // The next label would have gone to cell i: the last of `depth` labels began in the cell so many before.
    for (const [depth, cell] of cells) {
      asm.op(Code.LD_MEM, Cell.ring + ((i - depth + ring) % ring));
      asm.op(Code.ST, cell);
    }
    asm.jump(walked);
  }
  asm.place(walked);
  // X is at the root, the last byte of the name. Behind it are QTYPE and QCLASS.
  asm.op(Code.LD_H_IND, 3);
  if (types.length > 0) {
    const isType = asm.label();
    asm.op(Code.LD_H_IND, 1);
    types.forEach((type, i) => asm.branch(Code.JEQ_K, type, isType, i === types.length - 1 ? fail : null));
    asm.place(isType);
  }
  asm.op(Code.TXA);
  asm.op(Code.LDX_MEM, Cell.start);
  asm.op(Code.SUB_X);
  asm.branch(Code.JGT_K, NAME_MOST - 1, fail, null);
  if (patterns.length === 0) asm.jump(matches);
  if (depths[0] === 0) asm.branch(Code.JEQ_K, 0, null, matches);
  for (const [depth, cell] of cells) {
    const next = asm.label();
    asm.op(Code.LD_MEM, Cell.start);
    asm.op(Code.LDX_MEM, cell);
    // A name with no more labels than the pattern has: the cell has the start, from the beginning or because it is there.
    asm.branch(Code.JEQ_X, 0, next, null);
    const ofDepth = patterns.filter(({ front, labels }) => front && labels.length === depth);
    writePatterns(end, ofDepth, cell);
    asm.place(next);
  }
  const whole = patterns.filter(({ front }) => !front);
  if (whole.length === 0) return;
  asm.op(Code.LDX_MEM, Cell.start);
  writePatterns(end, whole, Cell.start);
}

/** Patterns compared from X on, which a cell has too. */
function writePatterns({ asm, matches }: Ends, patterns: readonly DnsPattern[], cell: number): void {
  for (const { labels, front, behind } of patterns) {
    const next = asm.label();
    const { at, moved } = writeLabels(asm, labels, next, !front && !behind);
    if (behind) {
      asm.op(Code.LD_B_IND, at);
      asm.branch(Code.JEQ_K, 0, next, matches);
    } else asm.jump(matches);
    asm.place(next);
    if (moved) asm.op(Code.LDX_MEM, cell);
  }
}

/** X from one label to the next. */
function writeStep(asm: Assembler, i: number, deepest: number, isRoot: Label, fail: Label): void {
  asm.op(Code.LD_B_IND, 0);
  asm.branch(Code.JEQ_K, 0, isRoot, null);
  asm.branch(Code.JGT_K, LABEL_MOST, fail, null);
  if (deepest > 0) asm.op(Code.STX, Cell.ring + (i % deepest));
  asm.op(Code.ADD_X);
  asm.op(Code.ADD_K, 1);
  asm.op(Code.TAX);
}

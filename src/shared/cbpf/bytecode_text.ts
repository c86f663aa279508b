/** Programs as numbers: `4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0`, as iptables' `-m bpf --bytecode`, and with lines for commas `tcpdump -ddd`. */
import { SluiceError } from '../../errors.js';
import { checkProgram } from './check.js';
import { Word, type Instruction, type Program, programOf } from './program.js';

/** No program of 4096 instructions is longer: "65535 255 255 4294967295," each. */
const TEXT_MOST = 32 * Word.MAX_INSTRUCTIONS;
const FIELDS = ['code', 'jt', 'jf', 'k'];
const MOST = [0xffff, 0xff, 0xff, 0xffffffff];

/**
 * Reads bytecode, the separators commas or line ends, one more at the end allowed. `link` says where its offset 0 is; iptables' programs begin at
 * the IP header. The program has passed checkProgram.
 *
 * @throws SluiceError SLUICE_FORMAT that says which instruction is wrong, and how
 */
export function readBytecode(text: string, link: Program['link']): Program {
  if (text.length > TEXT_MOST) throw bad(`${text.length} characters, at most ${TEXT_MOST} make a program`);
  const [first, ...rest] = text
    .trim()
    .replace(/,$/, '')
    .split(/[ \t]*(?:,|\r?\n)[ \t]*/);
  if (!/^[0-9]{1,5}$/.test(first)) throw bad(`it begins with ${quote(first)}, not with the number of instructions`);
  if (Number(first) !== rest.length) throw bad(`it says ${Number(first)} instructions and has ${rest.length}`);
  const program = programOf(link, rest.map(readInstruction));
  const reason = checkProgram(program);
  if (reason !== null) throw bad(reason);
  return program;
}

function readInstruction(text: string, index: number): Instruction {
  const fields = text.split(/[ \t]+/);
  if (fields.length !== 4) throw bad(`instruction ${index}: ${quote(text)} is not "code jt jf k"`);
  const numbers = fields.map((field, i) => {
    if (/^[0-9]{1,10}$/.test(field) && Number(field) <= MOST[i]) return Number(field);
    throw bad(`instruction ${index}: ${FIELDS[i]} is ${quote(field)}, not a whole number from 0 to ${MOST[i]}`);
  });
  return [numbers[0], numbers[1], numbers[2], numbers[3] | 0];
}

/** Text that readBytecode reads: for iptables on one line, or as `tcpdump -ddd` on many. */
export function writeBytecode(program: Program, separator: ',' | '\n' = ','): string {
  const { words } = program;
  const parts = [`${words.length / Word.SIZE}`];
  for (let at = 0; at < words.length; at += Word.SIZE) {
    parts.push(`${words[at]} ${words[at + Word.jt]} ${words[at + Word.jf]} ${words[at + Word.k] >>> 0}`);
  }
  return separator === ',' ? parts.join(',') : `${parts.join('\n')}\n`;
}

function quote(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}…` : text);
}

function bad(reason: string): SluiceError {
  return new SluiceError('SLUICE_FORMAT', `bytecode: ${reason}`, 'Write it as "tcpdump -ddd" or nfbpf_compile does.');
}

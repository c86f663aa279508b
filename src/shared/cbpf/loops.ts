/**
 * Programs that jump back. Only libpcap makes them, for `protochain` (a walk from header to header), and only programs that
 * run in user space can be such: the kernel refuses a backward jump. Whoever wants straight code asks `hasLoop` first and
 * leaves these to the interpreter.
 *
 * A loop of libpcap's need not end: after an authentication header it takes that header's length for the next offset, so a
 * packet can send it in circles (tcpdump 4.99 with libpcap 1.10 then hangs). The interpreter therefore counts backward jumps
 * and gives up after as many as the packet has bytes; a walk that gets anywhere takes 8 bytes or more a turn.
 */
import { checkProgram } from './check.js';
import { Code, Word, type Program } from './program.js';

/** Whether a program has a backward jump. */
export function hasLoop({ words }: Program): boolean {
  for (let at = 0; at < words.length; at += Word.SIZE) if (isBackward(words, at)) return true;
  return false;
}

/**
 * The program with each backward jump made a return of `result`, so that it is one for every user of straight programs: of 0, it matches
 * less than the program does; of 1, more. The same object when there is no loop.
 */
export function withoutLoops(program: Program, result: 0 | 1): Program {
  if (!hasLoop(program)) return program;
  const words = program.words.slice();
  for (let at = 0; at < words.length; at += Word.SIZE) {
    if (isBackward(words, at)) words.set([Code.RET_K, 0, 0, result], at);
  }
  return { link: program.link, words };
}

/** checkProgram for programs that may jump back; null when the program is right. Without a loop it is checkProgram. */
export function checkLoops(program: Program): string | null {
  const { words } = program;
  for (let at = 0; at < words.length; at += Word.SIZE) {
    const index = at / Word.SIZE;
    if (isBackward(words, at) && index + 1 + words[at + Word.k] < 0) {
      return `instruction ${index}: a jump before the start of the program`;
    }
  }
  // A backward jump ends the forward part of a program as a return does.
  return checkProgram(withoutLoops(program, 0));
}

/** k of an unconditional jump counts as int32 here; conditional jumps have no room for a negative distance. */
function isBackward(words: Int32Array, at: number): boolean {
  return words[at] === Code.JA && words[at + Word.k] < 0;
}

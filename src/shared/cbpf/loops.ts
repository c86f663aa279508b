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

/** checkProgram for programs that may jump back; null when the program is right. Without a loop it is checkProgram. */
export function checkLoops(program: Program): string | null {
  // A backward jump ends the forward part of a program as a return does, so the forward part is checked as one that does.
  const forward = Int32Array.from(program.words);
  for (let at = 0; at < forward.length; at += Word.SIZE) {
    if (!isBackward(forward, at)) continue;
    const index = at / Word.SIZE;
    if (index + 1 + forward[at + Word.k] < 0) return `instruction ${index}: a jump before the start of the program`;
    forward.set([Code.RET_K, 0, 0, 0], at);
  }
  return checkProgram({ link: program.link, words: forward });
}

/** k of an unconditional jump counts as int32 here; conditional jumps have no room for a negative distance. */
function isBackward(words: Int32Array, at: number): boolean {
  return words[at] === Code.JA && words[at + Word.k] < 0;
}

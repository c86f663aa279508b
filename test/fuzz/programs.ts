/** What every compiler of match programs has to keep to. */
import { SluiceError } from '../../src/errors.js';
import { checkLoops, hasLoop } from '../../src/shared/cbpf/loops.js';
import { checkProgram } from '../../src/shared/cbpf/check.js';
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { instructionCount, type Program } from '../../src/shared/cbpf/program.js';

/** Throws unless the program is one that may run, and does the same in both engines. */
export function checkProgramOf(program: Program, packets: readonly Uint8Array[]): void {
  const loops = hasLoop(program);
  const problem = loops ? checkLoops(program) : checkProgram(program);
  if (problem !== null) throw new Error(`a program that is refused: ${problem}`);
  if (instructionCount(program) > 4096) throw new Error(`${instructionCount(program)} instructions`);
  const match = loops ? null : link(compileJavaScript([program]))[0];
  for (const packet of packets) {
    const view = new DataView(packet.buffer, packet.byteOffset, packet.byteLength);
    const wanted = interpret(program, view, 0, packet.length, packet.length);
    const got = match?.(view, 0, packet.length, packet.length) ?? wanted;
    if (got !== wanted)
      throw new Error(`interpreted ${wanted}, compiled ${got}: ${Buffer.from(packet).toString('hex')}`);
  }
}

/** What `read` makes; null when it refuses in words, with something to do. Anything else that is thrown is a fault. */
export function unlessRefused<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
    checkWords(error.message);
    return null;
  }
}

/** Throws unless it is text for a person: some, and not endless. What could steer a terminal is taken out where it is printed. */
export function checkWords(message: string): void {
  if (message.trim() === '') throw new Error('an empty message');
  // A configuration has up to 200 problems, a list of DNS names some hundred names; each is shown in part only.
  if (message.length > 20_000) throw new Error(`a message of ${message.length} characters`);
}

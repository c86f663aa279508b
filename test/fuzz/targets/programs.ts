/** Bytecode, p0f signatures and DNS names: texts that become match programs here. */
import { dnsProgram } from '../../../src/control/expression/dns_program.js';
import { readDnsPattern, type DnsPattern } from '../../../src/control/expression/dns_names.js';
import { readP0fFile } from '../../../src/control/expression/p0f_file.js';
import { p0fProgram } from '../../../src/control/expression/p0f_program.js';
import { readBytecode, writeBytecode } from '../../../src/shared/cbpf/bytecode_text.js';
import { interpret } from '../../../src/shared/cbpf/interpret.js';
import { randomPacket } from '../../support/cbpf_programs.js';
import { randomMessage, randomName } from '../../support/dns_reference.js';
import { randomSyn } from '../../support/p0f_random.js';
import { PacketBuilder } from '../../support/packet_builder.js';
import type { FuzzTarget } from '../engine.js';
import { checkProgramOf, unlessRefused } from '../programs.js';

export const bytecodeTarget: FuzzTarget = {
  name: 'bytecode',
  words: [
    '4',
    '6 0 0 1',
    '6 0 0 0',
    '21 0 1 6',
    '48 0 0 9',
    '40 0 0 12',
    '177 0 0 14',
    '5 0 0 4294967295',
    '96 0 0 3',
    '2 0 0 15',
    '28 0 0 0',
    ',',
    '\n',
  ],
  mutations: 3000,
  check([text], random) {
    const program = unlessRefused(() => readBytecode(text, 'ip'));
    if (program === null) return 0;
    checkProgramOf(program, [randomPacket(random), randomPacket(random)]);
    const again = readBytecode(writeBytecode(program, random(2) === 0 ? ',' : '\n'), 'ip');
    if (again.words.join() !== program.words.join()) throw new Error('is not what was written');
    return 1;
  },
};

export const p0fTarget: FuzzTarget = {
  name: 'p0f',
  words:
    '4 6 * : , 64 64- 54+10 255- mss*20 mtu*4 %8192 mss nop ws sok sack ts ?77 eol+1 eol df id+ id- 0+ flow ecn seq- ack+ uptr+ urgf+ pushf+ ts1- ts2+ opt+ exws bad linux 0 +'.split(
      ' ',
    ),
  mutations: 1500,
  check([text], random) {
    const program = unlessRefused(() => p0fProgram(text));
    if (program !== null) checkProgramOf(program, [randomSyn(random), randomSyn(random), randomPacket(random)]);
    // A file with it is read whatever it is, and says the same of it.
    const { signatures, problems } = readP0fFile(`[tcp:request]\nlabel = s:unix:X:\nsig = ${text}\n`);
    const one = !/[\r\n]/.test(text) && text.trim() === text && text !== '';
    if (one && signatures.length !== (program === null ? 0 : 1)) throw new Error('a file says otherwise of it');
    if (one && problems.length !== 1 - signatures.length) throw new Error(`${problems.length} problems`);
    return program === null ? 0 : 1;
  },
};

/** A query for a name that the pattern is about. null: with labels in front and behind it would be too long. */
function queryFor({ labels, front, behind }: DnsPattern): Uint8Array | null {
  const bytes = (text: string): number[] => [...Buffer.from(text)];
  const name = labels.map((label) => ('bytes' in label ? [...label.bytes] : bytes('x'.repeat(label.least))));
  if (front) name.unshift(bytes('a'));
  if (behind) name.push(bytes('z'));
  const wire = [...name.flatMap((label) => [label.length, ...label]), 0];
  if (wire.length > 255) return null;
  const message = [0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...wire, 0, 1, 0, 1];
  return new PacketBuilder().ipv4({}).udp({ sport: 4000, dport: 53 }).payload(Uint8Array.from(message)).build();
}

/** An input is a list of names, a line each. */
export const dnsTarget: FuzzTarget = {
  name: 'dns',
  words: [
    '*',
    '**',
    '*{1-63}',
    '*{4-20}',
    '.',
    '..',
    '\\.',
    '\\000',
    '\\255',
    '\\*',
    '\\032',
    'example',
    'com',
    'xn--',
    'bücher',
    '\n',
    'a'.repeat(63),
  ],
  mutations: 300,
  check([text], random) {
    const names = text.split('\n');
    const program = unlessRefused(() => dnsProgram(names));
    if (program === null) return 0;
    checkProgramOf(program, [randomMessage(random, randomName(random), 1), randomPacket(random)]);
    for (const name of names) {
      const query = queryFor(readDnsPattern(name));
      if (query === null) continue;
      const view = new DataView(query.buffer, query.byteOffset, query.length);
      if (interpret(program, view, 0, query.length, query.length) === 0) throw new Error(`${name} is not matched`);
    }
    return 1;
  },
};

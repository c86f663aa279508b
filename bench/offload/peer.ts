/**
 * The far ends of ways in one namespace: XDP programs that drop what comes there, or let it be seen. Lines of JSON in, one out for each:
 *
 *   {"interface":"g0","action":"drop"|"pass"}   attaches it, in native mode    {"attached":"g0"}
 *
 * They are only ever replaced: a veth without a program does not take what the other end's sends.
 */
import { createInterface } from 'node:readline';
import { Assembler, encode } from '../../src/control/ebpf/assembler.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { native, type BpfLink, type BpfProgram } from '../../src/native.js';

export interface PeerRequest {
  interface: string;
  action: 'drop' | 'pass';
}

/** enum xdp_action. */
const ACTIONS = { drop: 1, pass: 2 } as const;

function returning(action: keyof typeof ACTIONS): BpfProgram {
  const asm = new Assembler();
  asm.alu32(Alu.MOV, Reg.r0, ACTIONS[action]);
  asm.exit();
  const options = { type: 'xdp' as const, name: `bench_${action}`, license: 'Dual BSD/GPL' };
  return native().loadProgram({ ...options, instructions: encode(asm.instructions()) });
}

const programs = { drop: returning('drop'), pass: returning('pass') };
const links = new Map<string, BpfLink>();
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

function obey({ interface: name, action }: PeerRequest): void {
  const link = links.get(name);
  if (link) link.update(programs[action]);
  else links.set(name, programs[action].attachXdp(native().linkInfo(name).ifindex, 'native'));
  say({ attached: name });
}

say({ ready: true });
createInterface({ input: process.stdin }).on('line', (line) => obey(JSON.parse(line) as PeerRequest));
process.stdin.on('end', () => process.exit(0));

/**
 * XDP programs that do a job by themselves, and those at the peers, which drop what comes. Lines of JSON in, one out for each:
 *
 *   {"interface":"d0","program":"drop"|"tx"|"redirect","to":"d1"}   attaches it, in native mode    {"attached":"d0"}
 *   {"interface":"d0","program":null}                               takes it off                   {"attached":null}
 *
 * `tx` sends back and `redirect` out of another interface, both with the hardware addresses swapped, as the jobs in user space do.
 */
import { createInterface } from 'node:readline';
import { Assembler, encode, Label } from '../../src/control/ebpf/assembler.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../../src/control/ebpf/instruction.js';
import { native, type BpfLink } from '../../src/native.js';

export interface KernelRequest {
  interface: string;
  program: 'drop' | 'tx' | 'redirect' | null;
  to?: string;
}

/** enum xdp_action. */
const [XDP_ABORTED, XDP_DROP, XDP_TX] = [0, 1, 3];
const ADDRESSES_BYTES = 12;

function programOf({ program, to }: KernelRequest): Uint8Array {
  const asm = new Assembler();
  if (program === 'drop') {
    asm.alu32(Alu.MOV, Reg.r0, XDP_DROP);
    asm.exit();
    return encode(asm.instructions());
  }
  const short = new Label();
  asm.load(Size.W, Reg.r6, Reg.r1, XdpMd.data);
  asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data_end);
  asm.alu64X(Alu.MOV, Reg.r3, Reg.r6);
  asm.alu64(Alu.ADD, Reg.r3, ADDRESSES_BYTES);
  asm.jump64X(Jump.JGT, Reg.r3, Reg.r2, short);
  // Six halfwords: the first three change places with the others.
  const registers = [Reg.r1, Reg.r2, Reg.r3, Reg.r4, Reg.r5, Reg.r0];
  registers.forEach((register, i) => asm.load(Size.H, register, Reg.r6, 2 * i));
  registers.forEach((register, i) => asm.store(Size.H, Reg.r6, (2 * i + 6) % ADDRESSES_BYTES, register));
  if (program === 'tx') {
    asm.alu32(Alu.MOV, Reg.r0, XDP_TX);
  } else {
    asm.alu32(Alu.MOV, Reg.r1, native().linkInfo(to!).ifindex);
    asm.alu32(Alu.MOV, Reg.r2, 0);
    asm.call(Helper.redirect);
  }
  asm.exit();
  asm.place(short);
  asm.alu32(Alu.MOV, Reg.r0, XDP_ABORTED);
  asm.exit();
  return encode(asm.instructions());
}

const links = new Map<string, BpfLink>();
const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);

function obey(request: KernelRequest): void {
  links.get(request.interface)?.close();
  links.delete(request.interface);
  if (request.program === null) return say({ attached: null });
  const options = { type: 'xdp' as const, name: 'bench_pps', license: 'Dual BSD/GPL' };
  const program = native().loadProgram({ ...options, instructions: programOf(request) });
  links.set(request.interface, program.attachXdp(native().linkInfo(request.interface).ifindex, 'native'));
  program.close();
  say({ attached: request.interface });
}

say({ ready: true });
createInterface({ input: process.stdin }).on('line', (line) => obey(JSON.parse(line) as KernelRequest));
process.stdin.on('end', () => process.exit(0));

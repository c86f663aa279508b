/**
 * XDP programs that do a job by themselves, and those at the peers, which drop what comes. Lines of JSON in, one out for each:
 *
 *   {"interface":"d0","program":"drop"|"tx"|"redirect","to":"d1"}   attaches it, in native mode    {"attached":"d0"}
 *   {"interface":"s0","program":"sieve","to":"198.51.100.10"}      the same                       {"attached":"s0"}
 *   {"interface":"d0","program":null}                               takes it off                   {"attached":null}
 *
 * `tx` sends back and `redirect` out of another interface, both with the hardware addresses swapped, as the jobs in user space do. `sieve` drops what is for an IPv4
 * address and passes all else.
 */
import { createInterface } from 'node:readline';
import { Assembler, encode, Label } from '../../src/control/ebpf/assembler.js';
import { Alu, Helper, Jump, Reg, Size, XdpMd } from '../../src/control/ebpf/instruction.js';
import { native, type BpfLink } from '../../src/native.js';

export interface KernelRequest {
  interface: string;
  program: 'drop' | 'tx' | 'redirect' | 'sieve' | null;
  /** Interface, or address. */
  to?: string;
}

/** enum xdp_action. */
const [XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_TX] = [0, 1, 2, 3];
const ADDRESSES_BYTES = 12;
/** Of the destination address in a frame without VLAN tag, and where it ends. */
const [DESTINATION, DESTINATION_END] = [30, 34];

function programOf({ program, to }: KernelRequest): Uint8Array {
  const asm = new Assembler();
  if (program === 'drop') {
    asm.alu32(Alu.MOV, Reg.r0, XDP_DROP);
    asm.exit();
    return encode(asm.instructions());
  }
  if (program === 'sieve') return sieve(to!);
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

/** Frames that happen to have the address there without being IPv4 are dropped, too. */
function sieve(address: string): Uint8Array {
  const asm = new Assembler();
  const pass = new Label();
  asm.load(Size.W, Reg.r2, Reg.r1, XdpMd.data);
  asm.load(Size.W, Reg.r3, Reg.r1, XdpMd.data_end);
  asm.alu64X(Alu.MOV, Reg.r4, Reg.r2);
  asm.alu64(Alu.ADD, Reg.r4, DESTINATION_END);
  asm.jump64X(Jump.JGT, Reg.r4, Reg.r3, pass);
  asm.load(Size.W, Reg.r5, Reg.r2, DESTINATION);
  asm.networkOrder(Reg.r5, 32);
  const [high, middle, low, least] = address.split('.').map(Number);
  asm.jump32(Jump.JNE, Reg.r5, (high << 24) | (middle << 16) | (low << 8) | least, pass);
  asm.alu32(Alu.MOV, Reg.r0, XDP_DROP);
  asm.exit();
  asm.place(pass);
  asm.alu32(Alu.MOV, Reg.r0, XDP_PASS);
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

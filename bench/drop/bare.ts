/**
 * The receiving end without the daemon: a program on an interface, put in by link update. Lines of JSON in, one out for each:
 *
 *   node bare.js INTERFACE VIP
 *   {"program":"drop"|"redirect"}   attaches it    {}
 */
import { createInterface } from 'node:readline';
import { Assembler, encode } from '../../src/control/ebpf/assembler.js';
import { Alu, Reg } from '../../src/control/ebpf/instruction.js';
import { REDIRECT_PROGRAM, RedirectProgram } from '../../src/control/manager/redirect_program.js';
import { native } from '../../src/native.js';
import { parsePrefix } from '../../src/shared/addr.js';

/** enum xdp_action. */
const XDP_DROP = 1;

const [, , name, vip] = process.argv;

const asm = new Assembler();
asm.alu32(Alu.MOV, Reg.r0, XDP_DROP);
asm.exit();
const instructions = encode(asm.instructions());
const drop = native().loadProgram({ type: 'xdp', name: 'bench_drop', license: 'Dual BSD/GPL', instructions });
const redirect = new RedirectProgram({ redirect: 'services', fallback: 'drop' });
redirect.addVips([parsePrefix(vip)]);
const link = drop.attachXdp(native().linkInfo(name).ifindex, 'native');

const say = (value: object): void => void process.stdout.write(`${JSON.stringify(value)}\n`);
say({ ready: true });
createInterface({ input: process.stdin }).on('line', (line) => {
  const { program } = JSON.parse(line) as { program: 'drop' | 'redirect' };
  if (program === 'drop') link.update(drop);
  else link.update(redirect.object, REDIRECT_PROGRAM);
  say({ attached: program });
});
process.stdin.on('end', () => process.exit(0));

import { Command, Option } from 'commander';
import { disassembleEbpf } from '../../control/ebpf/disassemble.js';
import { xdpProgram } from '../../control/ebpf/xdp_program.js';
import { compileExpression } from '../../control/expression/compile.js';
import { SluiceError } from '../../errors.js';
import { writeBytecode } from '../../shared/cbpf/bytecode_text.js';
import { disassemble } from '../../shared/cbpf/disassemble.js';
import { compileJavaScript } from '../../shared/cbpf/javascript.js';
import { hasLoop } from '../../shared/cbpf/loops.js';
import { instructionCount, Word, type Program } from '../../shared/cbpf/program.js';
import { processEnv, type Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';
import { programOfOptions, withProgramOptions, type ProgramOptions } from './program_options.js';
import { rulesAddCommand, rulesChangeCommands } from './rules_change.js';
import { rulesImportCommand } from './rules_import.js';
import { rulesExportCommand, rulesListCommand } from './rules_list.js';
import { rulesTestCommand } from './rules_test.js';

const FORMS = ['cbpf', 'bytecode', 'javascript', 'ebpf'] as const;
type Form = (typeof FORMS)[number];

/** `sluice rules`: the rules of the running daemon, and what rules are made of. */
export function rulesCommand(env: Env = processEnv()): Command {
  const command = new Command('rules').description(
    'List and change the rules of the running sluice, try rules out, import them, see what they compile to',
  );
  for (const each of [rulesListCommand(env), rulesAddCommand(env), ...rulesChangeCommands(env)])
    command.addCommand(each);
  for (const each of [rulesExportCommand(env), rulesTestCommand(env), rulesImportCommand(env)])
    command.addCommand(each);
  withProgramOptions(command.command('compile'))
    .description('Print what a pcap-filter expression, a p0f signature or DNS names compile to')
    .argument('[expression...]', 'pcap-filter(7); several words are joined by spaces to one expression')
    .addOption(new Option('--only <form>', 'one form, without its title').choices(FORMS))
    .option('--json', 'print all forms as JSON')
    .addHelpText(
      'after',
      `
Forms: cbpf, instructions as tcpdump -d prints them; bytecode, numbers as iptables -m bpf --bytecode takes them (which begin at
the IP header there, as those of --p0f and --dns do; at the Ethernet header for expressions); javascript, what the data path runs; ebpf, a program of type XDP, as the
kernel's verifier prints it, before it is loaded.

Examples:
  sluice rules compile 'udp src port 53 and greater 512'
  sluice rules compile --only javascript tcp port 80
  sluice rules compile --p0f '*:64:0:*:mss*44,7:mss,sok,ts,nop,ws:df,id+:0'
  sluice rules compile --only bytecode --dns '*.example.com' --qtype ANY`,
    )
    .action((words: string[], options: CompileOptions) => compile(env, words, options));
  return command;
}

interface CompileOptions extends ProgramOptions {
  only?: Form;
  json?: boolean;
}

function compile(env: Env, words: readonly string[], options: CompileOptions): void {
  const other = programOfOptions(options, words);
  if (other === null && words.length === 0) {
    throw new SluiceError('SLUICE_USAGE', 'nothing to compile', 'Give an expression, --p0f SIGNATURE or --dns NAME.');
  }
  const expr = other?.text ?? words.join(' ');
  const result = other === null ? compileExpression(expr) : { ok: true as const, program: other.program };
  if (!result.ok) {
    if (options.json) printJson(env, { expr, ok: false, error: result.error });
    throw new SluiceError('SLUICE_FORMAT', `${JSON.stringify(plain(expr))}: ${plain(result.error)}`);
  }
  const { program } = result;
  if (options.json) {
    printJson(env, { expr, ok: true, instructions: instructionsOf(program), ...formsOf(program) });
  } else if (options.only !== undefined) {
    print(env, formsOf(program)[options.only] ?? NONE[options.only]);
  } else {
    const { cbpf, bytecode, javascript, ebpf } = formsOf(program);
    const title = `cBPF, ${plural(instructionCount(program), 'instruction')}`;
    print(env, title, cbpf, '', 'bytecode', bytecode, '', 'JavaScript', javascript ?? NONE.javascript, '');
    print(env, 'eBPF', ebpf ?? NONE.ebpf);
  }
}

/** Instead of a form that there is none of. */
const NONE: Record<Form, string> = {
  cbpf: '',
  bytecode: '',
  javascript: 'None: it has a loop (protochain), the interpreter runs it.',
  ebpf: 'None: it has a loop (protochain), which no kernel takes; or it is too long for the jumps of eBPF.',
};

function formsOf(program: Program): Record<Form, string | null> & { cbpf: string; bytecode: string } {
  const xdp = xdpProgram(program, { access: 'direct', length: 'packet' });
  return {
    cbpf: disassemble(program).trimEnd(),
    bytecode: writeBytecode(program),
    javascript: hasLoop(program) ? null : compileJavaScript([program]).trimEnd(),
    ebpf: xdp.ok ? disassembleEbpf(xdp.instructions).trimEnd() : null,
  };
}

/** [code, jt, jf, k] each, k unsigned. */
function instructionsOf({ words }: Program): number[][] {
  return Array.from({ length: words.length / Word.SIZE }, (_, i) => {
    const at = i * Word.SIZE;
    return [words[at], words[at + Word.jt], words[at + Word.jf], words[at + Word.k] >>> 0];
  });
}

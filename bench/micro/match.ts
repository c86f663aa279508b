/** shared/cbpf/: match programs, interpreted and compiled, alone and many in one function. */
import { interpret } from '../../src/shared/cbpf/interpret.js';
import { compileJavaScript } from '../../src/shared/cbpf/javascript.js';
import { link } from '../../src/shared/cbpf/link.js';
import { Code, programOf, type PacketMatch, type Program } from '../../src/shared/cbpf/program.js';
import { readBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { IpProtocol } from '../../src/dataplane/packet/wire.js';
import { BURST, measure, type MicroCase } from './harness.js';
import { parsedBurst } from './packets.js';

/** tcpdump -ddd 'udp port 53' */
const DNS = readBytecode(
  '20,40 0 0 12,21 0 6 34525,48 0 0 20,21 0 15 17,40 0 0 54,21 12 0 53,40 0 0 56,21 10 11 53,21 0 10 2048,48 0 0 23,21 0 8 17,' +
    '40 0 0 20,69 6 0 8191,177 0 0 14,72 0 0 14,21 2 0 53,72 0 0 16,21 0 1 53,6 0 0 262144,6 0 0 0',
  'ethernet',
);
/** tcpdump -ddd 'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 10.0.0.0/8' */
const SYN = readBytecode(
  '15,40 0 0 12,21 0 12 2048,48 0 0 23,21 0 10 6,40 0 0 20,69 8 0 8191,177 0 0 14,80 0 0 27,84 0 0 18,21 0 4 2,' +
    '32 0 0 30,84 0 0 4278190080,21 0 1 167772160,6 0 0 262144,6 0 0 0',
  'ethernet',
);

/** udp dst port PORT, IPv4 only. */
function toPort(port: number): Program {
  return programOf('ethernet', [
    [Code.LD_H_ABS, 0, 0, 12],
    [Code.JEQ_K, 0, 8, 0x800],
    [Code.LD_B_ABS, 0, 0, 23],
    [Code.JEQ_K, 0, 6, IpProtocol.udp],
    [Code.LD_H_ABS, 0, 0, 20],
    [Code.JSET_K, 4, 0, 0x1fff],
    [Code.LDX_MSH, 0, 0, 14],
    [Code.LD_H_IND, 0, 0, 16],
    [Code.JEQ_K, 0, 1, port],
    [Code.RET_K, 0, 0, 1],
    [Code.RET_K, 0, 0, 0],
  ]);
}

const udp = parsedBurst({ family: 4, protocol: IpProtocol.udp, bytes: 64 });

/** `none`: what the function returns when nothing matches; the interpreter says what is expected. */
function matchCase(name: string, programs: readonly Program[], match: PacketMatch, none: number): MicroCase {
  const matches = udp.filter(({ view, data, dataEnd }) =>
    programs.some((program) => interpret(program, view, data, dataEnd - data, dataEnd - data) !== 0),
  );
  const body = (): number => {
    let matched = 0;
    for (let i = 0; i < BURST; i++) {
      const { view, data, dataEnd } = udp[i];
      if (match(view, data, (dataEnd - data) | 0, (dataEnd - data) | 0) !== none) matched++;
    }
    return matched;
  };
  return { name, body, expected: matches.length };
}

function interpreted(program: Program): PacketMatch {
  return (view, at, length, wireLength) => interpret(program, view, at, length, wireLength);
}

function together(count: number): MicroCase {
  const programs = Array.from({ length: count }, (_, i) => toPort(20_000 + i));
  const [match] = link(compileJavaScript(programs, { together: true }));
  return matchCase(`${count} programs in one function, none matches`, programs, match, -1);
}

measure([
  matchCase('udp port 53, compiled', [DNS], link(compileJavaScript([DNS]))[0], 0),
  matchCase('udp port 53, interpreted', [DNS], interpreted(DNS), 0),
  matchCase('SYN to 10.0.0.0/8, compiled', [SYN], link(compileJavaScript([SYN]))[0], 0),
  matchCase('SYN to 10.0.0.0/8, interpreted', [SYN], interpreted(SYN), 0),
  together(10),
  together(100),
]);

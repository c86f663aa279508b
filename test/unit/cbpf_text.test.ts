import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { readBytecode, writeBytecode } from '../../src/shared/cbpf/bytecode_text.js';
import { disassemble } from '../../src/shared/cbpf/disassemble.js';
import { Code, programOf, type Instruction } from '../../src/shared/cbpf/program.js';
import { randomPacket, randomProgram, randomSource } from '../support/cbpf_programs.js';

/** Expressions that bring out every instruction that libpcap writes. */
const EXPRESSIONS = [
  '',
  'udp port 53',
  'tcp[tcpflags] & (tcp-syn|tcp-ack) == tcp-syn and dst net 10.0.0.0/8',
  'ip6 and not tcp portrange 1024-65535',
  'vlan 100 and ip host 192.0.2.1',
  'ether host 02:00:00:00:00:01 or ether multicast',
  'len > 100 or ip[ip[0]] = 3',
  'ip[2:2] / ip[8] = 7',
  'ip[2:2] % 7 = (ip[8] << 2) ^ (ip[9] >> ip[1] | 0x80)',
  'ip[2:2] - ((ip[0] & 0xf) << 2) - ((tcp[12] & 0xf0) >> 2) * 3 != -5',
  'udp[8:4] + ip[4:4] > ether[ip[6] + 12:4]',
  'icmp6 and ip6[40] == 128',
  'greater 64 and less 128',
  'src net 2001:db8::/33',
  'ip proto 47 or sctp or mpls 5',
  'pppoes and ip',
];

function tcpdump(...options: string[]): string {
  const { stdout, stderr, status } = spawnSync('tcpdump', ['-y', 'EN10MB', ...options], { encoding: 'utf8' });
  if (status !== 0) throw new Error(`tcpdump: ${stderr}`);
  return stdout;
}

const hasTcpdump = spawnSync('tcpdump', ['--version']).status === 0;

describe.skipIf(!hasTcpdump)('programs as tcpdump prints them (needs tcpdump)', () => {
  it.each(EXPRESSIONS)('%s', (expression) => {
    for (const optimise of [[], ['-O']]) {
      const numbers = tcpdump('-ddd', ...optimise, expression);
      const program = readBytecode(numbers, 'ethernet');
      expect(disassemble(program)).toBe(tcpdump('-d', ...optimise, expression));
      expect(writeBytecode(program, '\n')).toBe(numbers);
    }
  });
});

describe('disassembly', () => {
  it('has the instructions that libpcap never writes', () => {
    const code: Instruction[] = [
      [Code.LDX_LEN, 0, 0, 0],
      [Code.NEG, 0, 0, 0],
      [Code.MOD_X, 0, 0, 0],
      [Code.ADD_K, 0, 0, -16],
      [Code.OR_K, 0, 0, -16],
      [Code.JA, 0, 0, 0],
      [Code.JGE_X, 0, 0, 0],
      [Code.RET_A, 0, 0, 0],
    ];
    expect(disassemble(programOf('ethernet', code)).split('\n')).toEqual([
      '(000) ldx      #pktlen',
      '(001) neg      ',
      '(002) mod      x',
      '(003) add      #-16',
      '(004) or       #0xfffffff0',
      '(005) ja       6',
      '(006) jge      x                jt 7\tjf 7',
      '(007) ret      ',
      '',
    ]);
  });
});

describe('bytecode as text', () => {
  const TEXT = '4,48 0 0 9,21 0 1 6,6 0 0 1,6 0 0 0';

  it('is read and written as iptables has it', () => {
    const program = readBytecode(TEXT, 'ip');
    expect(program.link).toBe('ip');
    expect([...program.words]).toEqual([48, 0, 0, 9, 21, 0, 1, 6, 6, 0, 0, 1, 6, 0, 0, 0]);
    expect(writeBytecode(program)).toBe(TEXT);
  });

  it('may have other white space, and a separator more at its end', () => {
    for (const text of [
      ` ${TEXT}, \n`,
      TEXT.replace(/,/g, '\n'),
      TEXT.replace(/,/g, ' , '),
      TEXT.replace(/,/g, '\r\n'),
    ]) {
      expect(writeBytecode(readBytecode(text, 'ip'))).toBe(TEXT);
    }
  });

  it('comes back the same for any program', () => {
    const random = randomSource(7);
    for (let i = 0; i < 300; i++) {
      const program = randomProgram(random, randomPacket(random), { length: 60 });
      expect(readBytecode(writeBytecode(program), 'ethernet')).toEqual(program);
      expect(readBytecode(writeBytecode(program, '\n'), 'ethernet')).toEqual(program);
    }
  });

  it.each([
    ['', /begins with ""/],
    ['x', /begins with "x"/],
    ['-1,6 0 0 1', /begins with "-1"/],
    ['2,6 0 0 1', /says 2 instructions and has 1/],
    ['1,6 0 0', /instruction 0: "6 0 0" is not "code jt jf k"/],
    ['1,6 0 0 1 2', /is not "code jt jf k"/],
    ['1,0x06 0 0 1', /code is "0x06"/],
    ['1,6 0 0 -1', /k is "-1"/],
    ['1,6 256 0 1', /jt is "256", not a whole number from 0 to 255/],
    ['1,6 0 0 4294967296', /k is "4294967296"/],
    ['1,70000 0 0 1', /code is "70000"/],
    ['1,6 0 0 1e3', /k is "1e3"/],
    ['1,6 0 0 1,,', /has 2/],
    ['0', /at least one instruction/],
    ['1,14 0 0 0', /instruction 0: there is no code 0xe/],
    ['2,21 1 0 0,6 0 0 0', /instruction 0: a jump behind the end/],
    ['2,5 0 0 4294967295,6 0 0 0', /instruction 0: a jump behind the end/],
    ['2,40 0 0 4294963200,6 0 0 0', /SKF_AD_OFF/],
    ['2,96 0 0 3,6 0 0 0', /M\[3\] is read/],
    ['2,6 0 0 0,0 0 0 0', /no return/],
    ['2,52 0 0 0,6 0 0 0', /division by 0/],
    ['2,100 0 0 32,6 0 0 0', /shift by 32/],
    ['1,6 0\u20280 1', /is not "code/],
  ])('is refused when it is %s', (text, reason) => {
    expect(() => readBytecode(text, 'ip')).toThrow(reason);
  });

  it('is refused when it is longer than any program', () => {
    expect(() => readBytecode(`1,6 0 0 ${'1'.repeat(200_000)}`, 'ip')).toThrow(/at most 131072 make/);
  });
});

/** pcap-filter expressions through sluice-pcap: libpcap's own parser, optimiser and code generator, and what is made of their answers. */
import { compileExpressions } from '../../../src/control/expression/compile.js';
import { expressionFrames } from '../../support/expression_frames.js';
import { EXPRESSIONS } from '../../support/expressions.js';
import type { Random } from '../../support/cbpf_programs.js';
import type { FuzzTarget } from '../engine.js';
import { checkProgramOf, checkWords } from '../programs.js';

const frames = expressionFrames().map(({ data }) => data);

/** Of no machine's files: whoever takes it has asked a name service, or takes what it should not. */
const HOST = 'fuzz.example.com';

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];
const maybe = (random: Random, text: string): string => (random(2) === 0 ? `${text} ` : '');

const PROTOCOLS =
  'ether ip ip6 arp rarp tcp udp icmp icmp6 igmp sctp pim ah esp vrrp decnet stp ipx netbeui iso clnp isis aarp'.split(
    ' ',
  );
const LOADS = 'ether ip ip6 tcp udp icmp icmp6 arp vlan igmp pim sctp'.split(' ');
const ADDRESSES = [
  '192.0.2.1',
  '10.0.0.0/8',
  '2001:db8::1',
  '2001:db8::/32',
  '02:00:00:00:00:01',
  '192.0.2',
  '10',
  HOST,
  'localhost',
];
const NUMBERS = [
  '0',
  '1',
  '6',
  '17',
  '53',
  '255',
  '256',
  '0x800',
  '65535',
  '65536',
  '4294967295',
  '4294967296',
  '-1',
  '08',
];
const ALONE = (
  'vlan|vlan 7|mpls|mpls 5|pppoes|pppoed|pppoes 3|geneve|geneve 9|vxlan|llc|llc u|llc ia|multicast|ether broadcast|ip multicast|ip broadcast|' +
  'gateway foo|inbound|outbound|ifindex 3|on eth0|less 60|greater 1500|len = 60|lat|moprc|mopdl|csnp|psnp|l1|iih|wlan host 02:00:00:00:00:01|' +
  'ip protochain 6|ip6 protochain 6|ether[0] & 1 = 0 and ip[16] >= 224|tcp[tcpflags] & (tcp-syn|tcp-fin) != 0|icmp[icmptype] = icmp-echo|rnr 1.2.3.4'
).split('|');

function value(random: Random, depth: number): string {
  switch (depth <= 0 ? random(2) : random(5)) {
    case 0:
      return pick(random, NUMBERS);
    case 1:
      return pick(random, [
        'len',
        'tcp-syn',
        'tcpflags',
        'icmp-echo',
        `${pick(random, LOADS)}[${pick(random, NUMBERS)}]`,
      ]);
    case 2:
      return `${pick(random, LOADS)}[${value(random, depth - 1)}${pick(random, ['', ':1', ':2', ':4', ':3'])}]`;
    case 3:
      return `(${value(random, depth - 1)})`;
    default:
      return `${value(random, depth - 1)} ${pick(random, '+ - * / % & | ^ << >>'.split(' '))} ${value(random, depth - 1)}`;
  }
}

function primitive(random: Random): string {
  const direction = maybe(random, pick(random, ['src', 'dst', 'src or dst', 'src and dst', 'ra', 'addr1']));
  const protocol = maybe(random, pick(random, PROTOCOLS));
  switch (random(6)) {
    case 0:
      return `${protocol}${direction}${pick(random, ['host', 'net', 'gateway', ''])} ${pick(random, ADDRESSES)}`;
    case 1:
      return `${protocol}${direction}${pick(random, ['port', 'portrange'])} ${pick(random, ['53', 'http', '1-1023', '70000', 'x', '5-2'])}`;
    case 2:
      return `${protocol}${pick(random, ['proto', 'protochain'])} ${pick(random, [...NUMBERS, 'tcp', '\\\\tcp', 'ospf', 'nope'])}`;
    case 3:
      return pick(random, PROTOCOLS);
    case 4:
      return pick(random, ALONE);
    default:
      return `${value(random, 2)} ${pick(random, '= == != < > <= >='.split(' '))} ${value(random, 2)}`;
  }
}

function expression(random: Random, depth: number): string {
  if (depth <= 0 || random(4) === 0) return primitive(random);
  switch (random(4)) {
    case 0:
      return `not ${expression(random, depth - 1)}`;
    case 1:
      return `(${expression(random, depth - 1)})`;
    default:
      return `${expression(random, depth - 1)} ${pick(random, ['and', 'or', '&&', '||', 'and not'])} ${expression(random, depth - 1)}`;
  }
}

export const expressionTarget: FuzzTarget = {
  name: 'expression',
  words: [
    ...PROTOCOLS,
    ...ADDRESSES,
    ...NUMBERS,
    ...ALONE,
    ...EXPRESSIONS,
    'and',
    'or',
    'not',
    '(',
    ')',
    'host',
    'net',
    'port',
    'src',
    'dst',
  ],
  make: (random) => expression(random, random(6)),
  batch: 128,
  mutations: 1024,
  check(inputs, random) {
    const packets = Array.from({ length: 8 }, () => pick(random, frames));
    let taken = 0;
    compileExpressions(inputs).forEach((result, i) => {
      if (result.ok) {
        checkProgramOf(result.program, packets);
        if (inputs[i].includes(HOST)) throw new Error(`a name of a host was taken: ${inputs[i]}`);
        taken++;
        return;
      }
      checkWords(result.error);
      // Its limits end the compiler, and nothing else does.
      if (/died of it|a program that is not valid|\p{Cc}/u.test(result.error))
        throw new Error(`${result.error}: ${JSON.stringify(inputs[i])}`);
    });
    return taken;
  },
};

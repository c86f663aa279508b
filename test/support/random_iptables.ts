/** Random rule sets as iptables-restore takes them, and packets of which their rules match some. Each rule has a comment of its own: "r7". */
import type { Random } from './cbpf_programs.js';
import { PacketBuilder } from './packet_builder.js';

/** What differs between the two commands. */
export interface Family {
  command: 'iptables' | 'ip6tables';
  /** Where packets go. */
  readonly host: string;
  readonly sources: readonly string[];
  readonly prefixes: readonly string[];
  readonly hosts: readonly string[];
  readonly range: string;
  readonly icmp: string;
  readonly icmpOption: string;
  readonly icmpTypes: readonly string[];
  readonly icmpNumbers: readonly number[];
  readonly hops: readonly string[];
  /** One condition in so many is negated: with IPv6 the importer has no words for most of these, and says so. */
  readonly negatedIn: number;
}

export const IPV4: Family = {
  command: 'iptables',
  host: '198.51.100.77',
  sources: ['10.0.0.1', '10.0.0.200', '10.1.2.3', '172.16.5.5', '203.0.113.9'],
  prefixes: ['10.0.0.0/8', '10.0.0.1', '10.0.0.128/25', '172.16.0.0/12', '203.0.113.9'],
  hosts: ['198.51.100.0/24', '198.51.100.77', '198.51.100.64/28'],
  range: '10.0.0.1-10.0.0.199',
  icmp: 'icmp',
  icmpOption: '--icmp-type',
  icmpTypes: ['8', '3', '3/4', 'echo-reply', 'time-exceeded', 'any', 'destination-unreachable', 'fragmentation-needed'],
  icmpNumbers: [0, 3, 3, 8, 11, 13, 5],
  hops: ['-m ttl --ttl-eq 64', '-m ttl --ttl-lt 64', '-m ttl --ttl-gt 63', '-m ttl ! --ttl-eq 64'],
  negatedIn: 3,
};

export const IPV6: Family = {
  command: 'ip6tables',
  host: '2001:db8:100::77',
  sources: ['2001:db8::1', '2001:db8::c8', '2001:db8:1::3', '2001:db8:5:5::5', '2001:db8:113::9'],
  prefixes: ['2001:db8::/48', '2001:db8::1', '2001:db8::80/121', '2001:db8:4::/46', '2001:db8:113::9'],
  hosts: ['2001:db8:100::/64', '2001:db8:100::77', '2001:db8:100::40/122'],
  range: '2001:db8::1-2001:db8::c7',
  icmp: 'ipv6-icmp',
  icmpOption: '--icmpv6-type',
  icmpTypes: ['128', '1', '1/4', 'echo-reply', 'time-exceeded', 'destination-unreachable', 'port-unreachable'],
  icmpNumbers: [1, 1, 3, 128, 129, 4],
  hops: ['-m hl --hl-eq 64', '-m hl --hl-lt 64', '-m hl --hl-gt 63', '-m hl ! --hl-eq 64'],
  negatedIn: 12,
};

const PORTS = [1, 22, 53, 80, 123, 443, 1024, 5000, 65535];
const FLAGS = [0x02, 0x02, 0x12, 0x10, 0x18, 0x01, 0x04, 0x14, 0x11, 0x00, 0x3f, 0x29];
const TCP_FLAGS = [
  '--syn',
  '--tcp-flags SYN,ACK SYN',
  '--tcp-flags ALL NONE',
  '--tcp-flags SYN,RST,FIN,ACK ACK',
  '--tcp-flags ALL ALL',
];

const pick = <T>(random: Random, from: readonly T[]): T => from[random(from.length)];

export function randomFrame(random: Random, { host, sources, icmpNumbers, command }: Family, mac: string): Uint8Array {
  const kind = random(20);
  const [tcp, udp, icmp] = [kind < 8, kind < 15, kind < 18];
  const other = tcp || udp || icmp ? undefined : pick(random, [47, 132, 132, 89]);
  const [src, hops] = [pick(random, sources), pick(random, [1, 5, 63, 64, 128, 255])];
  const [sport, dport] = [pick(random, PORTS), pick(random, PORTS)];
  const builder = new PacketBuilder().ethernet({ dst: mac });
  if (command === 'iptables') builder.ipv4({ src, dst: host, ttl: hops, protocol: other });
  else builder.ipv6({ src, dst: host, hopLimit: hops, nextHeader: other });
  if (tcp) builder.tcp({ sport, dport, flags: pick(random, FLAGS) });
  else if (udp) builder.udp({ sport, dport });
  else if (icmp) builder.icmp({ type: pick(random, icmpNumbers), code: pick(random, [0, 1, 3, 4]) });
  // Ports, a verification tag and a checksum, as SCTP has them.
  else builder.payload([sport >> 8, sport & 255, dport >> 8, dport & 255, 0, 0, 0, 1, 0, 0, 0, 2]);
  return builder.payload(new Uint8Array(pick(random, [0, 1, 10, 100, 500, 1200]))).build();
}

function randomConditions(random: Random, family: Family): string {
  const parts: string[] = [];
  const often = (percent: number): boolean => random(100) < percent;
  const not = (): string => (random(family.negatedIn) === 0 ? '! ' : '');
  const protocol = pick(random, [null, 'tcp', 'tcp', 'udp', 'udp', family.icmp, 'sctp', '47']);
  if (often(40)) parts.push(`${not()}-s ${pick(random, family.prefixes)}`);
  if (often(10)) parts.push(`${not()}-d ${pick(random, family.hosts)}`);
  if (protocol !== null) parts.push(`${protocol === '47' ? not() : ''}-p ${protocol}`);
  if (protocol === 'tcp' || protocol === 'udp' || protocol === 'sctp') {
    const lists = ['80,443', '53,1:22', '1,22,53,80,123', '1024:65535'];
    if (often(50)) {
      const range = pick(random, ['80', '53', '1:1024', '1024:', '22', '5000:65535', ':443']);
      parts.push(`${not()}${pick(random, ['--sport', '--dport'])} ${range}`);
    } else if (protocol !== 'sctp' && often(40)) {
      parts.push(`-m multiport ${not()}${pick(random, ['--sports', '--dports', '--ports'])} ${pick(random, lists)}`);
    }
  }
  if (protocol === 'tcp' && often(40)) parts.push(`${not()}${pick(random, TCP_FLAGS)}`);
  if (protocol === family.icmp && often(70)) {
    parts.push(`${not()}${family.icmpOption} ${pick(random, family.icmpTypes)}`);
  }
  if (often(20)) parts.push(`-m length ${not()}--length ${pick(random, ['0:100', '28', '100:1500', '500:', '60'])}`);
  if (often(20)) parts.push(pick(random, family.hops));
  if (often(15)) parts.push(`-m iprange ${not()}--src-range ${family.range}`);
  return parts.join(' ');
}

/** The rule that every packet meets first. */
export const FIRST = 'first';

/** A table filter whose INPUT has up to 20 rules; in half of them a jump to a chain of its own. */
export function randomTable(random: Random, family: Family): string {
  let number = 0;
  const rule = (chain: string, conditions: string, targets: readonly string[]): string =>
    `-A ${chain} ${conditions} -m comment --comment r${number++}${pick(random, targets)}`;
  const verdicts = [' -j DROP', ' -j DROP', ' -j ACCEPT', ''];
  const input = Array.from({ length: pick(random, [5, 10, 20]) }, () =>
    rule('INPUT', randomConditions(random, family), verdicts),
  );
  const inner: string[] = [];
  if (random(2) === 0) {
    input.splice(random(input.length), 0, `-A INPUT -s ${family.prefixes[0]} -p tcp -j INNER`);
    const conditions = ['-p tcp --dport 80', '-p tcp --sport 22', '', '-p tcp --syn'];
    for (let i = 0; i < 3; i++) inner.push(rule('INNER', pick(random, conditions), [' -j DROP', ' -j ACCEPT', '']));
    if (random(2) === 0) inner.push('-A INNER -j RETURN');
  }
  const head = ['*filter', `:INPUT ${pick(random, ['ACCEPT', 'ACCEPT', 'DROP'])} [0:0]`, ':INNER - [0:0]'];
  return [...head, `-A INPUT -m comment --comment ${FIRST}`, ...input, ...inner, 'COMMIT\n'].join('\n');
}

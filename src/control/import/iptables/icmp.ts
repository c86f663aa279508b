/** ICMP types as pcap-filter expressions. */

/** Names that iptables takes for `--icmp-type` (extensions/libxt_icmp.h); iptables-save writes numbers. */
const TYPES4: Readonly<Record<string, string>> = {
  'echo-reply': '0',
  pong: '0',
  'destination-unreachable': '3',
  'network-unreachable': '3/0',
  'host-unreachable': '3/1',
  'protocol-unreachable': '3/2',
  'port-unreachable': '3/3',
  'fragmentation-needed': '3/4',
  'source-quench': '4',
  redirect: '5',
  'echo-request': '8',
  ping: '8',
  'router-advertisement': '9',
  'router-solicitation': '10',
  'time-exceeded': '11',
  'ttl-exceeded': '11',
  'parameter-problem': '12',
  'timestamp-request': '13',
  'timestamp-reply': '14',
};

const TYPES6: Readonly<Record<string, string>> = {
  'destination-unreachable': '1',
  'packet-too-big': '2',
  'time-exceeded': '3',
  'parameter-problem': '4',
  'echo-request': '128',
  'echo-reply': '129',
  'router-solicitation': '133',
  'router-advertisement': '134',
  'neighbour-solicitation': '135',
  'neighbor-solicitation': '135',
  'neighbour-advertisement': '136',
  'neighbor-advertisement': '136',
};

/** An expression for "8", "3/4" or a name; '' for any type; null for what is none. IPv6 extension headers are not looked behind. */
export function icmpExpression(family: 4 | 6, text: string, negated: boolean): string | null {
  // 255 is what the kernel takes for "any" (net/ipv4/netfilter/ip_tables.c, icmp_type_code_match).
  if (family === 4 && (text === 'any' || text === '255')) return negated ? null : '';
  const names = family === 4 ? TYPES4 : TYPES6;
  const match = /^(\d{1,3})(?:\/(\d{1,3}))?$/.exec(Object.hasOwn(names, text) ? names[text] : text);
  if (match === null || Number(match[1]) > 255 || Number(match[2] ?? 0) > 255) return null;
  const at = family === 4 ? ['icmp[0]', 'icmp[1]'] : ['ip6[40]', 'ip6[41]'];
  const [type, code] = [Number(match[1]), match[2] === undefined ? null : Number(match[2])];
  const relation = negated ? '!=' : '=';
  const parts = [`${at[0]} ${relation} ${type}`];
  if (code !== null) parts.push(`${at[1]} ${relation} ${code}`);
  const expression = parts.length === 1 ? parts[0] : `(${parts.join(negated ? ' or ' : ' and ')})`;
  return family === 4 ? expression : `icmp6 and ${expression}`;
}

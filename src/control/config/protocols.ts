/** IP protocols by name (IANA's "Assigned Internet Protocol Numbers"), as far as a configuration may want to name them. */
export const PROTOCOLS: ReadonlyMap<string, number> = new Map([
  ['tcp', 6],
  ['udp', 17],
  ['icmp', 1],
  ['icmpv6', 58],
  ['sctp', 132],
  ['dccp', 33],
  ['udplite', 136],
  ['gre', 47],
  ['esp', 50],
  ['ah', 51],
  ['ipip', 4],
  ['ipv6', 41],
]);

/** Protocols whose header starts with a source and a destination port; as PacketFlag.hasPorts has it. */
const WITH_PORTS: ReadonlySet<number> = new Set([6, 17, 33, 132, 136]);

/** 1 to 255 from a name or a number; null for anything else. 0 is IPv6's hop-by-hop header, no protocol of a packet. */
export function protocolNumber(raw: unknown): number | null {
  if (typeof raw === 'string') {
    const named = PROTOCOLS.get(raw.toLowerCase());
    if (named !== undefined) return named;
  }
  const number = typeof raw === 'string' && /^\d{1,3}$/.test(raw) ? Number(raw) : raw;
  return typeof number === 'number' && Number.isInteger(number) && number >= 1 && number <= 255 ? number : null;
}

/** "tcp", or the number as text when it has no name here. */
export function protocolName(number: number): string {
  for (const [name, value] of PROTOCOLS) if (value === number) return name;
  return String(number);
}

export function hasPorts(protocol: number): boolean {
  return WITH_PORTS.has(protocol);
}

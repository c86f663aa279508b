import type { PortRange } from '../../../shared/config.js';

/**
 * net.ipv4.ip_local_reserved_ports with a range added: ports that the kernel gives to nobody by itself. Binding to one by number
 * works (ip-sysctl.rst).
 */
export function withReserved(reserved: string, { first, last }: PortRange): string {
  const ranges = reserved.split(',').flatMap((part): PortRange[] => {
    const match = /^(\d+)(?:-(\d+))?$/.exec(part.trim());
    return match === null ? [] : [{ first: Number(match[1]), last: Number(match[2] ?? match[1]) }];
  });
  ranges.push({ first, last });
  ranges.sort((a, b) => a.first - b.first);
  const merged: PortRange[] = [];
  for (const range of ranges) {
    const before = merged.at(-1);
    if (before !== undefined && range.first <= before.last + 1) before.last = Math.max(before.last, range.last);
    else merged.push({ ...range });
  }
  // As the kernel prints it (proc_do_large_bitmap), so that it can be compared.
  return merged
    .map((range) => (range.first === range.last ? `${range.first}` : `${range.first}-${range.last}`))
    .join(',');
}

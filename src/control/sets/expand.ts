/** The single entries that an element stands for, as ipset makes them when it is added. */
import type { Words } from '../../shared/addr.js';
import type { Element } from './element_text.js';

/** Receives address and scope (see RecordField); `words` is used again for the next. */
export type Entry = (words: readonly [number, number, number, number], scope: number) => void;

/**
 * Hosts (hash:ip, hash:ip,port): each address of a range or prefix, cut to `mask`, each once; with each port, ports innermost. Networks: a range is cut into
 * the fewest prefixes, first to last. `entry` ends the walk by throwing.
 */
export function expand(element: Element, isNet: boolean, mask: Words, entry: Entry): void {
  const { family, words, length, protocol, firstPort, lastPort } = element;
  const withPorts = (address: readonly [number, number, number, number], bits: number): void => {
    for (let port = firstPort; port <= lastPort; port++) entry(address, (bits << 24) | (protocol << 16) | port);
  };
  if (family === 6) {
    withPorts([words[0] & mask[0], words[1] & mask[1], words[2] & mask[2], words[3] & mask[3]], isNet ? length : 128);
    return;
  }
  const first = words[0] >>> 0;
  const last = element.last === null ? first + 2 ** (32 - length) - 1 : element.last >>> 0;
  if (!isNet) hosts(first, last, mask[0], (address) => withPorts([address, 0, 0, 0], 32));
  else if (element.last === null) withPorts(words, length);
  else prefixesOf(first, last, (address, bits) => withPorts([address, 0, 0, 0], bits));
}

/** Each masked address once. `first`, `last`: unsigned. */
function hosts(first: number, last: number, mask: number, each: (address: number) => void): void {
  // Addresses that differ only behind the mask's last bit are one: step over them.
  const step = (mask & -mask) >>> 0;
  let before: number | null = null;
  for (let at = first - (first % step); at <= last; at += step) {
    const address = (at & mask) | 0;
    if (address !== before) each(address);
    before = address;
  }
}

/** The fewest prefixes that make up a range, in its order; ends unsigned and included. */
export function prefixesOf(first: number, last: number, each: (address: number, length: number) => void): void {
  for (let at = first; at <= last;) {
    // The largest block that begins here and ends in the range.
    let length = at === 0 ? 0 : 32 - Math.log2((at & -at) >>> 0);
    while (at + 2 ** (32 - length) - 1 > last) length++;
    each(at | 0, length);
    at += 2 ** (32 - length);
  }
}

/** Tables that packets' addresses and ids are looked up in. */
import { buildLpm, type LpmEntry } from '../../src/shared/lpm.js';
import { buildServerIds, findServerId, parseServerId } from '../../src/shared/server_ids.js';
import { count, sequence, sumOf, type BuildCase, type Sizes } from './cases.js';

const BACKENDS = 1000;

export function* lookUpCases({ prefixes, serverIds }: Sizes): Generator<BuildCase<Int32Array>> {
  for (const family of [4, 6] as const) {
    const entries = routes(prefixes, family);
    const name = `source routes, ${count(prefixes)} prefixes of IPv${family}`;
    yield { name, build: () => buildLpm(entries, family), check: sumOf };
  }
  const entries = Array.from({ length: serverIds }, (_, position) => {
    return { id: parseServerId(position + 1), position, owner: `backend ${position}` };
  });
  const check = (table: Int32Array): number => {
    for (const { position } of entries) {
      if (findServerId(table, 0, position + 1, 0, 0, 0) !== position)
        throw new Error(`server id ${position + 1} is not there`);
    }
    return sumOf(table);
  };
  yield { name: `server ids, ${count(serverIds)}`, build: () => buildServerIds(entries), check };
}

/** Lengths as in a routing table: mostly /24 of IPv4, /48 of IPv6, some shorter. */
function routes(prefixes: number, family: 4 | 6): LpmEntry[] {
  const next = sequence();
  return Array.from({ length: prefixes }, (_, i) => {
    const shorter = Math.max(0, (next() & 15) - 7);
    const words = family === 4 ? [next()] : [0x20010000 | (next() & 0xffff), next(), 0, 0];
    return { words, length: (family === 4 ? 24 : 48) - shorter, value: i % BACKENDS };
  });
}

/** The tables that give each slot its backends: Maglev, Katran's, and chains by rendezvous hashing. */
import { buildKatranRing } from '../../src/control/katran_ring.js';
import { buildRing } from '../../src/control/maglev_build.js';
import { buildRendezvous } from '../../src/control/rendezvous.js';
import { parseAddress } from '../../src/shared/addr.js';
import { count, sumOf, type BuildCase, type Sizes } from './cases.js';

type Ring = Uint16Array | null;

const HOPS = 2;

function* addresses(backends: number) {
  for (let i = 0; i < backends; i++) yield parseAddress(`10.1.${i >> 8}.${i & 255}`);
}

export function* ringCases({ slots, backends }: Sizes): Generator<BuildCase<Ring>> {
  for (const number of backends) {
    const keyed = [...addresses(number)].map(({ text }) => ({ key: text, weight: 1 }));
    yield ringCase('Maglev ring', slots, number, 1, () => buildRing(keyed, slots));
  }
  for (const version of [1, 2] as const) {
    for (const number of backends) {
      const reals = [...addresses(number)].map((address, id) => ({ address, weight: 1, id }));
      yield ringCase(`Katran's ring, v${version}`, slots, number, 1, () => buildKatranRing(reals, slots, version));
    }
  }
  for (const number of backends) {
    const ranked = [...addresses(number)].map((address) => ({ address, weight: 1, state: 'active' as const }));
    yield ringCase(`rendezvous chains of ${HOPS}`, slots, number, HOPS, () => {
      return buildRendezvous(ranked, { rows: slots, hops: HOPS })?.rows ?? null;
    });
  }
}

function ringCase(kind: string, slots: number, backends: number, hops: number, build: () => Ring): BuildCase<Ring> {
  const name = `${kind}, ${count(slots)} slots, ${count(backends)} backends`;
  const check = (ring: Ring): number => {
    if (ring?.length !== slots * hops) throw new Error(`${name}: ${ring?.length ?? 'no'} entries`);
    const used = new Set(ring);
    if (used.size !== backends || Math.max(...used) !== backends - 1) throw new Error(`${name}: ${used.size} backends`);
    return sumOf(ring);
  };
  return { name, build, check };
}

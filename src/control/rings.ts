/**
 * The rings of all services: which backend each slot leads to. A ring is built once for all services whose backends, weights
 * and kind are equal, and taken over from the build before where it is the same.
 */
import type { ServiceConfig } from '../shared/config.js';
import { NO_HOP } from '../shared/layout.js';
import { buildKatranRing } from './katran_ring.js';
import { buildRing, type RingBackend } from './maglev_build.js';
import type { RingView } from './maglev_movement.js';
import { buildRendezvous } from './rendezvous.js';
import type { ServicePlan } from './service_plan.js';

export interface Rings {
  /** As Tables.rings. */
  list: SharedArrayBuffer[];
  /** By position in the plans: index into `list`, -1 without a ring. */
  indexes: number[];
  /** By name of the service. */
  views: ReadonlyMap<string, RingView>;
}

type Ring = SharedArrayBuffer | null;

/** Rows of GLB Director's tables, whatever the ring size says. */
const GLB_ROWS = 65536;

export class RingShelf {
  /** Rings of the last build by their content. */
  #shelf: ReadonlyMap<string, Ring> = new Map();

  /** Rings for these services. The former ones stay on the shelf until `keep` says that the build stands. */
  build(plans: readonly ServicePlan[]): Rings & { keep(): void } {
    const shelf = new Map<string, Ring>();
    const indexOf = new Map<Ring, number>([[null, -1]]);
    const list: SharedArrayBuffer[] = [];
    const indexes: number[] = [];
    const views = new Map<string, RingView>();
    for (const plan of plans) {
      const content = contentOf(plan);
      let ring = shelf.get(content) ?? this.#shelf.get(content);
      if (ring === undefined) ring = shared(ringOf(plan));
      shelf.set(content, ring);
      let index = indexOf.get(ring);
      if (index === undefined) {
        index = list.push(ring!) - 1;
        indexOf.set(ring, index);
      }
      indexes.push(index);
      views.set(plan.service.name, viewOf(ring, plan));
    }
    return {
      list,
      indexes,
      views,
      keep: () => {
        this.#shelf = shelf;
      },
    };
  }
}

/** Slots of a service's ring. */
export function slotsOf(service: ServiceConfig): number {
  return service.hash === 'glb' ? GLB_ROWS : service.ringSize;
}

/** Whether slots hold a chain of backends in rendezvous order, rather than one backend by Maglev. */
export function hasChains(service: ServiceConfig): boolean {
  return service.hops > 1 || service.hash === 'glb';
}

/** All that a ring depends on, as text. */
function contentOf({ service, backends }: ServicePlan): string {
  const chains = hasChains(service);
  const kind = `${service.hash} ${slotsOf(service)} ${service.hops} ${seedOf(service)?.join(',') ?? ''}`;
  const entries = backends.map(({ ring, state, weight }) =>
    chains ? `${ring.key}=${state}:${weight}` : `${ring.key}=${ring.weight}`,
  );
  return `${kind};${entries.join(';')}`;
}

/** GLB's seed of the rows; null for sluice's own scores. */
function seedOf({ hash, glb }: ServiceConfig): Uint8Array | null {
  if (hash !== 'glb') return null;
  return Uint8Array.from(glb?.seed ?? new Array<number>(16).fill(0));
}

function ringOf({ service, backends }: ServicePlan): Uint16Array | null {
  if (hasChains(service)) {
    const members = backends.map(({ backend, state, weight }) => ({ address: backend.address, weight, state }));
    const seed = seedOf(service);
    const options = { rows: slotsOf(service), hops: service.hops };
    return buildRendezvous(members, seed === null ? options : { ...options, glbSeed: seed })?.rows ?? null;
  }
  if (service.hash === 'sluice') {
    return buildRing(
      backends.map(({ ring }) => ring),
      service.ringSize,
    );
  }
  const members = backends.map(({ backend, ring }, id) => ({ address: backend.address, weight: ring.weight, id }));
  return buildKatranRing(members, service.ringSize, service.hash === 'katran' ? 1 : 2);
}

function shared(ring: Uint16Array | null): Ring {
  if (!ring) return null;
  const buffer = new SharedArrayBuffer(ring.byteLength);
  new Uint16Array(buffer).set(ring);
  return buffer;
}

/** First backends of the slots: those that new flows go to. */
function viewOf(ring: Ring, { service, backends }: ServicePlan): RingView {
  const ringBackends: RingBackend[] = backends.map((entry) => entry.ring);
  if (ring === null) return { ring: null, backends: ringBackends };
  const entries = new Uint16Array(ring);
  if (service.hops === 1) return { ring: entries, backends: ringBackends };
  const first = entries.filter((entry, i) => i % service.hops === 0 && entry !== NO_HOP);
  return { ring: first, backends: ringBackends };
}

/** Forwarding tables of GLB Director as services of sluice: same rows, same hash, same chain of two. */
import type { DraftBackend, DraftService, Notes } from './draft.js';
import { glbBinds, type Claims, type GlbBind } from './glb_binds.js';
import type { GlbDirector } from './glb_director.js';
import { glbHealth, type GlbTimes } from './glb_health.js';
import type { Part } from './glb_parts.js';
import { cut } from './options.js';
import { Unreadable, backendOf, nameFrom } from './places.js';

export class GlbTables {
  readonly services: DraftService[] = [];
  readonly #names = new Set<string>();
  readonly #claims: Claims = new Map();

  constructor(
    private readonly director: GlbDirector,
    private readonly notes: Notes,
  ) {}

  /** Adds a service for each address and protocol of the table. */
  add(table: Part, times: GlbTimes): void {
    const { director, notes } = this;
    const binds = glbBinds(table, this.#claims, notes);
    const parts = table.children('backends', notes);
    const backends = this.#backends(table, parts, binds);
    const keys = this.#keys(table);
    const mixed = new Set(backends.map(({ address }) => address.includes(':'))).size > 1;
    if (mixed) {
      notes.lost(
        table.place('backends'),
        'a second hop between address families',
        'Here hops is 1. Make a service for each family.',
      );
    }
    const given = typeof table.json.name === 'string' && table.json.name !== '' ? table.json.name : 'glb';
    for (const { vip, protocol, ports } of binds) {
      // Through the tunnel it is the service's own port that can be checked.
      const health = glbHealth(parts, ports, times, notes);
      this.services.push({
        name: nameFrom(binds.length === 1 ? given : `${given}-${protocol}-${vip}`, this.#names),
        vip,
        port: ports,
        protocol,
        // Directors remember no flows: what a backend does not know, the second hop does.
        flow_table: false,
        hash: 'glb',
        ...(director.fields && { hash_fields: director.fields }),
        ...(keys && { glb: keys }),
        hops: mixed ? 1 : 2,
        ...(health && { health }),
        backends,
      });
    }
  }

  #keys({ json, place }: Part): DraftService['glb'] | null {
    const hex = (key: string): string | null => {
      const value = json[key];
      if (typeof value === 'string' && /^[0-9a-f]{32}$/i.test(value)) return value;
      this.notes.lost(
        place(key),
        `${key} is not 32 hex digits`,
        'Without both keys, key and seed are sluice’s, and flows go elsewhere than with GLB.',
      );
      return null;
    };
    const hashKey = hex('hash_key');
    const seed = hex('seed');
    return hashKey === null || seed === null ? null : { hash_key: hashKey, seed };
  }

  #backends(table: Part, parts: readonly Part[], binds: readonly GlbBind[]): DraftBackend[] {
    const backends: DraftBackend[] = [];
    for (const part of parts) {
      try {
        const { ip } = part.json;
        if (typeof ip !== 'string') throw new Unreadable('a backend has no "ip"');
        const address = backendOf(ip).text;
        if (backends.some((other) => other.address === address)) throw new Unreadable(`${address} is there twice`);
        if (binds.some(({ vip }) => vip === address)) throw new Unreadable(`${address} is a VIP of its own table`);
        const state = this.#state(part, address);
        backends.push({ address, ...(state && { state }) });
      } catch (error) {
        if (!(error instanceof Unreadable)) throw error;
        this.notes.lost(part.place('ip'), error.message, error.remedy);
      }
    }
    const waiting = backends.filter(({ state }) => state !== undefined).length;
    if (waiting > 1) {
      this.notes.changed(
        table.place('backends'),
        `${waiting} backends are not active, and GLB’s rows are made for one at a time: they differ from these`,
        'Bring all but one back before directors and sluice serve side by side.',
      );
    }
    return backends;
  }

  /** `filling` is active in all but name. */
  #state({ json, place }: Part, address: string): DraftBackend['state'] {
    const { state, healthy } = json;
    if (state === 'draining' || state === 'inactive') return state;
    if (state !== 'active' && state !== 'filling') {
      this.notes.lost(
        place('state'),
        `${cut(JSON.stringify(state) ?? 'nothing')} is not a state`,
        'Here the backend is active.',
      );
    }
    if (healthy !== false) return undefined;
    this.notes.changed(
      place('healthy'),
      `${address} is not healthy in the table, so here it is draining`,
      'Make it active when the service has a health check, which sluice makes itself.',
    );
    return 'draining';
  }
}

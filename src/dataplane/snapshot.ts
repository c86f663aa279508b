import {
  HashField,
  LAYOUT_VERSION,
  ServiceField,
  ServiceFlag,
  type DataPlaneSettings,
  type Tables,
} from '../shared/layout.js';
import { buildEgress } from './balance/egress.js';
import { GlbField, GlbHash } from './balance/glb_hash.js';
import { FlowHash } from './balance/hash.js';
import { ServiceTable } from './balance/service_table.js';
import { Steering } from './balance/steer.js';
import { DecapRules } from './packet/decap_rules.js';

/**
 * A worker's read-only views on one published set of tables. Made when a generation is adopted, then immutable; policy
 * code holds it for at most one burst.
 */
export class Snapshot {
  readonly generation: number;
  readonly serviceTable: ServiceTable;
  readonly services: Int32Array;
  readonly backendList: Int32Array;
  readonly rings: readonly Uint16Array[];
  readonly backends: Int32Array;
  /** By backend, laid out for the path; see Egress. */
  readonly egress: Int32Array;
  readonly settings: DataPlaneSettings;
  readonly ringHash: FlowHash;
  /** Encapsulated packets that are opened before they are balanced. */
  readonly decap: DecapRules;
  /** What packets say of their backend. */
  readonly steering: Steering;
  /** By ServiceField.glbKey. */
  readonly glbHashes: readonly GlbHash[];

  constructor(tables: Tables) {
    if (tables.version !== LAYOUT_VERSION) {
      throw new Error(`tables have layout ${tables.version}, this worker reads ${LAYOUT_VERSION}: restart sluice`);
    }
    this.generation = tables.generation;
    this.serviceTable = new ServiceTable(tables);
    this.services = new Int32Array(tables.services);
    this.backendList = new Int32Array(tables.backendList);
    this.rings = tables.rings.map((ring) => new Uint16Array(ring));
    this.backends = new Int32Array(tables.backends);
    this.egress = buildEgress(this.backends, this.services);
    this.settings = tables.settings;
    this.ringHash = new FlowHash(tables.settings.hashKey);
    this.decap = new DecapRules(tables.settings.decapsulate);
    this.steering = new Steering(tables);
    this.glbHashes = glbHashes(tables.glbKeys, this.services);
  }
}

/** A hash for each key; its fields are those of the service that has the key. */
function glbHashes(keys: readonly number[][], services: Int32Array): GlbHash[] {
  const hashes: GlbHash[] = [];
  for (let record = 0; record < services.length; record += ServiceField.STRIDE) {
    const flags = services[record + ServiceField.flags];
    if ((flags & ServiceFlag.glbHash) === 0) continue;
    const fields = services[record + ServiceField.hashFields];
    const key = services[record + ServiceField.glbKey];
    hashes[key] = new GlbHash(bytesOf(keys[key]), glbFields(fields));
  }
  return hashes;
}

function bytesOf(words: readonly number[]): Uint8Array {
  const view = new DataView(new ArrayBuffer(words.length * 4));
  words.forEach((word, i) => view.setInt32(i * 4, word));
  return new Uint8Array(view.buffer);
}

function glbFields(fields: number): number {
  return (
    ((fields & HashField.src) !== 0 ? GlbField.sourceAddress : 0) |
    ((fields & HashField.dst) !== 0 ? GlbField.destinationAddress : 0) |
    ((fields & HashField.sport) !== 0 ? GlbField.sourcePort : 0) |
    ((fields & HashField.dport) !== 0 ? GlbField.destinationPort : 0)
  );
}

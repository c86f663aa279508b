import { LAYOUT_VERSION, type DataPlaneSettings, type Tables } from '../shared/layout.js';
import { buildEgress } from './balance/egress.js';
import { FlowHash } from './balance/hash.js';
import { ServiceTable } from './balance/service_table.js';

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
  readonly rules: Int32Array;
  readonly settings: DataPlaneSettings;
  readonly ringHash: FlowHash;

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
    this.egress = buildEgress(this.backends);
    this.rules = new Int32Array(tables.rules);
    this.settings = tables.settings;
    this.ringHash = new FlowHash(tables.settings.hashKey);
  }
}

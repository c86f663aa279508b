/**
 * From configuration and what is known of the network to the tables that the data plane reads (layout.ts). A build makes
 * a new generation and reuses every part that came out the same, as the same SharedArrayBuffer, so that workers and caches see
 * only what changed. Tables handed out are never written again.
 */
import { SluiceError } from '../errors.js';
import type { BackendConfig, BackendState, Config, FilterConfig, ServiceConfig } from '../shared/config.js';
import {
  BackendField,
  BackendFlag,
  LAYOUT_VERSION,
  MAX_FILTERS,
  MAX_PORTS,
  type DataPlaneSettings,
  type FilterSpec,
  type Tables,
} from '../shared/layout.js';
import { writeBackendRecord } from './backend_records.js';
import type { RingView } from './maglev_movement.js';
import { limitRules, MitigationShelf } from './mitigation/shelf.js';
import { outerSource } from './outer_source.js';
import type { Numbers, Registry } from './registry.js';
import { RingShelf } from './rings.js';
import type { NextHop } from './routes.js';
import { SampleShelf } from './rule_samples.js';
import { SetShelf, type SetStock } from './set_tables.js';
import { RuleShelf } from './rule_tables.js';
import { buildServiceKeys } from './service_keys.js';
import { planService, type BackendOverride, type ServicePlan } from './service_plan.js';
import { serviceRecords } from './service_records.js';

export interface PublishPort {
  /** Interface name. */
  name: string;
  /** Port number: position in every worker's port list. */
  index: number;
  /** Repair L4 checksums of what comes in here. */
  repairChecksum: boolean;
}

export interface PublishState {
  /** By canonical text of the backend's address. */
  nextHops: ReadonlyMap<string, NextHop>;
  /** By `backendKey(service name, address text)`. */
  overrides: ReadonlyMap<string, BackendOverride>;
  /** By `backendKey`: backends that health checks take out, and why; none when left out. */
  down?: ReadonlyMap<string, string>;
  ports: readonly PublishPort[];
  /** Sets in force; none when left out. */
  sets?: SetStock;
  /** Numbers of all workers, ascending; left out: one, number 0. */
  workers?: readonly number[];
}

export interface PublisherOptions {
  registry: Registry;
  /** URL to import a filter module from, by the path that the config gives; may throw. */
  resolveModule: (path: string) => string;
}

type Part = 'serviceKeys' | 'services' | 'backendList' | 'backends';

const NONE_DOWN: ReadonlyMap<string, string> = new Map();

export class Publisher {
  readonly #registry: Registry;
  readonly #resolveModule: (path: string) => string;
  #last: Tables | null = null;
  #numbers: Numbers;
  readonly #rings = new RingShelf();
  readonly #rules = new RuleShelf();
  readonly #samples = new SampleShelf();
  readonly #sets = new SetShelf();
  readonly #mitigation = new MitigationShelf();
  /** Tables handed out, by the words that they were made from. */
  #shared: WeakMap<Int32Array, SharedArrayBuffer> = new WeakMap();
  #views: ReadonlyMap<string, RingView> = new Map();
  #plans: readonly ServicePlan[] = [];
  #warnings: readonly string[] = [];

  constructor({ registry, resolveModule }: PublisherOptions) {
    this.#registry = registry;
    this.#resolveModule = resolveModule;
    this.#numbers = registry.numbers();
  }

  /** What was built last; null before the first build. */
  get tables(): Tables | null {
    return this.#last;
  }

  /** Numbers of services, backends (by `backendKey`) and rules in the tables built last. */
  get numbers(): Numbers {
    return this.#numbers;
  }

  /** Why backends of the tables built last cannot be reached, a sentence each; [] when all can. */
  get warnings(): readonly string[] {
    return this.#warnings;
  }

  /** Services with their backends as of the tables built last. */
  get plans(): readonly ServicePlan[] {
    return this.#plans;
  }

  /** A service's ring and the backends that it refers to, as built last; undefined for a service that is not there. */
  ring(service: string): RingView | undefined {
    return this.#views.get(service);
  }

  /**
   * Builds the next generation. All or nothing: when it throws, the last one stands.
   *
   * A backend is in its service's ring when it is active with a weight. Draining ones, and those of weight 0, keep the flows they have;
   * inactive ones lose them. One without a next hop stays in the ring: its share of flows is dropped and counted as no_next_hop, and
   * everybody else's flows stay where they are.
   *
   * @throws SluiceError SLUICE_CONFIG for what the tables cannot hold: too many of something, two services on one key
   */
  build(config: Config, state: PublishState): Tables {
    if (state.ports.some(({ index }) => index < 0 || index >= MAX_PORTS)) {
      throw new SluiceError('SLUICE_CONFIG', `too many ports: the limit is ${MAX_PORTS} a worker`);
    }
    const filters = config.filters.map((filter) => this.#filterSpec(filter));
    if (filters.length > MAX_FILTERS) {
      throw new SluiceError('SLUICE_CONFIG', `too many filters: ${filters.length}, the limit is ${MAX_FILTERS}`);
    }
    const settings = settingsOf(config, state.ports);
    const plans = config.services.map((service) => planService(service, state.overrides, state.down ?? NONE_DOWN));
    const assignment = this.#registry.plan({
      services: config.services.map(({ name }) => name),
      backends: plans.flatMap(({ backends }) => backends.map(({ id }) => id)),
      rules: [...config.rules, ...limitRules(config)].map(({ name }) => name),
    });
    const numbers = assignment.numbers;

    const keys = buildServiceKeys(config.services, (name) => numbers.services.get(name)!.number);
    const ruleNumber = (name: string): number => numbers.rules.get(name)!.number;
    const workers = state.workers ?? [0];
    const generation = (this.#last?.generation ?? 0) + 1;
    this.#mitigation.begin(workers);
    const sets = this.#sets.build(state.sets, config, workers, generation);
    const rules = this.#rules.build(config.rules, ruleNumber, {
      ...this.#samples.parts(config.rules),
      ...this.#mitigation.ruleParts(config.rules),
      ...sets.parts,
      decides: config.offload !== 'off',
    });
    const rings = this.#rings.build(plans);
    const records = serviceRecords(plans, numbers, rings.indexes, config.hashKey);
    const { backends, warnings } = backendRecords(plans, numbers, state);

    const tables: Tables = {
      version: LAYOUT_VERSION,
      generation,
      serviceKeys: this.#part('serviceKeys', keys.words),
      services: this.#part('services', records.services),
      backendList: this.#part('backendList', records.backendList),
      rings: rings.list,
      backends: this.#part('backends', backends),
      ...rules,
      ...sets.tables,
      mitigation: this.#mitigation.tables(config, ruleNumber, sets.parts),
      serverIds: records.serverIds.map((words, i) => this.#same(this.#last?.serverIds[i], words)),
      sourceRoutes: records.sourceRoutes.map(({ ipv4, ipv6 }) => ({
        ipv4: ipv4 && this.#once(ipv4),
        ipv6: ipv6 && this.#once(ipv6),
      })),
      quic: records.quic,
      glbKeys: records.glbKeys,
      prefixLengths4: keys.lengths4,
      prefixLengths6: keys.lengths6,
      filters,
      settings,
    };
    assignment.commit();
    this.#last = tables;
    this.#numbers = numbers;
    rings.keep();
    this.#views = rings.views;
    this.#plans = plans;
    this.#warnings = warnings;
    return tables;
  }

  #filterSpec(filter: FilterConfig): FilterSpec {
    if (filter.kind !== 'module') return filter;
    return { kind: 'module', name: filter.name, url: this.#resolveModule(filter.path), options: filter.options };
  }

  #part(part: Part, words: Int32Array): SharedArrayBuffer {
    return this.#same(this.#last?.[part], words);
  }

  /** These words in shared memory: `before` when it holds the same. */
  #same(before: SharedArrayBuffer | undefined, words: Int32Array): SharedArrayBuffer {
    if (before && before.byteLength === words.byteLength && Buffer.compare(bytesOf(before), bytesOf(words)) === 0) {
      return before;
    }
    return sharedWords(words);
  }

  /** The same for tables that are too large to compare: made anew only when the words are another array. */
  #once(words: Int32Array): SharedArrayBuffer {
    let shared = this.#shared.get(words);
    if (!shared) this.#shared.set(words, (shared = sharedWords(words)));
    return shared;
  }
}

function sharedWords(words: Int32Array): SharedArrayBuffer {
  const shared = new SharedArrayBuffer(words.byteLength);
  new Int32Array(shared).set(words);
  return shared;
}

function bytesOf(words: Int32Array | SharedArrayBuffer): Buffer {
  return words instanceof Int32Array
    ? Buffer.from(words.buffer, words.byteOffset, words.byteLength)
    : Buffer.from(words);
}

function settingsOf(config: Config, ports: readonly PublishPort[]): DataPlaneSettings {
  const repairChecksums: boolean[] = [];
  for (const { index, repairChecksum } of ports) repairChecksums[index] = repairChecksum;
  return {
    hashKey: [...config.hashKey],
    maxNewFlowsPerSecond: config.flows.maxNewPerSecond,
    timeouts: { ...config.flows.timeouts },
    repairChecksums: Array.from(repairChecksums, (repair) => repair ?? false),
    icmp: { ...config.icmp },
    fragments: { ...config.fragments },
    decapsulate: {
      addresses: config.decapsulate.addresses.map(({ family, words }) => ({ family, words: [...words] })),
      sources: config.decapsulate.sources.map(({ family, words, length }) => ({ family, words: [...words], length })),
      guePorts: [...config.decapsulate.guePorts],
    },
  };
}

/** Room for the highest number in use. */
function tableFor(numbers: Numbers['services'], stride: number): Int32Array {
  let records = 0;
  for (const { number } of numbers.values()) records = Math.max(records, number + 1);
  return new Int32Array(records * stride);
}

function backendRecords(plans: readonly ServicePlan[], numbers: Numbers, state: PublishState) {
  const backends = tableFor(numbers.backends, BackendField.STRIDE);
  const portByName = new Map(state.ports.map(({ name, index }) => [name, index]));
  const warnings = new Set<string>();
  for (const { service, backends: planned } of plans) {
    const number = numbers.services.get(service.name)!.number;
    const { encapsulation } = service;
    const katran = service.hash === 'katran' || service.hash === 'katran-v2';
    for (const { id, backend, state: backendState } of planned) {
      const { address } = backend;
      const mine = numbers.backends.get(id)!;
      const nextHop = state.nextHops.get(address.text) ?? null;
      const port = nextHop ? (portByName.get(nextHop.interface) ?? -1) : -1;
      const source = outerSource(encapsulation, katran, address, nextHop);
      const problem =
        encapsulation.kind === 'l2'
          ? problemOnLink(address.text, nextHop, port)
          : problemOf(address.text, nextHop, port, source !== null);
      if (problem) warnings.add(problem);
      writeBackendRecord(backends, mine.number, {
        flags: flagsOf(backendState) | serviceFlagsOf(service, backendState),
        incarnation: mine.incarnation,
        service: number,
        port,
        address,
        encapsulation,
        katran,
        source,
        nextHop,
      });
    }
  }
  return { backends, warnings: [...warnings] };
}

/** Weight is the ring's affair: a backend of weight 0 takes what names it, and what source prefixes send to it. */
function flagsOf(state: BackendConfig['state']): number {
  if (state === 'inactive') return BackendFlag.valid;
  return BackendFlag.valid | (state === 'active' ? BackendFlag.active : BackendFlag.draining);
}

/** As problemOf, of a backend that gets packets without an outer header. */
function problemOnLink(address: string, nextHop: NextHop | null, port: number): string | null {
  if (nextHop && !nextHop.error && nextHop.gateway !== null) {
    return `backend ${address} is behind the router ${nextHop.gateway}: encapsulation l2 reaches only hosts on the link`;
  }
  return problemOf(address, nextHop, port, true);
}

/** What a backend's record says for its service: how packets to it are treated on the way. */
function serviceFlagsOf(service: ServiceConfig, state: BackendState): number {
  let flags = 0;
  if (service.quic !== null || service.tcpServerId || service.stableUdp) {
    flags |= BackendFlag.steered | BackendFlag.special;
  }
  if (service.mssClamp !== 'off') flags |= BackendFlag.clamps;
  if (state === 'draining' && service.drain.udp === 'move') flags |= BackendFlag.special;
  return flags;
}

function problemOf(address: string, nextHop: NextHop | null, port: number, hasSource: boolean): string | null {
  if (!nextHop) return `backend ${address}: its next hop has not been looked up yet`;
  if (nextHop.error) return nextHop.error;
  if (port < 0) return `backend ${address} is reached through ${nextHop.interface}, which sluice does not serve`;
  if (!hasSource) return `backend ${address}: the route to it has no source address; set encapsulation.source`;
  return nextHop.resolved ? null : `backend ${address}: the hardware address of its next hop is not known yet`;
}

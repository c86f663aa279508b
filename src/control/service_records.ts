/** Writes service records, the backend list, and what services refer to: server ids, source routes, QUIC. */
import type { HashFieldName, ServiceConfig, SourceRoute } from '../shared/config.js';
import { HashField, ServiceField, ServiceFlag, type QuicSpec } from '../shared/layout.js';
import { buildLpm } from '../shared/lpm.js';
import { buildServerIds } from '../shared/server_ids.js';
import type { Numbers } from './registry.js';
import type { ServicePlan } from './service_plan.js';

export interface ServiceRecords {
  services: Int32Array;
  backendList: Int32Array;
  serverIds: Int32Array[];
  sourceRoutes: RouteTables[];
  quic: QuicSpec[];
  /** Four words a service with GLB's hash. */
  glbKeys: number[][];
}

const FIELD_BITS: Readonly<Record<HashFieldName, HashField>> = {
  src: HashField.src,
  sport: HashField.sport,
  dst: HashField.dst,
  dport: HashField.dport,
  protocol: HashField.protocol,
};

/**
 * @param rings index into Tables.rings by position in `plans`
 * @param hashKey stands for GLB's key where a service gives none
 */
export function serviceRecords(
  plans: readonly ServicePlan[],
  numbers: Numbers,
  rings: readonly number[],
  hashKey: readonly number[],
): ServiceRecords {
  let records = 0;
  for (const { number } of numbers.services.values()) records = Math.max(records, number + 1);
  const services = new Int32Array(records * ServiceField.STRIDE);
  const backendList = new Int32Array(plans.reduce((sum, { backends }) => sum + backends.length, 0));
  const out: ServiceRecords = { services, backendList, serverIds: [], sourceRoutes: [], quic: [], glbKeys: [] };
  let listStart = 0;
  plans.forEach((plan, i) => {
    const { service, backends } = plan;
    const at = numbers.services.get(service.name)!.number * ServiceField.STRIDE;
    services[at + ServiceField.flags] = flagsOf(service);
    services[at + ServiceField.ring] = rings[i];
    services[at + ServiceField.listStart] = listStart;
    services[at + ServiceField.listLength] = backends.length;
    services[at + ServiceField.hashFields] = fieldBits(service);
    services[at + ServiceField.hops] = service.hops;
    services[at + ServiceField.serverIds] = addServerIds(plan, out);
    services[at + ServiceField.sourceRoutes] = addSourceRoutes(plan, out);
    services[at + ServiceField.quic] = service.quic === null ? -1 : out.quic.push(quicSpec(service.quic)) - 1;
    services[at + ServiceField.maxNewFlows] = service.flood.maxNewPerSecond;
    services[at + ServiceField.mss] =
      service.mssClamp === 'off' ? 0 : service.mssClamp === 'auto' ? -1 : service.mssClamp;
    services[at + ServiceField.glbKey] =
      service.hash === 'glb'
        ? out.glbKeys.push(service.glb === null ? [...hashKey] : wordsOf(service.glb.hashKey)) - 1
        : -1;
    for (const { id } of backends) backendList[listStart++] = numbers.backends.get(id)!.number;
  });
  return out;
}

function flagsOf(service: ServiceConfig): number {
  let flags: number = ServiceFlag.valid;
  if (service.flowTable) flags |= ServiceFlag.flowTable;
  if (service.hash === 'katran' || service.hash === 'katran-v2') flags |= ServiceFlag.katranHash;
  if (service.hash === 'glb') flags |= ServiceFlag.glbHash;
  if (service.flood.above === 'drop') flags |= ServiceFlag.floodDrop;
  if (service.tcpServerId) flags |= ServiceFlag.tcpServerId;
  if (service.stableUdp) flags |= ServiceFlag.stableUdp;
  if (service.drain.udp === 'move') flags |= ServiceFlag.udpMoves;
  return flags;
}

function fieldBits(service: ServiceConfig): number {
  return service.hashFields.reduce((bits, name) => bits | FIELD_BITS[name], 0);
}

function quicSpec(quic: NonNullable<ServiceConfig['quic']>): QuicSpec {
  if (quic.scheme === 'katran') return quic;
  return { scheme: 'quic-lb', configs: quic.configs.map((each) => ({ ...each, key: each.key && [...each.key] })) };
}

function wordsOf(bytes: readonly number[]): number[] {
  const view = new DataView(Uint8Array.from(bytes).buffer);
  return [0, 4, 8, 12].map((at) => view.getInt32(at));
}

/** Positions in the list, not numbers: a table stays the same when numbers change. */
function addServerIds({ backends }: ServicePlan, out: ServiceRecords): number {
  const entries = backends.flatMap(({ backend }, position) =>
    backend.serverIds.map((id) => ({ id, position, owner: backend.address.text })),
  );
  return entries.length === 0 ? -1 : out.serverIds.push(buildServerIds(entries)) - 1;
}

interface RouteTables {
  ipv4: Int32Array | null;
  ipv6: Int32Array | null;
}

/** A million routes take seconds to lay out, and most builds change none of them: tables by the list that they were made from. */
const routeTables = new WeakMap<readonly SourceRoute[], { positions: string; tables: RouteTables }>();

function addSourceRoutes({ service, backends }: ServicePlan, out: ServiceRecords): number {
  const routes = service.sourceRoutes;
  if (routes.length === 0) return -1;
  const positions = backends.map(({ ring }) => ring.key).join(' ');
  let known = routeTables.get(routes);
  if (known?.positions !== positions) {
    const position = new Map(backends.map(({ ring }, i) => [ring.key, i]));
    known = { positions, tables: { ipv4: routeTable(routes, 4, position), ipv6: routeTable(routes, 6, position) } };
    routeTables.set(routes, known);
  }
  return out.sourceRoutes.push(known.tables) - 1;
}

function routeTable(
  routes: readonly SourceRoute[],
  family: 4 | 6,
  position: ReadonlyMap<string, number>,
): Int32Array | null {
  const entries = routes
    .filter(({ prefix }) => prefix.family === family)
    .map(({ prefix, backend }) => ({
      words: prefix.words,
      length: prefix.length,
      value: position.get(backend.text)!,
    }));
  return entries.length === 0 ? null : buildLpm(entries, family);
}

/** Writes a draft as YAML that a person goes on with. */
import { Document, isMap, isSeq, type Node, type YAMLMap, type YAMLSeq } from 'yaml';
import type { Draft, DraftBackend, DraftService } from './draft.js';

/** Keys of a service in the order of docs/configuration.md. */
const SERVICE_KEYS = [
  'name',
  'vip',
  'port',
  'protocol',
  'flow_table',
  'encapsulation',
  'hash',
  'hash_fields',
  'glb',
  'hops',
  'drain',
  'health',
  'quic',
  'stable_udp',
  'backends',
] as const satisfies readonly (keyof DraftService)[];

/**
 * The text of a configuration: one interface, and what the draft has. Maps and lists of single values are on one line; lists
 * of backends that services share are written once.
 */
export function writeDraft(draft: Draft, interfaceName: string, comment: string): string {
  const lists = new Map<readonly DraftBackend[], unknown[]>();
  const backendsOf = (backends: readonly DraftBackend[]): unknown[] => {
    let list = lists.get(backends);
    if (!list) lists.set(backends, (list = backends.map(shortBackend)));
    return list;
  };
  const services = draft.services.map((service) => {
    const out: Record<string, unknown> = {};
    for (const key of SERVICE_KEYS) {
      if (service[key] === undefined) continue;
      if (key === 'backends') out[key] = backendsOf(service.backends);
      else if (key === 'port') out[key] = service.port.length === 1 ? service.port[0] : service.port;
      else out[key] = structuredClone(service[key]);
    }
    return out;
  });
  const { services: _, ...settings } = draft;
  const document = new Document(
    { interfaces: [interfaceName], ...settings, services },
    { anchorPrefix: 'backends', sortMapEntries: false },
  );
  document.commentBefore = comment
    .split('\n')
    .map((line) => ` ${line}`)
    .join('\n');
  const contents = document.contents as YAMLMap;
  for (const { value } of contents.items) setFlow(value as Node);
  for (const service of (contents.get('services') as YAMLSeq<YAMLMap>).items) {
    service.flow = false;
    for (const { value } of service.items) setFlow(value as Node);
    const list = service.get('backends');
    if (!isSeq(list)) continue;
    list.flow = list.items.length === 0;
    for (const backend of list.items) setFlow(backend as Node);
  }
  (contents.get('services') as YAMLSeq).flow = false;
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

/** Everything in it on one line. */
function setFlow(node: Node | null): void {
  if (isMap(node) || isSeq(node)) node.flow = true;
}

/** An address alone where nothing else is said. */
function shortBackend(backend: DraftBackend): unknown {
  return Object.keys(backend).length === 1 ? backend.address : backend;
}

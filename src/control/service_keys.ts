/** Builds the service key table: from (address, protocol, port) to a service number, as `ServiceKey` in layout.ts says. */
import { SluiceError } from '../errors.js';
import type { PortRange, Prefix, ServiceConfig } from '../shared/config.js';
import { ANY_PORT, LATER_FRAGMENT, PORT_RANGES, ServiceKey, SOME_SERVICE } from '../shared/layout.js';
import { ServiceKeyKind, serviceKeyHash } from '../shared/service_hash.js';

/** Words of one entry in the range area: first, last, service. */
const RANGE_WORDS = 3;
/** Protocol number that SOME_SERVICE is filed under. */
const ICMP = 1;
/** A table is never smaller, so that one of no services still ends every probe. */
const MIN_SLOTS = 8;

export interface ServiceKeyTable {
  words: Int32Array;
  /** Distinct prefix lengths by family, longest first. */
  lengths4: number[];
  lengths6: number[];
}

/** One slot in the making. */
interface Key {
  words: readonly number[];
  scope: number;
  port: number;
  /** Number of the service, for exact and any ports; unused for ranges. */
  service: number;
  owner: string;
  ranges: OwnedRange[];
}

interface OwnedRange extends PortRange {
  service: number;
  owner: string;
}

/**
 * @param numberOf number of a service by its name
 * @throws SluiceError SLUICE_CONFIG, naming both, when two services claim the same address, protocol and port
 */
export function buildServiceKeys(
  services: readonly ServiceConfig[],
  numberOf: (service: string) => number,
): ServiceKeyTable {
  const keys = new Map<string, Key>();
  for (const service of services) {
    const number = numberOf(service.name);
    for (const protocol of service.protocols.length === 0 ? [0] : service.protocols) {
      addKeys(keys, service, protocol, number);
    }
  }
  for (const key of keys.values()) if (key.port === PORT_RANGES) key.ranges = disjoint(key.ranges);
  const lengths = (family: 4 | 6): number[] =>
    [...new Set(services.filter(({ vip }) => vip.family === family).map(({ vip }) => vip.length))].sort(
      (a, b) => b - a,
    );
  return { words: layOut([...keys.values()]), lengths4: lengths(4), lengths6: lengths(6) };
}

function addKeys(keys: Map<string, Key>, service: ServiceConfig, protocol: number, number: number): void {
  const owner = service.name;
  // The first service of an address stands for all of them.
  for (const stand of [
    keyAt(keys, service.vip, protocol, LATER_FRAGMENT),
    keyAt(keys, service.vip, ICMP, SOME_SERVICE),
  ]) {
    if (stand.service === -1) claim(stand, number, owner);
  }
  if (service.ports.length === 0) return claim(keyAt(keys, service.vip, protocol, ANY_PORT), number, owner);
  for (const { first, last } of service.ports) {
    if (first === last) claim(keyAt(keys, service.vip, protocol, first), number, owner);
    else keyAt(keys, service.vip, protocol, PORT_RANGES).ranges.push({ first, last, service: number, owner });
  }
}

function keyAt(keys: Map<string, Key>, vip: Prefix, protocol: number, port: number): Key {
  const scope = (vip.family << 24) | (vip.length << 16) | protocol;
  const [a0, a1, a2, a3] = vip.words;
  const text = `${a0},${a1},${a2},${a3},${scope},${port}`;
  let key = keys.get(text);
  if (!key) keys.set(text, (key = { words: vip.words, scope, port, service: -1, owner: '', ranges: [] }));
  return key;
}

function claim(key: Key, service: number, owner: string): void {
  if (key.service !== -1 && key.service !== service) {
    throw conflict(key.owner, owner, key.port === ANY_PORT ? 'any port' : `port ${key.port}`);
  }
  key.service = service;
  key.owner = owner;
}

function conflict(one: string, other: string, what: string): SluiceError {
  return new SluiceError(
    'SLUICE_CONFIG',
    `services ${one} and ${other} both claim ${what} of the same address and protocol`,
    'Give each address, protocol and port to one service.',
  );
}

/** Sorted by first port; ranges of one service that overlap or touch become one. */
function disjoint(ranges: OwnedRange[]): OwnedRange[] {
  const result: OwnedRange[] = [];
  for (const range of [...ranges].sort((a, b) => a.first - b.first)) {
    const last = result.at(-1);
    if (last && range.first <= last.last && range.service !== last.service) {
      throw conflict(last.owner, range.owner, `ports ${range.first}-${Math.min(range.last, last.last)}`);
    }
    if (last && range.first <= last.last + 1 && range.service === last.service) {
      last.last = Math.max(last.last, range.last);
    } else {
      result.push({ ...range });
    }
  }
  return result;
}

/** Open addressing with linear probing, at most half full. */
function layOut(keys: Key[]): Int32Array {
  let slots = MIN_SLOTS;
  while (slots < 2 * keys.length) slots *= 2;
  const mask = slots - 1;
  const rangeStart = ServiceKey.HEADER + slots * ServiceKey.STRIDE;
  const rangeCount = keys.reduce((sum, key) => sum + key.ranges.length, 0);
  const words = new Int32Array(rangeStart + rangeCount * RANGE_WORDS);
  for (let slot = 0; slot < slots; slot++) words[slotAt(slot) + ServiceKey.service] = -1;

  let maxProbe = 1;
  let kinds = 0;
  let rangeAt = rangeStart;
  for (const key of keys) {
    const [a0, a1, a2, a3] = key.words;
    let slot = serviceKeyHash(a0, a1, a2, a3, key.scope, key.port) & mask;
    let probes = 1;
    for (; words[slotAt(slot) + ServiceKey.service] !== -1; probes++) slot = (slot + 1) & mask;
    maxProbe = Math.max(maxProbe, probes);
    kinds |= kindOf(key);
    const isRanges = key.port === PORT_RANGES;
    words.set([a0, a1, a2, a3, key.scope, key.port, isRanges ? rangeAt : key.service, key.ranges.length], slotAt(slot));
    for (const { first, last, service } of key.ranges) {
      words.set([first, last, service], rangeAt);
      rangeAt += RANGE_WORDS;
    }
  }
  words.set([mask, maxProbe, keys.length, kinds]);
  return words;
}

function slotAt(slot: number): number {
  return ServiceKey.HEADER + slot * ServiceKey.STRIDE;
}

function kindOf({ scope, port }: Key): ServiceKeyKind {
  const anyProtocol = (scope & 0xff) === 0;
  if (port === ANY_PORT) return anyProtocol ? ServiceKeyKind.anyPortAnyProtocol : ServiceKeyKind.anyPort;
  if (port === PORT_RANGES) return anyProtocol ? ServiceKeyKind.rangesAnyProtocol : ServiceKeyKind.ranges;
  return anyProtocol ? ServiceKeyKind.exactAnyProtocol : ServiceKeyKind.exact;
}

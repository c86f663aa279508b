/**
 * The TypeScript side of what bpf/types.h has for bpf/flow_cache.bpf.c: sets of flows and backends' records. Numbers are in the machine's byte order, which
 * the addon requires to be little-endian; addresses and ports in network byte order where the header says so. test/bpf/flow_cache.test.ts holds
 * the two files equal.
 */
import { BackendField, BackendFlag, EncapFlag, EncapKind, ServiceField, ServiceFlag } from '../../shared/layout.js';

/** Name of the program in build/bpf/flow_cache.bpf.o. */
export const FLOW_PROGRAM = 'sluice_flow';

/** enum flow_stat. */
export const FLOW_STATS = ['tx', 'redirect', 'rx_bytes', 'tx_bytes', 'ended', 'stale', 'idle', 'too_big'] as const;
export type FlowStat = (typeof FLOW_STATS)[number];

/** FLOW_BACKENDS of bpf/maps.h: backends with a higher number are left to user space. */
export const FLOW_BACKENDS = 4096;

/** FLOW_WAYS: places of a set. */
export const FLOW_WAYS = 4;
/** Words of struct flow4 and flow6. */
export const FLOW_WORDS = { 4: 8, 6: 16 } as const;
/** FLOW_FILTER_SETS: sets that share a word of 64 bits of the filter. */
export const FLOW_FILTER_SETS = 8;
export const FLOW_BACKEND_BYTES = 64;

/** Words of struct flow_entry, and where the addresses begin behind it. */
export const enum FlowWord {
  generation = 0,
  /** As the machine reads them from the packet, like the addresses. */
  ports = 1,
  /** Protocol | worker << 8 | backend << 16 | upper four bits of the flow label << 28. */
  what = 2,
  /** CLOCK_MONOTONIC, wrapping ms. */
  seenMs = 3,
  host = 4,
  /** UDP source port | lower 16 bits of the flow label << 16. */
  outer = 5,
  addresses = 6,
}

/** enum flow_generation, as int32. */
export const enum FlowGeneration {
  empty = 0,
  announced = -2,
  void = -1,
}

/** Workers with higher numbers cannot have flows there: FlowWord.what has a byte for them. redirect's map of sockets ends there too. */
export const FLOW_WORKERS = 256;

/** enum flow_backend_flag. */
const enum Flag {
  ipv6 = 1,
  noDf = 2,
}

/**
 * Why packets to a backend are left to user space, whoever sends them; '' when they need not be. What is said here of an outer header is what the
 * program cannot write: bytes that depend on more than flow, backend, TOS and length.
 */
export function leftToUserSpace(backends: Int32Array, services: Int32Array, number: number): string {
  const at = number * BackendField.STRIDE;
  const flags = backends[at + BackendField.flags];
  const service = backends[at + BackendField.service] * ServiceField.STRIDE;
  if (number >= FLOW_BACKENDS) return `its number is ${FLOW_BACKENDS} or above`;
  if ((flags & BackendFlag.steered) !== 0) return 'its service may name the backend in the packet';
  if ((backends[at + BackendField.encapFlags] & EncapFlag.udpChecksum) !== 0) {
    return 'the outer UDP checksum is over every byte';
  }
  const kind = backends[at + BackendField.encap];
  if (kind === (EncapKind.gueVariant0 as number) && services[service + ServiceField.hops] > 1) {
    return 'its outer headers list a second hop';
  }
  const isWide = [BackendField.entropy0, BackendField.entropy1, BackendField.entropy2].some(
    (word) => backends[at + word] !== 0,
  );
  if ((flags & BackendFlag.ipv6) !== 0 && isWide) return 'its outer source has more than 32 bits of the flow';
  return '';
}

/** True for a backend whose flows stay with it. */
export function keepsFlows(backends: Int32Array, services: Int32Array, number: number): boolean {
  const at = number * BackendField.STRIDE;
  const flags = backends[at + BackendField.flags];
  if ((flags & BackendFlag.active) !== 0) return true;
  if ((flags & BackendFlag.draining) === 0) return false;
  // Of such a service, draining backends lose their UDP flows at once; those of TCP are left to user space with them.
  const service = backends[at + BackendField.service] * ServiceField.STRIDE;
  return (services[service + ServiceField.flags] & ServiceFlag.udpMoves) === 0;
}

/**
 * struct flow_backend of a backend.
 *
 * @param generation of the flows that it serves; 0: none
 * @param ifindex to leave by; 0: the interface that the packet came in on
 */
export function encodeFlowBackend(
  backends: Int32Array,
  number: number,
  generation: number,
  ifindex: number,
): Uint8Array {
  const at = number * BackendField.STRIDE;
  const view = new DataView(new ArrayBuffer(FLOW_BACKEND_BYTES));
  const isIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
  const isKatran = (backends[at + BackendField.encapFlags] & EncapFlag.katran) !== 0;
  view.setUint32(0, generation, true);
  view.setUint32(4, ifindex, true);
  view.setUint16(8, Math.min(backends[at + BackendField.mtu], 0xffff), true);
  view.setUint8(10, backends[at + BackendField.encap]);
  view.setUint8(11, (isIpv6 ? Flag.ipv6 : 0) | (isKatran ? Flag.noDf : 0));
  view.setUint16(12, backends[at + BackendField.guePort]);
  view.setUint16(14, backends[at + BackendField.headerSum], true);
  for (let word = 0; word < 3; word++) view.setInt32(16 + 4 * word, backends[at + BackendField.eth0 + word]);
  for (let word = 0; word < 4; word++) {
    view.setInt32(28 + 4 * word, backends[at + BackendField.source0 + word]);
    view.setInt32(44 + 4 * word, backends[at + BackendField.addr0 + word]);
  }
  return new Uint8Array(view.buffer);
}

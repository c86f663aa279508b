/**
 * The TypeScript side of what bpf/types.h has for bpf/flow_cache.bpf.c: keys, values and backends' records. Numbers are in the machine's byte order, which
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

/** Sizes of the structures. */
export const FLOW_KEY_BYTES = { 4: 16, 6: 40 } as const;
export const FLOW_VALUE_BYTES = 32;
export const FLOW_BACKEND_BYTES = 64;

/** enum flow_backend_flag. */
const enum Flag {
  ipv6 = 1,
  noDf = 2,
}

/** A five-tuple as words in the order of a packet's bytes, as the workers have it; `ports`: source << 16 | destination. */
export interface FlowTuple {
  family: 4 | 6;
  protocol: number;
  src: readonly number[];
  dst: readonly number[];
  ports: number;
}

/** struct flow_key4 or flow_key6. */
export function encodeFlowKey({ family, protocol, src, dst, ports }: FlowTuple): Uint8Array {
  const bytes = new Uint8Array(FLOW_KEY_BYTES[family]);
  const view = new DataView(bytes.buffer);
  const words = family === 4 ? 1 : 4;
  for (let i = 0; i < words; i++) {
    view.setInt32(4 * i, src[i]);
    view.setInt32(4 * (words + i), dst[i]);
  }
  view.setInt32(8 * words, ports);
  view.setUint32(8 * words + 4, protocol, true);
  return bytes;
}

/** The opposite of `encodeFlowKey`, of the key that starts at `at`. */
export function decodeFlowKey(bytes: Uint8Array, at: number, family: 4 | 6): FlowTuple {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FLOW_KEY_BYTES[family]);
  const words = family === 4 ? 1 : 4;
  const read = (from: number): number[] => Array.from({ length: words }, (_, i) => view.getInt32(from + 4 * i));
  return {
    family,
    src: read(0),
    dst: read(4 * words),
    ports: view.getInt32(8 * words),
    protocol: view.getUint32(8 * words + 4, true),
  };
}

/** FLOW_FILTER_WORDS of bpf/maps.h. */
export const FLOW_FILTER_WORDS = 16_384;

/** filter_has() of the program, of the key that starts at `at`: uint32, of which the upper 20 bits name a bit. */
export function flowFilterHash(family: 4 | 6, keys: Uint8Array, at: number): number {
  // Words as the machine reads them.
  const word = (i: number): number => {
    const byte = at + 4 * i;
    return keys[byte] | (keys[byte + 1] << 8) | (keys[byte + 2] << 16) | (keys[byte + 3] << 24);
  };
  const source = family === 4 ? word(0) : word(0) ^ word(1) ^ word(2) ^ word(3);
  const [destination, ports] = family === 4 ? [word(1), word(2)] : [word(7), word(8)];
  const mixed = Math.imul(source, 0x9e3779b1) ^ Math.imul(ports, 0x85ebca6b) ^ destination;
  return Math.imul(mixed ^ (mixed >>> 15), 0xc2b2ae35) >>> 0;
}

/** What of a flow's outer header is the flow's own. */
export interface FlowOuter {
  /** UDP source port; 0: no UDP. */
  sport: number;
  /** IPv6 flow label. */
  label: number;
  /** Host bits of the outer source's last word. */
  host: number;
}

/** struct flow_value. */
export interface FlowDecision extends FlowOuter {
  /** CLOCK_MONOTONIC. */
  seenMs: number;
  backend: number;
  /** 0: not to be served yet. */
  generation: number;
  worker: number;
}

/** Where the fields of struct flow_value are. */
export const enum FlowValueAt {
  /** uint64. */
  seenNs = 0,
  backend = 8,
  generation = 12,
  label = 16,
  host = 20,
  sport = 24,
  worker = 26,
}

export function encodeFlowValue(flow: FlowDecision): Uint8Array {
  const view = new DataView(new ArrayBuffer(FLOW_VALUE_BYTES));
  writeSeen(view, 0, flow.seenMs);
  view.setUint32(FlowValueAt.backend, flow.backend, true);
  view.setUint32(FlowValueAt.generation, flow.generation, true);
  view.setUint32(FlowValueAt.label, flow.label, true);
  view.setInt32(FlowValueAt.host, flow.host, true);
  view.setUint16(FlowValueAt.sport, flow.sport, true);
  view.setUint16(FlowValueAt.worker, flow.worker, true);
  return new Uint8Array(view.buffer);
}

/** Writes the time of the value at `at`: exact to some ns. */
export function writeSeen(view: DataView, at: number, seenMs: number): void {
  const ns = Math.floor(seenMs) * 1e6;
  const high = Math.floor(ns / 2 ** 32);
  view.setUint32(at + FlowValueAt.seenNs, ns - high * 2 ** 32, true);
  view.setUint32(at + FlowValueAt.seenNs + 4, high, true);
}

export function decodeFlowValue(bytes: Uint8Array, at = 0): FlowDecision {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, FLOW_VALUE_BYTES);
  return {
    // Exact to the microsecond for 285 years.
    seenMs: (view.getUint32(FlowValueAt.seenNs + 4, true) * 2 ** 32 + view.getUint32(FlowValueAt.seenNs, true)) / 1e6,
    backend: view.getUint32(FlowValueAt.backend, true),
    generation: view.getUint32(FlowValueAt.generation, true),
    label: view.getUint32(FlowValueAt.label, true),
    host: view.getInt32(FlowValueAt.host, true),
    sport: view.getUint16(FlowValueAt.sport, true),
    worker: view.getUint16(FlowValueAt.worker, true),
  };
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

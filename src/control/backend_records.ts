/** Writes backend records, as `BackendField` in layout.ts says. */
import { ethernetWords } from '../shared/addr.js';
import type { Address, EncapsulationConfig } from '../shared/config.js';
import { BackendField, BackendFlag, EncapFlag, EncapKind } from '../shared/layout.js';
import { isFixed, type OuterSource } from './outer_source.js';
import type { NextHop } from './routes.js';

export interface BackendRecord {
  /** BackendFlag bits; `ipv6`, `resolved` and `special` are added where they follow from the rest. */
  flags: number;
  incarnation: number;
  service: number;
  /** Number of the port that leads to it; -1 when none does: the backend is then unresolved. */
  port: number;
  address: Address;
  encapsulation: EncapsulationConfig;
  /** The service hashes as Katran does, so its outer headers are Katran's too. */
  katran: boolean;
  /** Of the address's family (see outer_source.ts). Null makes the backend unresolved, unless it is reached without outer header. */
  source: OuterSource | null;
  nextHop: NextHop | null;
}

export function writeBackendRecord(words: Int32Array, number: number, record: BackendRecord): void {
  const at = number * BackendField.STRIDE;
  const { address, source, nextHop } = record;
  const kind = encapKind(record.encapsulation);
  words[at + BackendField.flags] = flagsOf(record, kind);
  words[at + BackendField.incarnation] = record.incarnation;
  words[at + BackendField.service] = record.service;
  words[at + BackendField.port] = Math.max(record.port, 0);
  words.set(address.words, at + BackendField.addr0);
  // Nothing sends to a backend that is not resolved; what is known of it stays readable for status and dumps.
  if (nextHop?.smac && nextHop.dmac) {
    words.set(ethernetWords(nextHop.dmac, nextHop.smac), at + BackendField.eth0);
  }
  words[at + BackendField.mtu] = nextHop?.mtu ?? 0;
  words[at + BackendField.encap] = kind;
  if (kind === EncapKind.l2) return;
  words[at + BackendField.encapFlags] = encapFlags(record);
  if (kind !== EncapKind.ipip) words[at + BackendField.guePort] = record.encapsulation.gue.port;
  if (!source) return;
  words.set(source.words, at + BackendField.source0);
  words.set(source.entropy, at + BackendField.entropy0);
  if (address.family === 4) {
    const protocol = kind === EncapKind.ipip ? IPV4_IN_IPV4 : UDP;
    words[at + BackendField.headerSum] = outerHeaderSum(source.words[0], address.words[0], protocol, !record.katran);
  }
}

function flagsOf(record: BackendRecord, kind: EncapKind): number {
  const { address, source, nextHop, port, katran } = record;
  let flags = record.flags;
  if (address.family === 6) flags |= BackendFlag.ipv6;
  if (kind !== EncapKind.ipip || katran || (source && !isFixed(source))) flags |= BackendFlag.special;
  // A router would send a packet with nothing but the VIP in it back to us.
  const sendable = kind === EncapKind.l2 ? nextHop?.gateway === null : source !== null;
  if (nextHop?.resolved && nextHop.smac && nextHop.dmac && port >= 0 && sendable) flags |= BackendFlag.resolved;
  return flags;
}

function encapKind({ kind, gue }: EncapsulationConfig): EncapKind {
  if (kind === 'ipip') return EncapKind.ipip;
  if (kind === 'l2') return EncapKind.l2;
  return gue.variant === 1 ? EncapKind.gueVariant1 : EncapKind.gueVariant0;
}

function encapFlags({ encapsulation: { kind, gue }, katran }: BackendRecord): number {
  const checksum = kind === 'gue' && gue.checksum === 'computed';
  return (checksum ? EncapFlag.udpChecksum : 0) | (katran ? EncapFlag.katran : 0);
}

/** IP protocol numbers. */
const IPV4_IN_IPV4 = 4;
const UDP = 17;

/**
 * Ones' complement sum, folded to 16 bits, of those parts of the outer IPv4 header that are the same for every packet:
 * version and header length 0x45, DF if it is set and offset 0, TTL 64, protocol, both addresses (without the bits that
 * come from the flow). The data path adds TOS, total length and those bits (id is 0) and complements it.
 */
export function outerHeaderSum(source: number, destination: number, protocol: number, dontFragment = true): number {
  let sum = 0x4500 + (dontFragment ? 0x4000 : 0) + ((64 << 8) | protocol);
  for (const address of [source, destination]) sum += (address >>> 16) + (address & 0xffff);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}

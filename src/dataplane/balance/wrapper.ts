import {
  BackendField,
  BackendFlag,
  EncapFlag,
  EncapKind,
  HashField,
  NO_HOP,
  ServiceField,
  ServiceFlag,
} from '../../shared/layout.js';
import { encapsulateSpecial } from '../packet/encap_special.js';
import { outerOverhead } from '../packet/encap_size.js';
import { OuterFlow } from '../packet/outer_flow.js';
import type { Packet } from '../packet/packet.js';
import type { Snapshot } from '../snapshot.js';
import type { DropReason } from '../verdict.js';
import {
  katranGuePort4,
  katranGuePort6Of4,
  katranGuePort6Of6,
  katranOuterSource4,
  katranOuterSource6,
} from './katran_hash.js';
import { hashOf, slotHash } from './slot.js';

/** Words of the longest chain: two hops of IPv6 addresses. */
const MAX_HOP_WORDS = 16;

/**
 * Encapsulates for backends that are not plain IP in IP: gathers what the outer header takes from the flow, and the chain of
 * backends that are tried after this one.
 */
export class Wrapper {
  private readonly outer = new OuterFlow();
  private readonly hops = new Int32Array(MAX_HOP_WORDS);

  constructor(private snapshot: Snapshot) {}

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
  }

  /** `tuple`: the packet whose flow it belongs to. On failure the packet is unchanged. */
  wrap(packet: Packet, tuple: Packet, backend: number, service: number): DropReason {
    const { backends, services } = this.snapshot;
    const at = Math.imul(backend, BackendField.STRIDE);
    const record = Math.imul(service, ServiceField.STRIDE);
    const toIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
    const words = services[record + ServiceField.hops] > 1 ? this.chain(tuple, backend, record, toIpv6) : 0;
    return encapsulateSpecial(
      packet,
      backends,
      at,
      this.outerOf(tuple, backend, service),
      this.hops,
      words,
      toIpv6 ? 6 : 4,
    );
  }

  /** What outer headers to this backend take from the flow of `tuple`. Good until the next call. */
  outerOf(tuple: Packet, backend: number, service: number): OuterFlow {
    const { backends } = this.snapshot;
    const at = Math.imul(backend, BackendField.STRIDE);
    const record = Math.imul(service, ServiceField.STRIDE);
    const toIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
    if ((backends[at + BackendField.encapFlags] & EncapFlag.katran) !== 0) this.asKatran(tuple, record, toIpv6);
    else this.outer.hash = this.entropy(tuple, record);
    return this.outer;
  }

  /** Bytes in front of a packet to this backend, at most. */
  overhead(backend: number, service: number): number {
    const { backends, services } = this.snapshot;
    const at = Math.imul(backend, BackendField.STRIDE);
    const hops = services[Math.imul(service, ServiceField.STRIDE) + ServiceField.hops];
    const words = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0 ? 4 : 1;
    return outerOverhead(backends, at, Math.imul(hops - 1, words));
  }

  /** The whole five-tuple, whatever the service hashes: packets of one flow alone must keep their order. GLB's is its own. */
  private entropy(tuple: Packet, record: number): number {
    if ((this.snapshot.services[record + ServiceField.flags] & ServiceFlag.glbHash) !== 0) {
      return slotHash(this.snapshot, tuple, record) ^ (tuple.ports >>> 16);
    }
    return hashOf(this.snapshot.ringHash, tuple);
  }

  private asKatran(tuple: Packet, record: number, toIpv6: boolean): void {
    const fields = this.snapshot.services[record + ServiceField.hashFields];
    const sport = fields !== HashField.dport && (fields & HashField.sport) === 0 ? 0 : tuple.ports >>> 16;
    const src = (fields & HashField.src) === 0 ? 0 : tuple.family === 4 ? tuple.src0 : tuple.src3;
    const word0 = (fields & HashField.src) === 0 ? 0 : tuple.src0;
    const outer = this.outer;
    if (!toIpv6) {
      outer.katranSource = katranOuterSource4(src, sport);
      outer.katranPort = katranGuePort4(src, sport);
    } else {
      outer.katranSource = katranOuterSource6(src, sport);
      outer.katranPort = tuple.family === 4 ? katranGuePort6Of4(word0, sport) : katranGuePort6Of6(src, sport);
    }
  }

  /** The others of the slot's chain; returns the words of their addresses. Those of another family than the backend's are left out. */
  private chain(tuple: Packet, backend: number, record: number, toIpv6: boolean): number {
    const { services, rings, backendList, backends } = this.snapshot;
    const ringNumber = services[record + ServiceField.ring];
    if (
      ringNumber < 0 ||
      backends[Math.imul(backend, BackendField.STRIDE) + BackendField.encap] !== EncapKind.gueVariant0
    )
      return 0;
    const ring = rings[ringNumber];
    const hops = services[record + ServiceField.hops];
    const slot = (slotHash(this.snapshot, tuple, record) >>> 0) % ((ring.length / hops) >>> 0);
    const width = toIpv6 ? 4 : 1;
    const limit = Math.imul(hops - 1, width);
    let words = 0;
    for (let i = Math.imul(slot, hops), end = i + hops; i < end && words < limit; i++) {
      if (ring[i] === NO_HOP) break;
      const next = backendList[services[record + ServiceField.listStart] + ring[i]];
      const at = Math.imul(next, BackendField.STRIDE);
      const isIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
      if (next === backend || isIpv6 !== toIpv6) continue;
      for (let word = 0; word < width; word++) this.hops[words++] = backends[at + BackendField.addr0 + word];
    }
    return words;
  }
}

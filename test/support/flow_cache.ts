/** bpf/flow_cache.bpf.c loaded, and what a lab's data path has decided put into it. */
import { encodeU32, sumPerCpu } from '../../src/control/bpf_layout.js';
import {
  encodeFlowBackend,
  FLOW_PROGRAM,
  FLOW_STATS,
  leftToUserSpace,
  type FlowStat,
} from '../../src/control/ebpf/flow_layout.js';
import { drawFlowHashKeys, FlowHash } from '../../src/control/ebpf/flow_hash.js';
import { flowSettings } from '../../src/control/manager/flow_cache.js';
import { FlowSets } from '../../src/control/manager/flow_sets.js';
import { FlowField } from '../../src/dataplane/balance/flow_entry.js';
import {
  katranGuePort4,
  katranGuePort6Of4,
  katranGuePort6Of6,
  katranOuterSource4,
  katranOuterSource6,
} from '../../src/dataplane/balance/katran_hash.js';
import { hashOf, slotHash } from '../../src/dataplane/balance/slot.js';
import { fillSource6, flowLabel, hostBits4, OuterFlow, sourcePort } from '../../src/dataplane/packet/outer_flow.js';
import { PacketFlag, type Packet } from '../../src/dataplane/packet/packet.js';
import type { Snapshot } from '../../src/dataplane/snapshot.js';
import { bpfObjectPath, native, type BpfMap, type BpfObject, type TestRunResult } from '../../src/native.js';
import {
  BackendField,
  BackendFlag,
  EncapFlag,
  EncapKind,
  HashField,
  ServiceField,
  ServiceFlag,
} from '../../src/shared/layout.js';
import { FlowRecord, FlowSaying } from '../../src/shared/flow_ring.js';
import type { Lab } from './lab.js';
import { parsed } from './packets.js';

/** Monotonic clock, ms. */
export const nowMs = (): number => Number(process.hrtime.bigint() / 1_000_000n);

/** Stands for the second interface of a lab. */
export const OTHER_IFINDEX = 77;

/** A five-tuple as words in the order of a packet's bytes, as the workers have it; `ports`: source << 16 | destination. */
export interface FlowTuple {
  family: 4 | 6;
  protocol: number;
  src: readonly number[];
  dst: readonly number[];
  ports: number;
}

/** What of a flow's outer header is the flow's own: UDP source port, flow label, host bits of the source's last word. */
export interface FlowOuter {
  sport: number;
  label: number;
  host: number;
}

/** What a worker offers. */
export function recordOf(
  tuple: FlowTuple,
  backend = 0,
  outer: FlowOuter = { sport: 0, label: 0, host: 0 },
): Int32Array {
  const record = new Int32Array(FlowRecord.STRIDE);
  record[FlowRecord.what] = (FlowSaying.offer << 16) | (tuple.family << 8) | tuple.protocol;
  record.set(tuple.src, FlowRecord.src0);
  record.set(tuple.dst, FlowRecord.dst0);
  record[FlowRecord.ports] = tuple.ports;
  record[FlowRecord.backend] = backend;
  record[FlowRecord.sportAndPort] = outer.sport << 16;
  record[FlowRecord.label] = outer.label;
  record[FlowRecord.host] = outer.host;
  return record;
}

export class FlowCache {
  readonly object: BpfObject;
  readonly flows: Readonly<Record<4 | 6, FlowSets>>;
  private readonly maps: BpfMap[] = [];

  constructor(rodata: { tcp_idle_ms?: number; udp_idle_ms?: number; loads_reorder?: number } = {}) {
    const keys = drawFlowHashKeys();
    this.object = new (native().BpfObject)(bpfObjectPath('flow_cache'));
    this.object.setRodata({ ...flowSettings(keys), ...rodata });
    this.object.load();
    const of = (family: 4 | 6): FlowSets => {
      const [sets, filter] = [`flows${family}`, `flow_filter${family}`].map((name) => {
        const map = this.object.map(name);
        this.maps.push(map);
        return new Int32Array(map.memory());
      });
      return new FlowSets(family, sets, filter, new FlowHash(keys));
    };
    this.flows = { 4: of(4), 6: of(6) };
  }

  run(frame: Uint8Array): TestRunResult {
    return this.object.testRun(FLOW_PROGRAM, { data: frame });
  }

  stats(): Partial<Record<FlowStat, number>> {
    const sums = sumPerCpu(this.object.map('flow_stats').lookup(encodeU32(0))!, FLOW_STATS.length);
    const entries = FLOW_STATS.map((name, i) => [name, sums[i]] as const).filter(([, count]) => count > 0);
    return Object.fromEntries(entries);
  }

  /** Packets and bytes that went to a backend. */
  counts(backend: number): number[] {
    return sumPerCpu(this.object.map('flow_counts').lookup(encodeU32(backend))!, 2);
  }

  setBackend(number: number, record: Uint8Array): void {
    this.object.map('flow_backends').update(encodeU32(number), record);
  }

  /** All backends of a lab, with `generation`; those that are left to user space with none. */
  adopt(lab: Lab, generation = 1): void {
    const { backends, services } = lab.balancer.snapshot;
    for (let number = 0; number * BackendField.STRIDE < backends.length; number++) {
      const port = backends[number * BackendField.STRIDE + BackendField.port];
      const served = leftToUserSpace(backends, services, number) === '' ? generation : 0;
      this.setBackend(number, encodeFlowBackend(backends, number, served, port === 0 ? 0 : OTHER_IFINDEX));
    }
  }

  /** Puts a flow in force; with generation 0 it is announced only. */
  install(tuple: FlowTuple, backend: number, outer: FlowOuter, { generation = 1, seenMs = nowMs() } = {}): void {
    const sets = this.flows[tuple.family];
    const place = sets.announce(recordOf(tuple, backend, outer), 3, seenMs, () => true);
    if (place < 0) throw new Error('no room');
    if (generation > 0) sets.enforce(place, backend, generation, seenMs);
  }

  /** When a flow was seen, ms; null: it is not there. */
  seenMs(tuple: FlowTuple): number | null {
    const sets = this.flows[tuple.family];
    const place = sets.find(recordOf(tuple));
    const now = nowMs();
    return place < 0 ? null : now - sets.idleMs(place, now);
  }

  /** Puts the flow of a frame in with the backend that the lab has for it, which is returned; −1: the lab remembers no such flow. */
  learn(lab: Lab, frame: Uint8Array, options: { generation?: number; seenMs?: number } = {}): number {
    const packet = parsed(frame);
    lab.balancer.hash(packet);
    const flow = (packet.flags & PacketFlag.hasPorts) === 0 ? -1 : lab.flows.find(packet);
    if (flow < 0) return -1;
    const backend = lab.flows.words[flow + FlowField.backend];
    this.install(tupleOf(packet), backend, outerOf(lab.balancer.snapshot, packet, backend), options);
    return backend;
  }

  [Symbol.dispose](): void {
    for (const map of this.maps) map.close();
    this.object.close();
  }
}

export function tupleOf(packet: Packet): FlowTuple {
  const { src0, src1, src2, src3, dst0, dst1, dst2, dst3, protocol, ports } = packet;
  const family = packet.family as 4 | 6;
  return family === 4
    ? { family, protocol, ports, src: [src0], dst: [dst0] }
    : { family, protocol, ports, src: [src0, src1, src2, src3], dst: [dst0, dst1, dst2, dst3] };
}

/** What Wrapper (src/dataplane/balance/wrapper.ts) would have the packet's flow put into outer headers. */
export function outerOf(snapshot: Snapshot, packet: Packet, backend: number): FlowOuter {
  const { backends, services } = snapshot;
  const at = backend * BackendField.STRIDE;
  const kind = backends[at + BackendField.encap];
  const isIpv6 = (backends[at + BackendField.flags] & BackendFlag.ipv6) !== 0;
  if ((backends[at + BackendField.flags] & BackendFlag.special) === 0) return { sport: 0, label: 0, host: 0 };
  const record = backends[at + BackendField.service] * ServiceField.STRIDE;
  const flow = new OuterFlow();
  const isGlb = (services[record + ServiceField.flags] & ServiceFlag.glbHash) !== 0;
  flow.hash = isGlb ? slotHash(snapshot, packet, record) ^ (packet.ports >>> 16) : hashOf(snapshot.ringHash, packet);
  if ((backends[at + BackendField.encapFlags] & EncapFlag.katran) !== 0) {
    const fields = services[record + ServiceField.hashFields];
    const hasSource = (fields & HashField.src) !== 0;
    const hasPort = fields === (HashField.dport as number) || (fields & HashField.sport) !== 0;
    const sport = hasPort ? packet.ports >>> 16 : 0;
    const src = !hasSource ? 0 : packet.family === 4 ? packet.src0 : packet.src3;
    flow.katranSource = isIpv6 ? katranOuterSource6(src, sport) : katranOuterSource4(src, sport);
    const port6 = packet.family === 4 ? katranGuePort6Of4(src, sport) : katranGuePort6Of6(src, sport);
    flow.katranPort = isIpv6 ? port6 : katranGuePort4(src, sport);
  }
  let host: number;
  if (isIpv6) {
    const view = new DataView(new ArrayBuffer(16));
    view.setInt32(12, backends[at + BackendField.source3]);
    fillSource6(view, 0, backends, at, flow);
    host = view.getInt32(12) & ~backends[at + BackendField.source3];
  } else {
    host = hostBits4(backends, at, flow);
  }
  return {
    sport: kind === (EncapKind.ipip as number) ? 0 : sourcePort(backends, at, flow),
    label: isIpv6 ? flowLabel(backends, at, flow) : 0,
    host,
  };
}

import { BackendField, BackendFlag, EncapKind } from '../shared/layout.js';
import { FlowRecord } from '../shared/flow_ring.js';
import { Wrapper } from './balance/wrapper.js';
import { fillSource6, flowLabel, hostBits4, sourcePort } from './packet/outer_flow.js';
import type { Packet } from './packet/packet.js';
import type { Snapshot } from './snapshot.js';

/** What of a flow's outer header is the flow's own, for the kernel to write the same: UDP source port, flow label, host bits of the source. */
export class FlowOuter {
  private readonly wrapper: Wrapper;
  private readonly source = new DataView(new ArrayBuffer(16));

  constructor(private snapshot: Snapshot) {
    this.wrapper = new Wrapper(snapshot);
  }

  adopt(snapshot: Snapshot): void {
    this.snapshot = snapshot;
    this.wrapper.adopt(snapshot);
  }

  /** Into an offer of the packet's flow, whose backend this is. Of IPv6 sources the last word only: flow_layout.ts leaves those with more to user space. */
  write(record: Int32Array, packet: Packet, backend: number, port: number): void {
    const { backends } = this.snapshot;
    const at = Math.imul(backend, BackendField.STRIDE);
    const flags = backends[at + BackendField.flags];
    const kind = backends[at + BackendField.encap];
    const isIpv6 = (flags & BackendFlag.ipv6) !== 0;
    record[FlowRecord.sportAndPort] = port;
    record[FlowRecord.label] = 0;
    record[FlowRecord.host] = 0;
    // What is not special takes nothing from the flow.
    if ((flags & BackendFlag.special) === 0 || kind === EncapKind.l2) return;
    const flow = this.wrapper.outerOf(packet, backend, backends[at + BackendField.service]);
    if (kind !== EncapKind.ipip) record[FlowRecord.sportAndPort] |= sourcePort(backends, at, flow) << 16;
    if (!isIpv6) {
      record[FlowRecord.host] = hostBits4(backends, at, flow);
      return;
    }
    const source3 = backends[at + BackendField.source3];
    this.source.setInt32(12, source3);
    fillSource6(this.source, 0, backends, at, flow);
    record[FlowRecord.host] = this.source.getInt32(12) & ~source3;
    record[FlowRecord.label] = flowLabel(backends, at, flow);
  }
}

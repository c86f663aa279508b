import { FlowRecord } from '../../shared/flow_ring.js';
import { FLOW_KEY_BYTES, FLOW_VALUE_BYTES, FlowValueAt, writeSeen } from '../ebpf/flow_layout.js';

/** Flows of one family on their way into a cache, as the kernel wants them: keys and values one after the other. */
export class FlowBatch {
  private readonly keys: Uint8Array;
  private readonly values: Uint8Array;
  private readonly keyView: DataView;
  private readonly valueView: DataView;
  private readonly generations: Uint32Array;
  private readonly keyBytes: number;
  count = 0;

  constructor(
    readonly family: 4 | 6,
    room: number,
  ) {
    this.keyBytes = FLOW_KEY_BYTES[family];
    this.keys = new Uint8Array(room * this.keyBytes);
    this.values = new Uint8Array(room * FLOW_VALUE_BYTES);
    this.keyView = new DataView(this.keys.buffer);
    this.valueView = new DataView(this.values.buffer);
    this.generations = new Uint32Array(room);
  }

  /** An offer, for which there must be room. It has no generation yet. */
  add(record: Int32Array, generation: number, worker: number): void {
    const { valueView: view } = this;
    writeKey(this.keyView, this.count * this.keyBytes, record, this.family);
    const at = this.count * FLOW_VALUE_BYTES;
    view.setUint32(at + FlowValueAt.backend, record[FlowRecord.backend], true);
    view.setUint32(at + FlowValueAt.generation, 0, true);
    view.setUint32(at + FlowValueAt.label, record[FlowRecord.label], true);
    view.setInt32(at + FlowValueAt.host, record[FlowRecord.host], true);
    view.setUint16(at + FlowValueAt.sport, record[FlowRecord.sportAndPort] >>> 16, true);
    view.setUint16(at + FlowValueAt.worker, worker, true);
    this.generations[this.count++] = generation;
  }

  /** Keys and values of all, seen now. Good until the next `add`. */
  all(nowMs: number): { keys: Uint8Array; values: Uint8Array } {
    for (let i = 0; i < this.count; i++) writeSeen(this.valueView, i * FLOW_VALUE_BYTES, nowMs);
    return {
      keys: this.keys.subarray(0, this.count * this.keyBytes),
      values: this.values.subarray(0, this.count * FLOW_VALUE_BYTES),
    };
  }

  keyOf(flow: number): Uint8Array {
    return this.keys.subarray(flow * this.keyBytes, (flow + 1) * this.keyBytes);
  }

  /** Of one flow, seen now and with its generation. */
  valueInForce(flow: number, nowMs: number): Uint8Array {
    const at = flow * FLOW_VALUE_BYTES;
    writeSeen(this.valueView, at, nowMs);
    this.valueView.setUint32(at + FlowValueAt.generation, this.generations[flow], true);
    return this.values.subarray(at, at + FLOW_VALUE_BYTES);
  }

  /** Takes out those that `keep` does not want. */
  filter(keep: (key: Uint8Array) => boolean): void {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      if (!keep(this.keyOf(i))) continue;
      this.keys.copyWithin(kept * this.keyBytes, i * this.keyBytes, (i + 1) * this.keyBytes);
      this.values.copyWithin(kept * FLOW_VALUE_BYTES, i * FLOW_VALUE_BYTES, (i + 1) * FLOW_VALUE_BYTES);
      this.generations[kept++] = this.generations[i];
    }
    this.count = kept;
  }
}

/** Family of the flow that a record is about. */
export function familyOf(record: Int32Array): 4 | 6 {
  return ((record[FlowRecord.what] >>> 8) & 0xff) as 4 | 6;
}

/** Key of the flow that a record is about. */
export function keyOf(record: Int32Array): Uint8Array {
  const family = familyOf(record);
  const key = new Uint8Array(FLOW_KEY_BYTES[family]);
  writeKey(new DataView(key.buffer), 0, record, family);
  return key;
}

/** As encodeFlowKey of flow_layout.ts. */
function writeKey(view: DataView, at: number, record: Int32Array, family: 4 | 6): void {
  const words = family === 4 ? 1 : 4;
  for (let i = 0; i < words; i++) {
    view.setInt32(at + 4 * i, record[FlowRecord.src0 + i]);
    view.setInt32(at + 4 * (words + i), record[FlowRecord.dst0 + i]);
  }
  view.setInt32(at + 8 * words, record[FlowRecord.ports]);
  view.setUint32(at + 8 * words + 4, record[FlowRecord.what] & 0xff, true);
}

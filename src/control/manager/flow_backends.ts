import { BackendField, BackendFlag } from '../../shared/layout.js';
import { encodeFlowBackend, FLOW_BACKENDS, keepsFlows, leftToUserSpace } from '../ebpf/flow_layout.js';

/** From a store to a map until no CPU runs a program that began before it, ms. A run takes microseconds. */
const QUIET_MS = 20;

/** What is written to. */
export interface BackendTarget {
  setBackend(number: number, record: Uint8Array): void;
}

interface Entry {
  incarnation: number;
  /** What flows' own parts of the outer header were made for. */
  outer: string;
  /** Of its flows. New whenever flows may have left it. */
  generation: number;
  /** Whether its flows stay with it, in user space too. */
  keeps: boolean;
  /** As the kernel has it, but for the generation; null: nothing was written. */
  record: Uint8Array | null;
  /** As it should be; null: nobody knows the way. */
  wanted: Uint8Array | null;
  /** Whether the kernel has the generation. */
  served: boolean;
  /** A record that is to be written when nobody reads the former any more. */
  waiting: NodeJS.Timeout | null;
}

/**
 * Keeps flow_backends of one cache at what the tables say. A backend's record is never changed while flows are served by it: the generation is
 * taken away, and 20 ms later the new record is written, then the generation. Meanwhile user space sends, which has the new way already.
 */
export class FlowBackends {
  private readonly entries = new Map<number, Entry>();
  private generations = 0;

  /** `ifindexOf`: of the interface behind a port; 0 for the cache's own, −1 while there is none. */
  constructor(
    private readonly target: BackendTarget,
    private readonly ifindexOf: (port: number) => number,
  ) {}

  /** Numbers that flows were ever sent to. */
  get numbers(): Iterable<number> {
    return this.entries.keys();
  }

  /** The workers have adopted these. */
  use(backends: Int32Array, services: Int32Array): void {
    const count = Math.min(Math.floor(backends.length / BackendField.STRIDE), FLOW_BACKENDS);
    for (const [number, entry] of this.entries) if (number >= count) this.leave(number, entry);
    for (let number = 0; number < count; number++) this.useOne(backends, services, number);
  }

  private useOne(backends: Int32Array, services: Int32Array, number: number): void {
    const at = number * BackendField.STRIDE;
    const flags = backends[at + BackendField.flags];
    const isServed = (flags & BackendFlag.valid) !== 0 && keepsFlows(backends, services, number);
    let entry = this.entries.get(number);
    if (!isServed || leftToUserSpace(backends, services, number) !== '') {
      if (entry) this.leave(number, entry);
      return;
    }
    const incarnation = backends[at + BackendField.incarnation];
    if (entry === undefined) {
      entry = {
        incarnation,
        outer: '',
        generation: 0,
        keeps: false,
        record: null,
        wanted: null,
        served: false,
        waiting: null,
      };
      this.entries.set(number, entry);
    }
    const outer = outerOf(backends, at);
    if (!entry.keeps || entry.incarnation !== incarnation || entry.outer !== outer) {
      this.pause(number, entry);
      entry.generation = ++this.generations;
      entry.incarnation = incarnation;
      entry.outer = outer;
      entry.keeps = true;
    }
    const ifindex = this.ifindexOf(backends[at + BackendField.port]);
    if ((flags & BackendFlag.resolved) === 0 || ifindex < 0) {
      this.pause(number, entry);
      entry.wanted = null;
      return;
    }
    const record = encodeFlowBackend(backends, number, 0, ifindex);
    const isSame = entry.wanted !== null && Buffer.compare(entry.wanted, record) === 0;
    entry.wanted = record;
    if (!isSame || (!entry.served && entry.waiting === null)) this.write(number, entry, record);
  }

  /** All flows are void, those that are installed from now on are not. */
  renew(): void {
    for (const [number, entry] of this.entries) {
      if (!entry.keeps) continue;
      this.pause(number, entry);
      entry.generation = ++this.generations;
      if (entry.wanted) this.write(number, entry, entry.wanted);
    }
  }

  /** Generation for a flow that was decided for this backend; 0: the cache does not take it now. */
  generationOf(number: number, incarnation: number): number {
    const entry = this.entries.get(number);
    return entry?.served && entry.incarnation === incarnation ? entry.generation : 0;
  }

  /** Whether flows with this generation are the backend's, also while they are not served. */
  keeps(number: number, generation: number): boolean {
    const entry = this.entries.get(number);
    return entry !== undefined && entry.keeps && entry.generation === generation;
  }

  private write(number: number, entry: Entry, record: Uint8Array): void {
    const wasServed = entry.served;
    this.pause(number, entry);
    const finish = (): void => {
      entry.waiting = null;
      entry.record = record;
      this.target.setBackend(number, record);
      this.target.setBackend(number, withGeneration(record, entry.generation));
      entry.served = true;
    };
    if (entry.record === null) finish();
    else if (!wasServed && Buffer.compare(entry.record, record) === 0) finish();
    else entry.waiting = setTimeout(finish, QUIET_MS);
  }

  /** Its flows are user space's, and stay with it there. */
  private pause(number: number, entry: Entry): void {
    if (entry.waiting) clearTimeout(entry.waiting);
    entry.waiting = null;
    if (!entry.served) return;
    entry.served = false;
    this.target.setBackend(number, withGeneration(entry.record!, 0));
  }

  /** Its flows go elsewhere. */
  private leave(number: number, entry: Entry): void {
    this.pause(number, entry);
    entry.keeps = false;
    entry.wanted = null;
  }

  close(): void {
    for (const entry of this.entries.values()) if (entry.waiting) clearTimeout(entry.waiting);
  }
}

/** What decides source port, flow label and host bits of a flow: encapsulation, addresses, and which of their bits are the flow's. */
function outerOf(backends: Int32Array, at: number): string {
  const isIpv6 = backends[at + BackendField.flags] & BackendFlag.ipv6;
  const fields = [BackendField.encap, BackendField.encapFlags].map((field) => backends[at + field]);
  const addresses = backends.subarray(at + BackendField.addr0, at + BackendField.source3 + 1);
  const entropy = backends.subarray(at + BackendField.entropy0, at + BackendField.entropy3 + 1);
  return [isIpv6, ...fields, ...addresses, ...entropy].join();
}

function withGeneration(record: Uint8Array, generation: number): Uint8Array {
  const copy = Uint8Array.from(record);
  new DataView(copy.buffer).setUint32(0, generation, true);
  return copy;
}

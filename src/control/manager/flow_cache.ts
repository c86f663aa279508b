import { bpfObjectPath, native, type BpfMap, type BpfObject } from '../../native.js';
import { isKernelError } from '../../errors.js';
import { encodeU32, sumPerCpu } from '../bpf_layout.js';
import { FLOW_KEY_BYTES, FLOW_PROGRAM, FLOW_STATS, FLOW_VALUE_BYTES, type FlowStat } from '../ebpf/flow_layout.js';
import { FlowFilter } from './flow_filter.js';

/** BPF_EXIST. */
const EXIST = 2;

/** Idle times after which a flow is user space's to judge, ms. */
export interface FlowIdleTimes {
  tcpMs: number;
  udpMs: number;
}

/** One loaded copy of bpf/flow_cache.bpf.c with its tables, for one interface. Needs CAP_BPF and CAP_NET_ADMIN. */
export class FlowCache {
  readonly object: BpfObject;
  private readonly flows: Readonly<Record<4 | 6, BpfMap>>;
  private readonly backends: BpfMap;
  private readonly sent: BpfMap;
  private readonly statistics: BpfMap;
  private readonly next: BpfMap;
  private readonly filter: FlowFilter;

  /** @throws KernelError with verifierLog */
  constructor({ tcpMs, udpMs }: FlowIdleTimes) {
    this.object = new (native().BpfObject)(bpfObjectPath('flow_cache'));
    try {
      this.object.setRodata({ tcp_idle_ms: tcpMs, udp_idle_ms: udpMs });
      this.object.load();
      this.flows = { 4: this.object.map('flows4'), 6: this.object.map('flows6') };
      this.backends = this.object.map('flow_backends');
      this.sent = this.object.map('flow_counts');
      this.statistics = this.object.map('flow_stats');
      this.next = this.object.map('flow_next');
      this.filter = new FlowFilter(this.object.map('flow_filter'));
    } catch (error) {
      this.object.close();
      throw error;
    }
  }

  /** Descriptor of the program. */
  get program(): number {
    return this.object.programFd(FLOW_PROGRAM);
  }

  /** From now on what is handed on goes to this program. */
  goOnTo(program: number): void {
    this.next.update(encodeU32(0), encodeU32(program));
  }

  /** Most flows of a family. */
  room(family: 4 | 6): number {
    return this.flows[family].maxEntries;
  }

  /** Puts flows in, or in the place of what was there; keys and values one after the other. */
  put(family: 4 | 6, keys: Uint8Array, values: Uint8Array): void {
    const bytes = FLOW_KEY_BYTES[family];
    // First: what the filter does not have is not looked up.
    for (let at = 0; at < keys.length; at += bytes) this.filter.add(family, keys.subarray(at, at + bytes));
    this.flows[family].updateBatch(keys, values);
  }

  /** The same of one flow that is still there; false: it is not. */
  replace(family: 4 | 6, key: Uint8Array, value: Uint8Array): boolean {
    try {
      this.flows[family].update(key, value, EXIST);
      return true;
    } catch (error) {
      if (isKernelError(error) && error.code === 'ENOENT') return false;
      throw error;
    }
  }

  remove(family: 4 | 6, key: Uint8Array): void {
    this.flows[family].delete(key);
  }

  /** Keys one after the other. */
  removeMany(family: 4 | 6, keys: Uint8Array): void {
    this.flows[family].deleteBatch(keys);
  }

  /** The next flows, as BpfMap.lookupBatch has it, for one reader. Room in `values` beyond that in `keys` is left alone. */
  read(
    family: 4 | 6,
    keys: Uint8Array,
    values: Uint8Array,
    from: number | null,
  ): { count: number; next: number | null } {
    const room = (keys.length / FLOW_KEY_BYTES[family]) * FLOW_VALUE_BYTES;
    if (from === null) this.filter.beginRound(family);
    const read = this.flows[family].lookupBatch(keys, values.subarray(0, room), from);
    this.filter.see(family, keys, read.count);
    if (read.next === null) this.filter.endRound(family);
    return read;
  }

  /** `record`: see encodeFlowBackend(). */
  setBackend(number: number, record: Uint8Array): void {
    this.backends.update(encodeU32(number), record);
  }

  /** Packets that a backend was sent from here, and their bytes from the inner IP header on. */
  countsOf(backend: number): number[] {
    const value = this.sent.lookup(encodeU32(backend));
    return value ? sumPerCpu(value, 2) : [0, 0];
  }

  stats(): Record<FlowStat, number> {
    const value = this.statistics.lookup(encodeU32(0));
    const sums = value ? sumPerCpu(value, FLOW_STATS.length) : [];
    return Object.fromEntries(FLOW_STATS.map((name, i) => [name, sums[i] ?? 0])) as Record<FlowStat, number>;
  }

  close(): void {
    this.object.close();
  }
}

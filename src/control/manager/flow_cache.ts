import { bpfObjectPath, native, type BpfMap, type BpfObject } from '../../native.js';
import { encodeU32, sumPerCpu } from '../bpf_layout.js';
import { drawFlowHashKeys, FlowHash } from '../ebpf/flow_hash.js';
import { FLOW_PROGRAM, FLOW_STATS, type FlowStat } from '../ebpf/flow_layout.js';
import { FlowSets } from './flow_sets.js';

const FAMILIES = [4, 6] as const;
/** Machines that never carry out a load before an earlier one. */
const ORDERED = ['x64', 'ia32'];

/** Idle times after which a flow is user space's to judge, ms. */
export interface FlowIdleTimes {
  tcpMs: number;
  udpMs: number;
}

/** One loaded copy of bpf/flow_cache.bpf.c with its tables, for one interface. Needs CAP_BPF and CAP_NET_ADMIN. */
export class FlowCache {
  readonly object: BpfObject;
  /** Good until `close`. */
  readonly flows: Readonly<Record<4 | 6, FlowSets>>;
  private readonly maps: BpfMap[] = [];
  private readonly backends: BpfMap;
  private readonly sent: BpfMap;
  private readonly statistics: BpfMap;
  private readonly next: BpfMap;

  /** @throws KernelError with verifierLog */
  constructor({ tcpMs, udpMs }: FlowIdleTimes) {
    this.object = new (native().BpfObject)(bpfObjectPath('flow_cache'));
    try {
      const keys = drawFlowHashKeys();
      this.object.setRodata({ tcp_idle_ms: tcpMs, udp_idle_ms: udpMs, ...flowSettings(keys) });
      this.object.load();
      const hash = new FlowHash(keys);
      const [four, six] = FAMILIES.map((family) => {
        const words = this.words(`flows${family}`);
        return new FlowSets(family, words, this.words(`flow_filter${family}`), hash);
      });
      this.flows = { 4: four, 6: six };
      this.backends = this.object.map('flow_backends');
      this.sent = this.object.map('flow_counts');
      this.statistics = this.object.map('flow_stats');
      this.next = this.object.map('flow_next');
    } catch (error) {
      this.close();
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

  private words(name: string): Int32Array {
    const map = this.object.map(name);
    this.maps.push(map);
    return new Int32Array(map.memory());
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
    for (const map of this.maps) map.close();
    this.object.close();
  }
}

/** Settings of the program that go with the sets: keys of their hash, and what the machine's order of loads asks for. */
export function flowSettings(keys: readonly number[]): Record<string, number> {
  const settings = keys.map((key, i) => [`hash_key_${i}`, key] as const);
  return { ...Object.fromEntries(settings), loads_reorder: ORDERED.includes(process.arch) ? 0 : 1 };
}

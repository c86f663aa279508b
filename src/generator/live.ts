import { native, type BpfMap, type BpfProgram, type LiveFrames } from '../native.js';
import { encodeU32 } from '../control/bpf_layout.js';
import { MapType } from '../control/ebpf/map_type.js';
import { systemIp, type IpCommand } from '../control/ip_command.js';
import { checkInterface } from './check_interface.js';
import type { Engine, LoadResult, Progress, RunningLoad } from './engine.js';
import { frameTemplate } from './frame.js';
import { interfaceCounts, type InterfaceCounts } from './interface_counts.js';
import { checkLoad, type Load } from './load.js';
import { State, varyProgram } from './vary.js';

/** How often is looked whether it has ended. */
const LOOK_MS = 10;

/**
 * Sends from the kernel: BPF_PROG_TEST_RUN with live frames of a program that makes each frame (Linux 5.18). The fastest way into a veth, whose other end
 * needs an XDP program in native mode, or GRO (else the veth takes no such frames). Any driver with ndo_xdp_xmit will do. Needs root.
 */
export class LiveEngine implements Engine {
  constructor(private readonly ip: IpCommand = systemIp()) {}

  async start(load: Load): Promise<RunningLoad> {
    checkLoad(load);
    const { ifindex } = checkInterface(load);
    return new LiveLoad(load, ifindex, this.ip, await interfaceCounts(this.ip, load.interface));
  }
}

class LiveLoad implements RunningLoad {
  readonly ended: Promise<LoadResult>;
  private readonly state: BpfMap;
  private readonly frames: LiveFrames;
  private stopped = false;

  constructor(
    private readonly load: Load,
    ifindex: number,
    private readonly ip: IpCommand,
    private readonly before: InterfaceCounts,
  ) {
    const programs: BpfProgram[] = [];
    this.state = native().createMap({
      type: MapType.array,
      name: 'gen_state',
      keySize: 4,
      valueSize: State.BYTES,
      maxEntries: 1,
    });
    try {
      const parts = load.sizes.map(({ bytes, weight }, i) => {
        const template = frameTemplate(load, bytes);
        const instructions = varyProgram(load, template, i, this.state.fd);
        const program = native().loadProgram({
          type: 'xdp',
          name: 'sluice_gen',
          license: 'Dual BSD/GPL',
          instructions,
        });
        programs.push(program);
        return { program: program.fd, frame: template.bytes, weight };
      });
      this.frames = new (native().LiveFrames)({
        parts,
        counters: this.state.fd,
        ifindex,
        packets: load.packets,
        durationMs: Math.ceil(load.durationMs),
        packetsPerSecond: load.packetsPerSecond,
        ...(load.cpu !== null && { cpu: load.cpu }),
      });
    } catch (error) {
      this.state.close();
      throw error;
    } finally {
      // The load has descriptors of its own.
      for (const program of programs) program.close();
    }
    this.ended = this.watch();
    // Who does not wait for the end need not hear of it.
    this.ended.catch(() => undefined);
  }

  progress(): Progress {
    const packets = this.sizes().reduce((sum, count) => sum + count, 0);
    return { packets, elapsedMs: this.frames.progress().elapsedNs / 1e6 };
  }

  stop(): void {
    this.stopped = true;
    this.frames.stop();
  }

  private async watch(): Promise<LoadResult> {
    try {
      while (this.frames.progress().running) await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
      const { elapsedNs, cpuNs } = this.frames.progress();
      const counts = this.sizes();
      const bySize = this.load.sizes.map(({ bytes }, i) => ({ bytes, packets: counts[i] }));
      const packets = counts.reduce((sum, count) => sum + count, 0);
      const after = await interfaceCounts(this.ip, this.load.interface);
      return {
        packets,
        bytes: bySize.reduce((sum, size) => sum + size.bytes * size.packets, 0),
        bySize,
        elapsedMs: elapsedNs / 1e6,
        cpuMs: cpuNs / 1e6,
        ended: packets === this.load.packets ? 'count' : this.stopped ? 'stopped' : 'time',
        sent: after.sent - this.before.sent,
        dropped: after.dropped - this.before.dropped,
      };
    } finally {
      this.frames.close();
      this.state.close();
    }
  }

  /** Packets of each size so far: the program's own count. */
  private sizes(): number[] {
    const value = this.state.lookup(encodeU32(0))!;
    const view = new DataView(value.buffer, value.byteOffset, value.byteLength);
    const at = (i: number): number => State.packets + 8 * i;
    return this.load.sizes.map((_, i) => Number(view.getBigUint64(at(i), true)));
  }
}

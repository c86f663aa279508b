import { endianness } from 'node:os';
import { interpret } from '../../shared/cbpf/interpret.js';
import type { Program } from '../../shared/cbpf/program.js';
import { loadXdp, type LoadedXdp } from './xdp_program.js';

/** Length on the wire, uint32 in host order, in front of every frame: what BPF_LEN reads. */
const METADATA = 4;

/**
 * Lengths that the kernel runs a test with (bpf_test_init in net/bpf/test_run.c): not less than an Ethernet header; and what a page of 4096 bytes has
 * beside headroom and skb_shared_info, which differs: this is below all.
 */
export const FRAME_LEAST = 14;
export const FRAME_MOST = 3072 - METADATA;

export interface TestFrame {
  readonly data: DataView;
  /** Length on the wire: that of `data`, or more. */
  readonly wireLength: number;
}

export type KernelRun =
  | { ok: true; /** What the program returned for each frame, int32. */ results: Int32Array }
  | { ok: false; error: string };

/**
 * Runs classic programs, as eBPF, in the kernel, over the same frames again and again. The frames are copied once. Those that the kernel runs no test with,
 * `left`, are given to the interpreter.
 */
export class KernelRuns {
  /** Positions of frames that are too short or too long. */
  readonly left: readonly number[];
  private readonly taken: readonly number[];
  private readonly bytes: Uint8Array;
  private readonly ends: Uint32Array;

  constructor(private readonly frames: readonly TestFrame[]) {
    const fits = ({ data }: TestFrame): boolean => data.byteLength >= FRAME_LEAST && data.byteLength <= FRAME_MOST;
    const positions = [...frames.keys()];
    this.left = positions.filter((i) => !fits(frames[i]));
    this.taken = positions.filter((i) => fits(frames[i]));
    this.bytes = new Uint8Array(this.taken.reduce((sum, i) => sum + METADATA + frames[i].data.byteLength, 0));
    this.ends = new Uint32Array(this.taken.length);
    const view = new DataView(this.bytes.buffer);
    let at = 0;
    this.taken.forEach((position, i) => {
      const { data, wireLength } = frames[position];
      view.setUint32(at, wireLength, endianness() === 'LE');
      this.bytes.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), at + METADATA);
      at += METADATA + data.byteLength;
      this.ends[i] = at;
    });
  }

  /** Takes a program that has passed checkProgram, or has a loop. @throws KernelError EPERM without CAP_BPF and CAP_NET_ADMIN. */
  run(program: Program): KernelRun {
    const loaded: LoadedXdp = loadXdp(program, 'metadata');
    if (!loaded.ok) return loaded;
    const results = new Int32Array(this.frames.length);
    try {
      const ran = loaded.program.runFrames(this.bytes, this.ends, METADATA);
      this.taken.forEach((position, i) => (results[position] = ran[i]));
    } finally {
      loaded.program.close();
    }
    for (const position of this.left) {
      const { data, wireLength } = this.frames[position];
      results[position] = interpret(program, data, 0, data.byteLength, wireLength);
    }
    return { ok: true, results };
  }
}

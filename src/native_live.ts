/** Of the native addon (native.ts): packets that XDP programs make. */

/** One kind of frame of a load. */
export interface LivePart {
  /** Descriptor of an XDP program; it may be closed once the load has begun. */
  program: number;
  /** What the program finds, 14 bytes or more; the kernel's limit is a page less some 700 bytes. */
  frame: Uint8Array;
  /** Frames of this kind for each so many of the others; default 1. */
  weight?: number;
}

export interface LiveFramesOptions {
  parts: readonly LivePart[];
  /**
   * Descriptor of an array map whose value of key 0 begins with a __u64 for each part, the frames that its program has run over: how far a run came
   * that SIGSTOP has ended. Without it such a signal ends the load, with EINTR.
   */
  counters?: number;
  /** What XDP_TX sends out of, in the namespace of the calling thread. */
  ifindex: number;
  /** Frames that the kernel makes and sends at a time, 1-256; default 64. */
  batchSize?: number;
  /** Frames in all; 0, the default: as many as the time allows. */
  packets?: number;
  /** Ends it, at most an hour. */
  durationMs: number;
  /** 0, the default: as fast as it goes. */
  packetsPerSecond?: number;
  /** CPU for the thread, and so for the softirqs that it raises. */
  cpu?: number;
}

export interface LiveProgress {
  /** Frames that were made and that the program ran over. */
  packets: number;
  /** BPF_PROG_TEST_RUN calls that they took. */
  runs: number;
  elapsedNs: number;
  /** CPU time of the thread, including the softirqs that ran in it unless the kernel has CONFIG_IRQ_TIME_ACCOUNTING. */
  cpuNs: number;
  running: boolean;
}

/**
 * A load of packets: BPF_PROG_TEST_RUN with live frames (Linux 5.18), again and again on a thread of its own, which begins with the constructor
 * and ends by count, by time, by stop() and with the process. Pages are used again as the last receiver left them, so a program writes all that it
 * depends on.
 */
export interface LiveFrames {
  /** Throws what ended it, if that was an error of the kernel. */
  progress(): LiveProgress;
  /** Asks it to end, within some 10 ms; does not wait. */
  stop(): void;
  /** Ends it and waits for that, some 10 ms. */
  close(): void;
}

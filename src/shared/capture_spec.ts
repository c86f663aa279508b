/** What a capture takes: from the control plane, which has checked it, to the workers. */
import type { RuleProgram } from './rule_layout.js';

/** Which of a packet's two frames: as it came in, as it leaves. */
export const enum CapturePoint {
  in = 1,
  out = 2,
  both = 3,
}

/**
 * One capture. All conditions must hold. Numbers are those of tables and counters, and stay with their names over reloads. A worker judges for itself:
 * sampling, first packets and rate are by worker.
 */
export interface CaptureSpec {
  /** Number among the captures that run, below MAX_CAPTURES. */
  capture: number;
  /** From 1, counts up with every capture of the daemon: another one under the same number starts anew. */
  serial: number;
  points: CapturePoint;
  /** Bit by port number that packets come in on. */
  ports: number;
  /** Bit by Verdict; 0: any. */
  verdicts: number;
  /** DropReasons; []: any. */
  reasons: number[];
  /** Rule numbers; null: any. Of a rule that samples: packets that it has sampled; of others: packets that it matched. */
  rules: number[] | null;
  /** Service numbers; null: any. */
  services: number[] | null;
  /** Run over the frame as it came in, link 'ethernet'; null: any frame. */
  program: RuleProgram | null;
  /** Of what meets the conditions: one packet in so many, and the first so many of each flow. Both 0: all. */
  oneIn: number;
  first: number;
  /** Most packets a second and worker; 0: no limit. */
  rate: number;
  /** Most bytes of a frame. */
  snaplen: number;
}

/** What a worker is told whenever a capture starts or ends: all that run now. */
export interface CaptureCommand {
  kind: 'capture';
  /** Counts up with every command; see CaptureRingReader.version. */
  version: number;
  /** Where the worker writes; the same for as long as it lives. */
  ring: SharedArrayBuffer;
  captures: CaptureSpec[];
}

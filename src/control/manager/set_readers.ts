/** When workers have let go of what a set's writer took out. */
import { CountingReaders, type IpSet, type Readers } from '../sets/index.js';

/** A worker's thread, as far as sets are concerned. */
export interface SetWorker {
  /** Of the thread that runs, an object that is its own; null: none runs, so none looks anything up. */
  readonly thread: object | null;
  /** Its heartbeat: counts up between bursts. */
  readonly beats: number;
  /** Of the tables that it has. */
  readonly generation: number;
}

interface Mark {
  counts: unknown;
  version: number;
}

/** The workers as readers of one set: between bursts since the mark, with the buffers of the version that was newest then. */
export class SetReaders implements Readers {
  /** Newest version that was handed over, and the first generation that has it; null: no worker knows the set. */
  private handed: { version: number; generation: number } | null = null;
  private readonly counting: CountingReaders;

  constructor(
    private readonly set: IpSet,
    private readonly workers: () => readonly SetWorker[],
  ) {
    this.counting = new CountingReaders(
      () => new Map(workers().flatMap(({ thread, beats }) => (thread === null ? [] : [[thread, beats]]))),
    );
  }

  publishes(version: number, generation: number): void {
    if (this.handed === null || version > this.handed.version) this.handed = { version, generation };
  }

  /** The set has outgrown the buffers that workers have. */
  get behind(): boolean {
    return this.handed !== null && this.handed.version < this.set.version;
  }

  mark(): Mark {
    return { counts: this.counting.mark(), version: this.set.version };
  }

  passed(mark: unknown): boolean {
    const { handed } = this;
    if (handed === null) return true;
    const { counts, version } = mark as Mark;
    if (handed.version < version || !this.counting.passed(counts)) return false;
    return this.workers().every(({ thread, generation }) => thread === null || generation >= handed.generation);
  }
}

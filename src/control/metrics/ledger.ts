/**
 * Counters by name. The data plane counts by number (service 3, rule 7), and a reload may give a number to another
 * name. A ledger keeps each name's sum through that: it never goes down, also when a name is removed and comes back.
 */

/** Names that were removed are remembered up to this many; the oldest is forgotten first. */
const MAX_RETIRED = 16384;

interface Entry {
  /** Number that the name has; -1 while it has none. */
  slot: number;
  /** Sum that the name had before it got its number, less what the number had counted for others by then. */
  readonly offset: Float64Array;
}

/** Where a name counts. */
export interface Assignment {
  key: string;
  slot: number;
}

export class CounterLedger {
  private readonly entries = new Map<string, Entry>();
  private readonly owners = new Map<number, string>();
  /** Numbers that somebody had before. What a number counted ahead of that is its first owner's. */
  private readonly used = new Set<number>();

  /**
   * @param fields counters of each name
   * @param sum what a number has counted in a field since the process began, over all workers; never goes down
   */
  constructor(
    private readonly fields: number,
    private readonly sum: (slot: number, field: number) => number,
  ) {}

  /**
   * Says who has which number from now on. A name that is not listed keeps its number until another name gets it, so
   * that packets of workers that have not yet adopted the change are still counted where they belong.
   */
  assign(list: readonly Assignment[]): void {
    const listed = new Set<string>();
    for (const { key, slot } of list) {
      listed.add(key);
      if (this.owners.get(slot) !== key) this.give(key, slot);
    }
    this.forget(listed);
  }

  /** Sum of a field over the name's whole life; 0 for a name never seen. */
  value(key: string, field: number): number {
    const entry = this.entries.get(key);
    if (entry === undefined) return 0;
    return entry.slot < 0 ? entry.offset[field] : entry.offset[field] + this.sum(entry.slot, field);
  }

  private give(key: string, slot: number): void {
    const owner = this.owners.get(slot);
    if (owner !== undefined) this.release(this.entries.get(owner));
    let entry = this.entries.get(key);
    if (entry === undefined) {
      entry = { slot: -1, offset: new Float64Array(this.fields) };
      this.entries.set(key, entry);
    }
    this.release(entry);
    if (this.used.has(slot)) {
      for (let field = 0; field < this.fields; field++) entry.offset[field] -= this.sum(slot, field);
    }
    this.used.add(slot);
    entry.slot = slot;
    this.owners.set(slot, key);
  }

  /** Takes the number away: from here on the entry's offset is its whole sum. */
  private release(entry: Entry | undefined): void {
    if (entry === undefined || entry.slot < 0) return;
    for (let field = 0; field < this.fields; field++) entry.offset[field] += this.sum(entry.slot, field);
    this.owners.delete(entry.slot);
    entry.slot = -1;
  }

  private forget(listed: Set<string>): void {
    let surplus = this.entries.size - listed.size - MAX_RETIRED;
    if (surplus <= 0) return;
    for (const [key, entry] of this.entries) {
      if (listed.has(key)) continue;
      if (entry.slot >= 0) this.owners.delete(entry.slot);
      this.entries.delete(key);
      if (--surplus <= 0) return;
    }
  }
}

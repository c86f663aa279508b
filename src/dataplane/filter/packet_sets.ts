/** Sets as a worker's rules and stages ask them. */
import type { Tables } from '../../shared/layout.js';
import {
  clockFrom,
  SetSides,
  SetView,
  type SecondsClock,
  type SetDrop,
  type SetTable,
} from '../../shared/sets/index.js';
import type { Packet } from '../packet/packet.js';
import { DropReason } from '../verdict.js';
import { StageVerdict, type Mitigation, type MitigationStage } from './mitigation.js';
import type { PacketSet } from './rule_parts.js';

export type SetTables = Pick<Tables, 'sets' | 'setDrops' | 'setAllows' | 'setClock'>;

/** Seconds of the burst in hand. */
class BurstSeconds {
  private seconds = 0;
  private lastMs = 0;
  private begun = false;

  constructor(
    private readonly clock: SecondsClock,
    private readonly nowMs: () => number,
  ) {}

  now(): number {
    const nowMs = this.nowMs() | 0;
    if (nowMs !== this.lastMs || !this.begun) {
      this.begun = true;
      this.lastMs = nowMs;
      this.seconds = this.clock.advance(nowMs);
    }
    return this.seconds;
  }
}

/** A set, and how many packets were found in it. */
export class CountedSet implements PacketSet {
  private readonly view: SetView;
  private readonly matches: Float64Array;

  constructor(
    table: SetTable,
    worker: number,
    private readonly time: BurstSeconds,
  ) {
    this.view = new SetView(table.buffers, table.counters[worker]);
    this.matches = new Float64Array(table.matches[worker]);
  }

  /** `sides`: SetSides. */
  has(packet: Packet, sides: number): boolean {
    if (this.view.match(packet, sides, this.time.now()) <= 0) return false;
    this.matches[0]++;
    this.matches[1] += packet.l3Length;
    return true;
  }
}

/** By position in Tables.sets. `nowMs`: the burst's clock. */
export function packetSets(
  { sets, setClock }: Pick<SetTables, 'sets' | 'setClock'>,
  worker: number,
  nowMs: () => number,
): CountedSet[] {
  if (sets.length === 0) return [];
  const time = new BurstSeconds(clockFrom(new Int32Array(setClock)), nowMs);
  return sets.map((table) => new CountedSet(table, worker, time));
}

/** Drops packets that are in one of the sets that say so. */
export class SetStage implements MitigationStage {
  constructor(
    private readonly drops: readonly SetDrop[],
    private readonly sets: readonly PacketSet[],
  ) {}

  judge(packet: Packet): number {
    const { drops } = this;
    for (let i = 0; i < drops.length; i++) {
      if (this.sets[drops[i].set].has(packet, drops[i].sides)) return DropReason.set;
    }
    return StageVerdict.Continue;
  }
}

/** The allow list where sets are on it, behind its prefixes. */
export class AllowStage implements NonNullable<Mitigation['allow']> {
  readonly counts = true;

  /** `prefixes`: null for none. */
  constructor(
    private readonly prefixes: Mitigation['allow'],
    private readonly sets: readonly PacketSet[],
  ) {}

  has(packet: Packet): boolean {
    if (this.prefixes !== null && this.prefixes.has(packet)) return true;
    const { sets } = this;
    for (let i = 0; i < sets.length; i++) if (sets[i].has(packet, SetSides.source)) return true;
    return false;
  }
}

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
import { StageVerdict, type AllowStage, type MitigationStage } from './mitigation.js';
import type { PlainHosts, PlainSet } from './plain_stages.js';
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
export class CountedSet implements PacketSet, PlainSet {
  readonly isLarge4: boolean;
  readonly hosts4: PlainHosts | null;
  readonly countsEntries4: boolean;
  private readonly view: SetView;
  private readonly matches: Float64Array;

  constructor(
    table: SetTable,
    worker: number,
    private readonly time: BurstSeconds,
  ) {
    this.view = new SetView(table.buffers, table.counters[worker]);
    this.isLarge4 = this.view.isLarge4;
    this.hosts4 = this.view.hasPort ? null : this.view.hosts4;
    this.countsEntries4 = this.view.countsEntries4;
    this.matches = new Float64Array(table.matches[worker]);
  }

  /** `sides`: SetSides. */
  has(packet: Packet, sides: number): boolean {
    if (this.view.match(packet, sides, this.time.now()) <= 0) return false;
    this.matches[0]++;
    this.matches[1] += packet.l3Length;
    return true;
  }

  touch4(src: number, dst: number, protocol: number, ports: number, sides: number): number {
    const { view } = this;
    const address = (sides & SetSides.addressDestination) !== 0 ? dst : src;
    return view.touch4(address, view.hasPort === true ? portKey(protocol, ports, sides) : 0);
  }

  find4(src: number, dst: number, protocol: number, ports: number, sides: number): number {
    const { view } = this;
    const address = (sides & SetSides.addressDestination) !== 0 ? dst : src;
    return view.lookup4(address, view.hasPort === true ? portKey(protocol, ports, sides) : 0, this.time.now());
  }

  find6(bytes: DataView, at: number, protocol: number, sides: number): number {
    const { view } = this;
    const address = (sides & SetSides.addressDestination) !== 0 ? at + 16 : at;
    return view.lookup6(
      bytes.getInt32(address),
      bytes.getInt32(address + 4),
      bytes.getInt32(address + 8),
      bytes.getInt32(address + 12),
      view.hasPort === true ? portKey(protocol, bytes.getInt32(at + 32), sides) : 0,
      this.time.now(),
    );
  }

  count(found: number, family: 4 | 6, bytes: number): void {
    this.view.count(found, family, bytes);
    if (found > 0) this.countAll(1, bytes);
  }

  countAll(packets: number, bytes: number): void {
    this.matches[0] += packets;
    this.matches[1] += bytes;
  }
}

/** As portKeyOf, of TCP and UDP. */
function portKey(protocol: number, ports: number, sides: number): number {
  return (protocol << 16) | ((sides & SetSides.portDestination) !== 0 ? ports & 0xffff : ports >>> 16);
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
export class AllowSets implements AllowStage {
  readonly counts = true;
  readonly prefixes: AllowStage['prefixes'];

  /** `first`: the prefixes; null for none. */
  constructor(
    private readonly first: AllowStage | null,
    private readonly sets: readonly PacketSet[],
  ) {
    this.prefixes = first?.prefixes ?? null;
  }

  has(packet: Packet): boolean {
    if (this.first !== null && this.first.has(packet)) return true;
    const { sets } = this;
    for (let i = 0; i < sets.length; i++) if (sets[i].has(packet, SetSides.source)) return true;
    return false;
  }
}

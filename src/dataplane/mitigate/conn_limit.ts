import type { ConnLimitShared } from '../../shared/limits/conn_limit.js';
import { TableEntry } from '../../shared/limits/key_table.js';
import type { Packet } from '../packet/packet.js';
import { KeyTable } from './key_table.js';
import { LimitVerdict } from './limit_verdict.js';
import { maskWords } from './prefix_mask.js';

/**
 * connlimit in one worker (spec and semantics: src/shared/limits/conn_limit.ts). The connection tracker says what opens and closes;
 * here it is only counted, by prefix, exactly and over all workers.
 *
 * - A rule that drops above the limit asks `open()` for the packet that opens a connection: it counts the connection only when it is within.
 * - Any other rule asks `judge()`, and the tracker calls `opened()` once the packet has got through.
 * - Whatever was counted is given back with `closed()`, by the worker that counted it.
 */
export class ConnLimit {
  /** Packets that found the table full. */
  hotDropped = 0;
  /** Connections that were not counted and are above because a dead worker held their lock. */
  unlocked = 0;

  private readonly table: KeyTable;
  private readonly limit: number;
  private readonly bySource: boolean;
  private readonly mask4: number;
  private readonly mask6: Int32Array;
  private readonly mine: number;
  private readonly workers: number;

  /** `worker`: this worker's number, 0 to `workers` - 1; `workers` as the table was made for. */
  constructor(shared: ConnLimitShared, worker: number, workers: number) {
    this.table = new KeyTable(shared.table, worker, workers);
    this.limit = shared.limit;
    this.bySource = shared.side === 'source';
    this.mask4 = maskWords(shared.mask4, 4)[0];
    this.mask6 = maskWords(shared.mask6, 6);
    this.mine = TableEntry.payload + worker;
    this.workers = workers;
  }

  /** Prefixes in the table. */
  get count(): number {
    return this.table.count;
  }

  /** Counts the connection that this packet opens, unless it would be above the limit. */
  open(packet: Packet): LimitVerdict {
    return this.add(packet, this.limit);
  }

  /** Counts the connection that this packet opened. False: the table is full, and it is not counted; do not close it. */
  opened(packet: Packet): boolean {
    return this.add(packet, 0x7fffffff) === LimitVerdict.within;
  }

  /** What the limit says of a packet; `opens`: of a connection that is not counted yet. Counts nothing. */
  judge(packet: Packet, opens: boolean): LimitVerdict {
    const connections = this.connections(packet) + (opens ? 1 : 0);
    return connections > this.limit ? LimitVerdict.above : LimitVerdict.within;
  }

  /** Open connections of the packet's prefix. */
  connections(packet: Packet): number {
    if (packet.family === 0) return 0;
    this.setKey(packet);
    const { table } = this;
    const entry = table.find();
    if (entry < 0) return 0;
    const total = entry === 0 ? 0 : this.sum(entry);
    table.unlock();
    return total;
  }

  /**
   * Gives back a connection that `open` or `opened` counted here. `family` and the address on the side that is counted, as it stood in the packet: network
   * byte order, IPv4 in the first word.
   */
  closed(family: number, a0: number, a1: number, a2: number, a3: number): void {
    this.setAddress(family, a0, a1, a2, a3);
    const { table } = this;
    const entry = table.find();
    if (entry < 0) return;
    if (entry !== 0) {
      const at = entry + this.mine;
      if (table.words[at] > 0) table.words[at]--;
      if (this.sum(entry) === 0) table.remove(entry);
    }
    table.unlock();
  }

  /** Takes back all that this worker's number has counted: for a worker that starts with no connections, after one that was lost. */
  forget(): void {
    const { table } = this;
    const { words } = table;
    for (let i = 0, used = table.used; i < used; i++) {
      const entry = table.entryAt(i);
      if (words[entry + this.mine] === 0 || !table.load(entry)) continue;
      const found = table.find();
      if (found < 0) continue;
      if (found === entry) {
        words[entry + this.mine] = 0;
        if (this.sum(entry) === 0) table.remove(entry);
      }
      table.unlock();
    }
  }

  private add(packet: Packet, limit: number): LimitVerdict {
    if (packet.family === 0) return LimitVerdict.within;
    this.setKey(packet);
    const { table } = this;
    let entry = table.find();
    if (entry < 0) {
      this.unlocked++;
      return LimitVerdict.above;
    }
    if (entry === 0) {
      if (limit === 0) {
        table.unlock();
        return LimitVerdict.above;
      }
      entry = table.insert();
      if (entry === 0) {
        table.unlock();
        this.hotDropped++;
        return LimitVerdict.hotDrop;
      }
      for (let i = 0; i < this.workers; i++) table.words[entry + TableEntry.payload + i] = 0;
    }
    const within = this.sum(entry) < limit;
    if (within) table.words[entry + this.mine]++;
    table.unlock();
    return within ? LimitVerdict.within : LimitVerdict.above;
  }

  private sum(entry: number): number {
    const { words } = this.table;
    let total = 0;
    for (let i = 0, at = entry + TableEntry.payload; i < this.workers; i++, at++) total += words[at];
    return total;
  }

  private setKey(packet: Packet): void {
    if (this.bySource) this.setAddress(packet.family, packet.src0, packet.src1, packet.src2, packet.src3);
    else this.setAddress(packet.family, packet.dst0, packet.dst1, packet.dst2, packet.dst3);
  }

  private setAddress(family: number, a0: number, a1: number, a2: number, a3: number): void {
    const { table, mask6 } = this;
    table.family = family;
    table.src0 = a0 & (family === 4 ? this.mask4 : mask6[0]);
    table.src1 = family === 4 ? 0 : a1 & mask6[1];
    table.src2 = family === 4 ? 0 : a2 & mask6[2];
    table.src3 = family === 4 ? 0 : a3 & mask6[3];
  }
}

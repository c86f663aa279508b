import { BYTE_SHIFT, HashLimitMode, type HashLimitRun, type HashLimitShared } from '../../shared/limits/hash_limit.js';
import { TableEntry, TableHeader } from '../../shared/limits/key_table.js';
import type { Packet } from '../packet/packet.js';
import { KeyTable } from './key_table.js';
import { LimitVerdict } from './limit_verdict.js';
import { maskWords } from './prefix_mask.js';

/** Words of an entry behind its key. `credit` is a float64: it starts at an even word. */
const enum Entry {
  /** When credit was added last, or when the running interval began, ms. */
  since = 11,
  /** Credit; with rate match, what the running interval has seen. */
  credit = 12,
  /** When the key is forgotten, ms. */
  expires = 14,
  /** Bytes: refills that are left. Rate match: 1 when the interval before was above the rate. */
  left = 15,
}

/** Entries that one tick looks at: some 20 us. */
const SWEEP_MOST = 4096;

/** A clock this far back, ms, has wrapped while nobody called; less is another worker's burst that began a little later. */
const SKEW_MS = 60_000;

/**
 * hashlimit in one worker (spec, semantics and source: src/shared/limits/hash_limit.ts). Credits are those of the kernel at 1000 Hz,
 * counted in the time between two packets, so that a packet costs an integer; float64 keeps them exact to far below one packet.
 *
 * A key is forgotten at the first multiple of the collection interval that finds it idle for its life: as the kernel's collector does it, to
 * the packet. Its place is free again when the sweep comes by, at most about one interval later.
 */
export class HashLimit {
  /** Packets that found the table full. */
  hotDropped = 0;
  /** Packets let through because a dead worker held their lock. */
  unlocked = 0;

  private readonly table: KeyTable;
  private readonly src4: Int32Array;
  private readonly src6: Int32Array;
  private readonly dst4: Int32Array;
  private readonly dst6: Int32Array;
  private readonly portMask: number;
  private readonly run: HashLimitRun;
  private readonly workers: number;
  private readonly aheadMost: number;
  private nowMs = 0;
  private epochMs = 0;
  private started = false;

  /** `worker`: this worker's number, 0 to `workers` - 1. */
  constructor({ run, table }: HashLimitShared, worker: number, workers: number) {
    const { mode } = run;
    this.run = run;
    this.workers = workers;
    this.aheadMost = run.expireMs + run.gcIntervalMs + SKEW_MS;
    this.table = new KeyTable(table, worker, workers);
    this.src4 = maskWords((mode & HashLimitMode.srcip) !== 0 ? run.srcMask4 : 0, 4);
    this.src6 = maskWords((mode & HashLimitMode.srcip) !== 0 ? run.srcMask6 : 0, 6);
    this.dst4 = maskWords((mode & HashLimitMode.dstip) !== 0 ? run.dstMask4 : 0, 4);
    this.dst6 = maskWords((mode & HashLimitMode.dstip) !== 0 ? run.dstMask6 : 0, 6);
    this.portMask =
      ((mode & HashLimitMode.srcport) !== 0 ? -65536 : 0) | ((mode & HashLimitMode.dstport) !== 0 ? 0xffff : 0);
  }

  /** Keys in the table. */
  get count(): number {
    return this.table.count;
  }

  /** Judges one packet and counts it. What is not IP has no key and is within. `nowMs`: monotonic, wrapping int32. */
  judge(packet: Packet, nowMs: number): LimitVerdict {
    if (packet.family === 0) return LimitVerdict.within;
    if (nowMs !== this.nowMs || !this.started) this.tick(nowMs);
    const { table } = this;
    this.setKey(packet);
    let entry = table.find();
    if (entry < 0) {
      this.unlocked++;
      return LimitVerdict.within;
    }
    if (entry === 0) {
      entry = table.insert();
      if (entry === 0) {
        table.unlock();
        this.hotDropped++;
        return LimitVerdict.hotDrop;
      }
      this.begin(entry, nowMs);
    } else if (!this.alive(entry)) {
      this.begin(entry, nowMs);
    } else {
      this.advance(entry, nowMs);
    }
    table.words[entry + Entry.expires] = (nowMs + this.run.expireMs) | 0;
    const within = this.run.rateMatch
      ? this.countInterval(entry, packet.l3Length)
      : this.run.bytes
        ? this.payBytes(entry, packet.l3Length)
        : this.pay(entry, this.run.cost);
    table.unlock();
    return within ? LimitVerdict.within : LimitVerdict.above;
  }

  /** Advances the clock and forgets some idle keys: at least once in 24 days, better each round. judge() does it as well. */
  tick(nowMs: number): void {
    const { words } = this.table;
    if (!this.started) this.start(nowMs);
    const elapsed = (nowMs - this.nowMs) | 0;
    this.nowMs = nowMs;
    let epoch = Atomics.load(words, TableHeader.epochMs);
    const past = (nowMs - epoch) | 0;
    const interval = this.run.gcIntervalMs;
    if (past >= interval || past < -SKEW_MS) {
      const next = past < 0 ? nowMs : (epoch + past - (past % interval)) | 0;
      const seen = Atomics.compareExchange(words, TableHeader.epochMs, epoch, next);
      epoch = seen === epoch ? next : seen;
    }
    this.epochMs = epoch;
    if (elapsed > 0) this.sweep(elapsed);
  }

  private start(nowMs: number): void {
    const { words } = this.table;
    this.started = true;
    this.nowMs = nowMs;
    if (Atomics.compareExchange(words, TableHeader.clock, 0, 1) === 0) {
      Atomics.store(words, TableHeader.epochMs, nowMs);
      Atomics.store(words, TableHeader.clock, 2);
    }
    // Two stores: who comes second waits a moment, unless the first died between them.
    for (let i = 0; i < 1000 && Atomics.load(words, TableHeader.clock) !== 2; i++);
  }

  private setKey(packet: Packet): void {
    const { table } = this;
    table.family = packet.family;
    table.ports = packet.ports & this.portMask;
    if (packet.family === 4) {
      table.src0 = packet.src0 & this.src4[0];
      table.dst0 = packet.dst0 & this.dst4[0];
      table.src1 = table.src2 = table.src3 = 0;
      table.dst1 = table.dst2 = table.dst3 = 0;
      return;
    }
    const { src6, dst6 } = this;
    table.src0 = packet.src0 & src6[0];
    table.src1 = packet.src1 & src6[1];
    table.src2 = packet.src2 & src6[2];
    table.src3 = packet.src3 & src6[3];
    table.dst0 = packet.dst0 & dst6[0];
    table.dst1 = packet.dst1 & dst6[1];
    table.dst2 = packet.dst2 & dst6[2];
    table.dst3 = packet.dst3 & dst6[3];
  }

  /** A key as it is when it is new. */
  private begin(entry: number, nowMs: number): void {
    const { words, floats } = this.table;
    const { run } = this;
    words[entry + Entry.since] = nowMs;
    floats[(entry + Entry.credit) >> 1] = run.rateMatch ? 0 : run.start;
    words[entry + Entry.left] = run.rateMatch ? 0 : run.refills;
  }

  /** Credit for the time since the last packet, or a new interval. */
  private advance(entry: number, nowMs: number): void {
    const { words, floats } = this.table;
    const { run } = this;
    const elapsed = (nowMs - words[entry + Entry.since]) | 0;
    if (elapsed <= 0) return;
    const at = (entry + Entry.credit) >> 1;
    if (run.rateMatch) {
      if (elapsed < run.intervalMs) return;
      words[entry + Entry.left] = floats[at] * run.intervalMs > elapsed * run.ratePerInterval ? 1 : 0;
      floats[at] = 0;
    } else {
      const credit = floats[at] + elapsed * run.gainPerMs;
      floats[at] = credit > run.cap ? run.cap : credit;
    }
    words[entry + Entry.since] = nowMs;
  }

  private pay(entry: number, cost: number): boolean {
    const { floats } = this.table;
    const at = (entry + Entry.credit) >> 1;
    const credit = floats[at];
    if (credit < cost) return false;
    floats[at] = credit - cost;
    return true;
  }

  /** Bytes cost in steps of 16, never more than a second's credit; an empty credit is filled up as long as refills are left. */
  private payBytes(entry: number, length: number): boolean {
    const { words, floats } = this.table;
    const { run } = this;
    let cost = ((length >>> BYTE_SHIFT) + 1) * run.cost;
    if (cost > run.cap) cost = run.cap;
    const at = (entry + Entry.credit) >> 1;
    if (floats[at] < cost && words[entry + Entry.left] > 0) {
      words[entry + Entry.left]--;
      floats[at] = run.cap;
    }
    return this.pay(entry, cost);
  }

  private countInterval(entry: number, length: number): boolean {
    const { words, floats } = this.table;
    const at = (entry + Entry.credit) >> 1;
    floats[at] += this.run.bytes ? length : 1;
    return words[entry + Entry.left] === 0 && floats[at] <= this.run.intervalMost;
  }

  /** Goes over this worker's share of the entries for `elapsed` ms and frees those that are forgotten. */
  private sweep(elapsed: number): void {
    const { table } = this;
    const { words } = table;
    const used = table.used;
    if (used === 0) return;
    const due = Math.ceil((used * elapsed) / (this.run.gcIntervalMs * this.workers));
    const visits = due > SWEEP_MOST ? SWEEP_MOST : due;
    let index = Atomics.add(words, TableHeader.cursor, visits) >>> 0;
    for (let i = 0; i < visits; i++, index++) {
      const entry = table.entryAt(index % used);
      if (words[entry + TableEntry.family] === 0 || this.alive(entry)) continue;
      // Looked at without the lock: what it says may be over. With the lock, the same key must still have the same entry.
      if (!table.load(entry)) continue;
      const found = table.find();
      if (found < 0) continue;
      if (found === entry && !this.alive(entry)) table.remove(entry);
      table.unlock();
    }
  }

  /** Further ahead than a key can be, its time is of the clock's last round. */
  private alive(entry: number): boolean {
    const ahead = (this.table.words[entry + Entry.expires] - this.epochMs) | 0;
    return ahead > 0 && ahead <= this.aheadMost;
  }
}

import { FlowRecord } from '../../shared/flow_ring.js';
import type { FlowHash } from '../ebpf/flow_hash.js';
import {
  FLOW_BACKENDS,
  FLOW_FILTER_SETS,
  FLOW_WAYS,
  FLOW_WORDS,
  FLOW_WORKERS,
  FlowGeneration,
  FlowWord,
} from '../ebpf/flow_layout.js';
import { FlowFilter } from './flow_filter.js';

/** A flow that was seen so lately gives way to no other, ms. Twice what its time may be late by (FLOW_SEEN_MS of bpf/flow_cache.bpf.c). */
const IN_USE_MS = 2000;

/** Whether a flow with this generation is the backend's: false for good, once false. */
export type KeepsFlow = (backend: number, generation: number) => boolean;

/**
 * Flows of one family, in the memory of flows4 or flows6 of bpf/maps.h, which the program reads while this writes. It is a table of sets: a flow is in one of the four places of the set
 * that its hash names, or nowhere. Only this puts flows in and gives their places away; the program writes a flow's time, and voids it.
 *
 * A place is the index of its first word. Its first word, the generation, says what the others are worth. Whoever changes the others takes it away before, and gives the new one
 * after that, each by Atomics, which keep their order on every machine. The program reads the generation, then the rest, then the generation again, and serves a packet
 * only if it found one twice, and that of the backend. Between the two a place may not come to the same generation with other contents: it is announced for
 * a turn (50 ms) in between, while a program takes microseconds. And if it did, generations are each one backend's, and the key was compared, so the packet would go where it
 * should, with a source port or label of another flow.
 *
 * The program's own two stores are to a place whose key it has compared. Should that be given away meanwhile, another flow is voided, which is then user space's and offered anew; or seems to
 * have been seen now, which it was.
 *
 * No flow is behind an empty place of its set. A place that is given back is void, and becomes empty when those behind it are.
 *
 * In front of the sets is a filter (FlowFilter), so that the program looks at hardly any for an unknown flow. A flow that was pushed out, or whose void place `trim` has come by, has left it.
 */
export class FlowSets {
  readonly sets: number;
  /** Words from a place to the next. */
  readonly stride: number;
  private readonly setWords: number;
  private readonly addressWords: number;
  /** Key of the flow in hand, addresses and ports, and its hash. */
  private readonly key: Int32Array;
  private keyHash = 0;
  /** That of another, for its hash. */
  private readonly other: Int32Array;
  private readonly filter: FlowFilter;

  /**
   * @param words of the map: all of it, zero at first
   * @param filter words of its filter's, the same
   * @throws RangeError unless it has a power of two of sets, at most 2^22, and the filter as many
   */
  constructor(
    readonly family: 4 | 6,
    private readonly words: Int32Array,
    filter: Int32Array,
    private readonly hash: FlowHash,
  ) {
    this.stride = FLOW_WORDS[family];
    this.setWords = this.stride * FLOW_WAYS;
    this.addressWords = family === 4 ? 1 : 4;
    this.key = new Int32Array(2 * this.addressWords + 1);
    this.other = new Int32Array(this.key.length);
    this.sets = words.length / this.setWords;
    if (!Number.isInteger(Math.log2(this.sets)) || this.sets < 1 || this.sets > 1 << 22) {
      throw new RangeError(`flows are in a power of two of sets, at most 2^22, not in ${this.sets}`);
    }
    this.filter = new FlowFilter(filter, this.sets);
  }

  /** First place of the set of the flow that `record` is about, whose key is in hand then. */
  setOf(record: Int32Array): number {
    const { key, addressWords } = this;
    for (let i = 0; i < addressWords; i++) {
      key[i] = swap(record[FlowRecord.src0 + i]);
      key[addressWords + i] = swap(record[FlowRecord.dst0 + i]);
    }
    key[2 * addressWords] = swap(record[FlowRecord.ports]);
    this.keyHash = this.hash.of(key, key.length);
    return ((this.keyHash >>> 10) & (this.sets - 1)) * this.setWords;
  }

  /** Place of the flow that `record` is about, announced or in force; −1: it is not there. */
  find(record: Int32Array): number {
    return this.findIn(this.setOf(record), record[FlowRecord.what] & 0xff);
  }

  private findIn(set: number, protocol: number): number {
    for (let place = set; place < set + this.setWords; place += this.stride) {
      const generation = this.generation(place);
      if (generation === (FlowGeneration.empty as number)) return -1;
      if (generation !== (FlowGeneration.void as number) && this.hasKey(place, protocol)) return place;
    }
    return -1;
  }

  private hasKey(place: number, protocol: number): boolean {
    const { words, key, addressWords } = this;
    for (let i = 0; i < 2 * addressWords; i++) if (words[place + FlowWord.addresses + i] !== key[i]) return false;
    return (
      words[place + FlowWord.ports] === key[2 * addressWords] && (words[place + FlowWord.what] & 0xff) === protocol
    );
  }

  /**
   * Writes a flow that was offered, to be put in force later, in the place where it is or in one that is free, of a decision that is void, or of the flow of its set that was silent longest.
   *
   * @param record an offer; see FlowRecord
   * @returns its place; −1: all flows of the set are in use
   */
  announce(record: Int32Array, worker: number, nowMs: number, keeps: KeepsFlow): number {
    const backend = record[FlowRecord.backend];
    if (backend >= FLOW_BACKENDS || worker >= FLOW_WORKERS) return -1;
    const protocol = record[FlowRecord.what] & 0xff;
    const set = this.setOf(record);
    const known = this.findIn(set, protocol);
    const place = known >= 0 ? known : this.roomIn(set, nowMs, keeps);
    if (place < 0) return -1;
    const { words, key, addressWords } = this;
    const label = record[FlowRecord.label];
    // A void place that `trim` has seen has no protocol, and no bits in the filter.
    const hasLeft =
      known < 0 && this.generation(place) !== (FlowGeneration.empty as number) && this.protocol(place) !== 0;
    this.filter.add(set / this.setWords, this.keyHash);
    Atomics.store(words, place + FlowWord.generation, FlowGeneration.void);
    for (let i = 0; i < 2 * addressWords; i++) Atomics.store(words, place + FlowWord.addresses + i, key[i]);
    Atomics.store(words, place + FlowWord.ports, key[2 * addressWords]);
    const what = protocol | (worker << 8) | (backend << 16) | ((label >>> 16) << 28);
    Atomics.store(words, place + FlowWord.what, what);
    Atomics.store(words, place + FlowWord.seenMs, nowMs | 0);
    Atomics.store(words, place + FlowWord.host, record[FlowRecord.host]);
    Atomics.store(words, place + FlowWord.outer, (record[FlowRecord.sportAndPort] >>> 16) | (label << 16));
    Atomics.store(words, place + FlowWord.generation, FlowGeneration.announced);
    if (hasLeft) this.tidy(set);
    return place;
  }

  private roomIn(set: number, nowMs: number, keeps: KeepsFlow): number {
    let victim = -1;
    let longestMs = IN_USE_MS - 1;
    for (let place = set; place < set + this.setWords; place += this.stride) {
      const generation = this.generation(place);
      if (generation === (FlowGeneration.empty as number) || generation === (FlowGeneration.void as number))
        return place;
      if (generation === (FlowGeneration.announced as number) || longestMs === Infinity) continue;
      const idleMs = keeps(this.backend(place), generation) ? this.idleMs(place, nowMs) : Infinity;
      if (idleMs <= longestMs) continue;
      longestMs = idleMs;
      victim = place;
    }
    return victim;
  }

  /**
   * Puts in force what was announced there for this backend. False: it is not there any more, by a SYN, FIN or RST that the program has seen, by `void`, or since the flow was
   * announced anew with another backend.
   */
  enforce(place: number, backend: number, generation: number, nowMs: number): boolean {
    if (this.backend(place) !== backend || this.generation(place) !== (FlowGeneration.announced as number))
      return false;
    const announced: number = FlowGeneration.announced;
    const at = place + FlowWord.generation;
    Atomics.store(this.words, place + FlowWord.seenMs, nowMs | 0);
    return Atomics.compareExchange(this.words, at, announced, generation) === announced;
  }

  /** Ends what was announced there and is not in force. */
  withdraw(place: number): void {
    Atomics.compareExchange(this.words, place + FlowWord.generation, FlowGeneration.announced, FlowGeneration.void);
  }

  /** Ends the decision there; the place is free. */
  void(place: number): void {
    Atomics.store(this.words, place + FlowWord.generation, FlowGeneration.void);
  }

  /** Makes void places that no flow is behind empty, and takes flows that were in void places out of the filter. `set`: its first place. */
  trim(set: number): void {
    const { words } = this;
    let isBehind = true;
    let isNews = false;
    for (let place = set + this.setWords - this.stride; place >= set; place -= this.stride) {
      const generation = this.generation(place);
      if (generation === (FlowGeneration.empty as number)) continue;
      if (generation !== (FlowGeneration.void as number)) {
        isBehind = false;
        continue;
      }
      if (this.protocol(place) !== 0) {
        Atomics.store(words, place + FlowWord.what, 0);
        isNews = true;
      }
      if (isBehind) Atomics.store(words, place + FlowWord.generation, FlowGeneration.empty);
    }
    if (isNews) this.tidy(set);
  }

  /** Writes the word of the filter that belongs to a set anew, with what is in its sets. `set`: its first place. */
  private tidy(set: number): void {
    const { filter, words, other, addressWords } = this;
    const some = this.setWords * FLOW_FILTER_SETS;
    const first = set - (set % some);
    filter.begin();
    for (let place = first; place < first + some && place < words.length; place += this.stride) {
      const generation = words[place + FlowWord.generation];
      if (generation === (FlowGeneration.empty as number) || generation === (FlowGeneration.void as number)) continue;
      for (let i = 0; i < 2 * addressWords; i++) other[i] = words[place + FlowWord.addresses + i];
      other[2 * addressWords] = words[place + FlowWord.ports];
      filter.collect(this.hash.of(other, other.length));
    }
    filter.store(set / this.setWords);
  }

  /** First place of a set by its number. */
  placesOf(set: number): number {
    return set * this.setWords;
  }

  generation(place: number): number {
    return Atomics.load(this.words, place + FlowWord.generation);
  }

  /** Time since it was seen; below 0 if that was after `nowMs`. */
  idleMs(place: number, nowMs: number): number {
    return ((nowMs | 0) - this.words[place + FlowWord.seenMs]) | 0;
  }

  protocol(place: number): number {
    return this.words[place + FlowWord.what] & 0xff;
  }

  worker(place: number): number {
    return (this.words[place + FlowWord.what] >>> 8) & 0xff;
  }

  backend(place: number): number {
    return (this.words[place + FlowWord.what] >>> 16) & (FLOW_BACKENDS - 1);
  }

  /** Writes key and family of the flow there, as a record has them. The upper half of `what` is 0 then. */
  read(place: number, record: Int32Array): void {
    const { words, addressWords } = this;
    const addresses = place + FlowWord.addresses;
    for (let i = 0; i < addressWords; i++) {
      record[FlowRecord.src0 + i] = swap(words[addresses + i]);
      record[FlowRecord.dst0 + i] = swap(words[addresses + addressWords + i]);
    }
    record[FlowRecord.ports] = swap(words[place + FlowWord.ports]);
    record[FlowRecord.what] = (this.family << 8) | this.protocol(place);
  }
}

/** Bytes the other way round: packets are in network byte order, the machine is not. */
function swap(word: number): number {
  return (word << 24) | ((word & 0xff00) << 8) | ((word >>> 8) & 0xff00) | (word >>> 24);
}

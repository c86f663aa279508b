import type { BpfMap } from '../../native.js';
import { encodeU32 } from '../bpf_layout.js';
import { FLOW_FILTER_WORDS, FLOW_KEY_BYTES, flowFilterHash } from '../ebpf/flow_layout.js';

const FAMILIES = [4, 6] as const;
/** Of a word in the map. */
const WORD_BYTES = 8;

/** Bits of a family, 1 where a flow may be. */
interface Bits {
  /** Index of its first word in the map. */
  first: number;
  now: Uint32Array;
  /** Those of the round that is under way. */
  next: Uint32Array;
  isRound: boolean;
}

function bits(first: number): Bits {
  const words = (): Uint32Array => new Uint32Array(2 * FLOW_FILTER_WORDS);
  return { first, now: words(), next: words(), isRound: false };
}

/**
 * Keeps flow_filter of one cache: by it the program knows most packets of unknown flows without a look-up in tables that are larger than a core's caches. A flow must be added
 * before it is put there. Flows that have left are forgotten by rounds: who reads all of a family's keys shows them here.
 *
 * What the filter has too much costs a look-up; it never has too little.
 */
export class FlowFilter {
  private readonly families: Readonly<Record<4 | 6, Bits>> = { 4: bits(0), 6: bits(FLOW_FILTER_WORDS) };

  constructor(private readonly map: Pick<BpfMap, 'update' | 'updateBatch'>) {
    const all = Array.from({ length: FLOW_FILTER_WORDS }, (_, i) => i);
    for (const family of FAMILIES) this.write(this.families[family], all);
  }

  /** A flow that is about to be put into the table. */
  add(family: 4 | 6, key: Uint8Array): void {
    const own = this.families[family];
    const hash = flowFilterHash(family, key, 0);
    mark(own.next, hash);
    if (!mark(own.now, hash)) return;
    const word = hash >>> 18;
    this.map.update(encodeU32(own.first + word), encodeWord(own.now, word));
  }

  /** A round through the family's keys begins; one that is under way is void. */
  beginRound(family: 4 | 6): void {
    const own = this.families[family];
    own.next.fill(0);
    own.isRound = true;
  }

  /** The next `count` keys of the round. */
  see(family: 4 | 6, keys: Uint8Array, count: number): void {
    const { next } = this.families[family];
    for (let i = 0; i < count; i++) mark(next, flowFilterHash(family, keys, i * FLOW_KEY_BYTES[family]));
  }

  /** All keys were seen that were there when the round began, and are there now. */
  endRound(family: 4 | 6): void {
    const own = this.families[family];
    if (!own.isRound) return;
    own.isRound = false;
    const changed: number[] = [];
    for (let word = 0; word < FLOW_FILTER_WORDS; word++) {
      if (own.now[2 * word] !== own.next[2 * word] || own.now[2 * word + 1] !== own.next[2 * word + 1]) {
        changed.push(word);
      }
    }
    own.now.set(own.next);
    if (changed.length > 0) this.write(own, changed);
  }

  private write({ first, now }: Bits, words: readonly number[]): void {
    const keys = new Uint8Array(4 * words.length);
    const values = new Uint8Array(WORD_BYTES * words.length);
    for (const [i, word] of words.entries()) {
      keys.set(encodeU32(first + word), 4 * i);
      values.set(encodeWord(now, word), WORD_BYTES * i);
    }
    this.map.updateBatch(keys, values);
  }
}

/** False: it was there already. The hash's upper 14 bits are a word's index, the next 6 a bit of it. */
function mark(words: Uint32Array, hash: number): boolean {
  const at = 2 * (hash >>> 18) + ((hash >>> 17) & 1);
  const bit = 1 << ((hash >>> 12) & 31);
  if ((words[at] & bit) !== 0) return false;
  words[at] |= bit;
  return true;
}

/** In the map a bit is 1 where no flow is. */
function encodeWord(words: Uint32Array, word: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(WORD_BYTES));
  view.setUint32(0, ~words[2 * word], true);
  view.setUint32(4, ~words[2 * word + 1], true);
  return new Uint8Array(view.buffer);
}

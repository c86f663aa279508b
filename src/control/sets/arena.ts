/** Memory of the tries: blocks of whole units in one shared Int32Array, handed out and taken back. */
import { SluiceError } from '../../errors.js';
import { NetWord } from '../../shared/sets/net_lookup.js';
import { Reclaimer, type Readers } from './reclaim.js';

/** Unit 0 is never handed out: place 0 means none. */
const FIRST = 1;
const BYTES_A_UNIT = 4 * NetWord.UNIT;

export class Arena {
  words: Int32Array;
  /** Counts up when `words` is another one. */
  version = 0;
  private top = FIRST;
  /** Free places by size. */
  private readonly free = new Map<number, number[]>();
  private readonly reclaimer: Reclaimer;

  /** Reserves room for `units`; what is not used costs no memory. */
  constructor(units: number, readers: Readers) {
    this.words = new Int32Array(new SharedArrayBuffer(units * BYTES_A_UNIT));
    this.reclaimer = new Reclaimer(readers, (place, size) => {
      const places = this.free.get(size);
      if (places === undefined) this.free.set(size, [place]);
      else places.push(place);
    });
  }

  /** Units that were ever in use; bytes of memory are 16 times as many. */
  get used(): number {
    return this.top;
  }

  /** Place of a block of `units`, with whatever was in it. */
  allocate(units: number): number {
    const place = this.free.get(units)?.pop();
    if (place !== undefined) return place;
    const at = this.top;
    this.top += units;
    if (this.top * NetWord.UNIT > this.words.length) this.grow();
    return at;
  }

  /** A block that nothing leads to any more; readers may still be in it. */
  retire(place: number, units: number): void {
    this.reclaimer.retire(place, units);
  }

  collect(): void {
    this.reclaimer.collect();
  }

  private grow(): void {
    const units = Math.min(2 * this.top, NetWord.WHERE_MASK + 1);
    if (units < this.top) {
      throw new SluiceError('SLUICE_STATE', 'a set of networks needs more than 2 GiB', 'Split it into several sets.');
    }
    const words = new Int32Array(new SharedArrayBuffer(units * BYTES_A_UNIT));
    words.set(this.words);
    this.words = words;
    this.version++;
  }
}

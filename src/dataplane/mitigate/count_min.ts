import { nextRate, since } from './ewma.js';

/** Float64 a cell: its rate, and when that was, with OFFSET_MS added so that 0 is never. */
const enum Cell {
  SIZE = 2,
  rate = 0,
  at = 1,
}

const ROWS = 2;

/** Beyond any difference of two readings of the clock. */
const OFFSET_MS = 2 ** 33;

/**
 * Count-min sketches (Cormode and Muthukrishnan, "An Improved Data Stream Summary", J. Algorithms 2005) of rates: two rows of `columns` cells a
 * node. A key's rate is never below the truth, and above it only by what shares its cells in both rows: by more than e / columns of all that comes
 * with probability at most e^-2.
 */
export class CountMin {
  /** Rate that `add()` found, units a second: a number that is returned may cost an object, one that is stored does not. */
  readonly rate = new Float64Array(1);
  private readonly cells: Float64Array;
  private readonly mask: number;
  private readonly row: number;

  /** `columns`: a power of two, at most 65536. */
  constructor(
    nodes: number,
    columns: number,
    private readonly firstInterval: boolean,
  ) {
    this.cells = new Float64Array(nodes * ROWS * columns * Cell.SIZE);
    this.mask = columns - 1;
    this.row = columns * Cell.SIZE;
  }

  /** Adds `weight` units to the key with that hash (all 32 bits good: the rows take half each); its rate is in `rate[0]`. */
  add(node: number, hash: number, weight: number, nowMs: number): void {
    const { cells, row, mask, firstInterval } = this;
    const first = Math.imul(node * ROWS, row);
    const stamp = nowMs + OFFSET_MS;
    const a = first + (hash & mask) * Cell.SIZE;
    const sinceA = since(stamp, cells[a + Cell.at]);
    const rateA = nextRate(cells[a + Cell.rate], sinceA, weight, firstInterval);
    cells[a + Cell.rate] = rateA;
    // A worker's clock does not go back; a test's may, and then the later time stands.
    if (sinceA > 0) cells[a + Cell.at] = stamp;
    const b = first + row + ((hash >>> 16) & mask) * Cell.SIZE;
    const sinceB = since(stamp, cells[b + Cell.at]);
    const rateB = nextRate(cells[b + Cell.rate], sinceB, weight, firstInterval);
    cells[b + Cell.rate] = rateB;
    if (sinceB > 0) cells[b + Cell.at] = stamp;
    this.rate[0] = rateA < rateB ? rateA : rateB;
  }
}

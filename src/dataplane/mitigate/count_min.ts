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

  /** Adds `weight` units to the key with that hash (all 32 bits good: the rows take half each) and returns its rate, units a second. */
  add(node: number, hash: number, weight: number, nowMs: number): number {
    const { row, mask } = this;
    const first = Math.imul(node * ROWS, row);
    const a = this.cell(first + (hash & mask) * Cell.SIZE, weight, nowMs);
    const b = this.cell(first + row + ((hash >>> 16) & mask) * Cell.SIZE, weight, nowMs);
    return a < b ? a : b;
  }

  private cell(at: number, weight: number, nowMs: number): number {
    const { cells } = this;
    const stamp = cells[at + Cell.at];
    const elapsed = since(nowMs + OFFSET_MS, stamp);
    const rate = nextRate(cells[at + Cell.rate], elapsed, weight, this.firstInterval);
    cells[at + Cell.rate] = rate;
    // A worker's clock does not go back; a test's may, and then the later time stands.
    if (elapsed > 0 || stamp === 0) cells[at + Cell.at] = nowMs + OFFSET_MS;
    return rate;
  }
}

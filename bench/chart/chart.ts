/** A bar chart as data. `drawChart` in svg.ts makes a picture of it. */
import type { Spread } from '../statistics.js';

/** What a bar stands for, which decides its colour: the most that is possible, what we are held against, ourselves, others; two ways of each. */
export type Tone = 'limit' | 'reference' | 'reference2' | 'ours' | 'ours2' | 'other' | 'other2';

export interface Series {
  name: string;
  tone: Tone;
}

export interface Bar {
  /** Index of the chart's series. */
  series: number;
  /** The bar ends at the median; its whisker goes from the smallest to the largest. */
  value: Spread;
  /** Behind the value: "0.98 of C". */
  note?: string;
}

export interface Group {
  label: string;
  bars: readonly Bar[];
}

/** A vertical line, for something that values are compared with. */
export interface Mark {
  at: number;
  label: string;
}

export interface Chart {
  /** Part of the file's name where a bench has several: results/BENCH-KEY.svg; '' for its first. */
  key: string;
  title: string;
  /** What is shown, and which end is better. */
  subtitle: string;
  /** Title of the axis: quantity and unit. */
  axis: string;
  /** Digits behind the point of a value. */
  digits: number;
  /** Default: linear, from 0. A logarithmic axis begins at the power of ten below the smallest value. */
  scale?: 'linear' | 'log';
  series: readonly Series[];
  groups: readonly Group[];
  marks?: readonly Mark[];
}

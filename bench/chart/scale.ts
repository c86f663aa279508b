/** Axes: from values to lengths, and where ticks stand. */

export interface Scale {
  min: number;
  max: number;
  ticks: readonly number[];
  /** Part of the axis' length, 0 to 1. What is below the axis is at its start. */
  at(value: number): number;
}

/** From 0 to a round number not below `largest`, with four to eight ticks. */
export function linearScale(largest: number): Scale {
  const top = largest > 0 ? largest : 1;
  const step = roundStep(top / 6);
  const count = Math.ceil(top / step - 1e-9);
  // Rounded: 0.1 + 0.2 is no label for a tick.
  const ticks = Array.from({ length: count + 1 }, (_, i) => Number((i * step).toPrecision(12)));
  const max = ticks[count];
  return { min: 0, max, ticks, at: (value) => Math.max(value, 0) / max };
}

/** 1, 2, 2.5 or 5 by a power of ten, not below. */
function roundStep(least: number): number {
  const power = 10 ** Math.floor(Math.log10(least));
  const factor = [1, 2, 2.5, 5, 10].find((each) => each * power >= least * (1 - 1e-9)) ?? 10;
  return factor * power;
}

/** Powers of ten around all values, which are above 0. */
export function logScale(smallest: number, largest: number): Scale {
  const first = Math.floor(Math.log10(smallest) + 1e-9);
  const last = Math.max(Math.ceil(Math.log10(largest) - 1e-9), first + 1);
  const ticks = Array.from({ length: last - first + 1 }, (_, i) => 10 ** (first + i));
  const at = (value: number): number => Math.max((Math.log10(Math.max(value, 1e-300)) - first) / (last - first), 0);
  return { min: 10 ** first, max: 10 ** last, ticks, at };
}

/** "0.25", "12", "1,000": no more digits than ticks need to be told apart. */
export function tickLabel(value: number): string {
  return value.toLocaleString('en', { maximumFractionDigits: 6 });
}

/** Where everything of a chart stands, px. Labels to the left of the bars, values behind them, the axis below. */
import type { Bar, Chart, Mark } from './chart.js';
import { linearScale, logScale, type Scale } from './scale.js';
import { textWidth, wrap } from './text.js';

export const WIDTH = 860;
export const MARGIN = 24;
export const SIZES = { title: 19, text: 13, small: 11.5 } as const;
export const BAR = 16;
const BAR_GAP = 4;
const GROUP_GAP = 15;
const LINE = 17;
const MOST_LABEL = 250;
/** Between a label and the bars, and between a bar's whisker and its value. */
const GAP = 12;
const SWATCH = 12;

export interface Text {
  x: number;
  y: number;
  text: string;
}

export interface PlacedBar {
  bar: Bar;
  y: number;
  /** Ends of the bar and of its whisker. */
  end: number;
  low: number;
  high: number;
  label: Text;
}

export interface PlacedSeries extends Text {
  series: number;
}

export interface Layout {
  height: number;
  title: Text[];
  subtitle: Text[];
  legend: PlacedSeries[];
  /** Bars begin at `left`; grid lines and marks go from `top` to `bottom`. */
  plot: { left: number; top: number; bottom: number };
  groups: { labels: Text[]; bars: PlacedBar[] }[];
  ticks: { x: number; value: number }[];
  /** `x` is of the line, `label.x` of the middle of its label. */
  marks: { x: number; mark: Mark; label: Text }[];
  axis: Text;
  footer: Text[];
}

/** What stands behind a bar. */
export function valueLabel({ digits }: Chart, { value, note }: Bar): string {
  const number = value.median.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return note ? `${number}  (${note})` : number;
}

export function layOut(chart: Chart, footer: readonly string[]): Layout {
  const inside = WIDTH - 2 * MARGIN;
  let y = MARGIN - 4;
  const block = (lines: readonly string[], height: number): Text[] =>
    lines.map((text) => ({ x: MARGIN, y: (y += height), text }));
  const title = block(wrap(chart.title, inside, SIZES.title, true), SIZES.title + 4);
  const subtitle = block(wrap(chart.subtitle, inside, SIZES.text), LINE + 2);
  y += 14;
  const legend = placeLegend(chart, y);
  y = (legend.at(-1)?.y ?? y) + 12;

  const bars = chart.groups.flatMap((group) => group.bars);
  const scale = scaleOf(chart, bars);
  const labels = chart.groups.map(({ label }) => wrap(label, MOST_LABEL, SIZES.text, true));
  const widest = Math.max(0, ...labels.flat().map((line) => textWidth(line, SIZES.text, true)));
  const left = Math.ceil(MARGIN + widest + GAP);
  const length = axisLength(chart, bars, scale, left);
  const place = (value: number): number => left + scale.at(value) * length;

  const marks = placeMarks(chart.marks ?? [], place, y + LINE);
  const top = Math.max(y, ...marks.map(({ label }) => label.y + 6));
  y = top + GROUP_GAP / 2 + 2;
  const groups = chart.groups.map((group, n) => {
    const lines = labels[n];
    const barsHeight = group.bars.length * (BAR + BAR_GAP) - BAR_GAP;
    const height = Math.max(barsHeight, lines.length * LINE, BAR);
    const firstBar = y + (height - Math.max(barsHeight, 0)) / 2;
    const firstLine = y + (height - lines.length * LINE) / 2 + LINE - 4;
    const placed = {
      labels: lines.map((text, i) => ({ x: left - GAP, y: firstLine + i * LINE, text })),
      bars: group.bars.map((bar, i) => placeBar(chart, bar, place, firstBar + i * (BAR + BAR_GAP))),
    };
    y += height + GROUP_GAP;
    return placed;
  });
  const bottom = y - GROUP_GAP / 2;
  const ticks = scale.ticks.map((value) => ({ x: place(value), value }));
  y = bottom + LINE + 2;
  const axis = { x: left, y: (y += LINE + 2), text: chart.axis };
  y += 10;
  const foot = block(
    footer.flatMap((line) => wrap(line, inside, SIZES.small)),
    SIZES.small + 4,
  );
  const plot = { left, top, bottom };
  return { height: y + MARGIN - 6, title, subtitle, legend, plot, groups, ticks, marks, axis, footer: foot };
}

function scaleOf({ scale, marks = [] }: Chart, bars: readonly Bar[]): Scale {
  const largest = Math.max(0, ...bars.map(({ value }) => value.max), ...marks.map(({ at }) => at));
  if (scale !== 'log') return linearScale(largest);
  const positive = bars.flatMap(({ value: { min, median, max } }) => [min, median, max]).filter((value) => value > 0);
  return positive.length > 0 ? logScale(Math.min(...positive), largest) : logScale(1, 10);
}

/** As long as it can be with room behind each bar for its value. */
function axisLength(chart: Chart, bars: readonly Bar[], scale: Scale, left: number): number {
  const right = WIDTH - MARGIN;
  const room = bars.map((bar) => {
    const part = scale.at(bar.value.max);
    const label = textWidth(valueLabel(chart, bar), SIZES.text) + GAP;
    return part > 0 ? (right - left - label) / part : Infinity;
  });
  // Half of the last tick's label stands behind the axis.
  return Math.max(Math.min(right - left - 20, ...room), 80);
}

function placeBar(chart: Chart, bar: Bar, place: (value: number) => number, y: number): PlacedBar {
  const [low, end, high] = [bar.value.min, bar.value.median, bar.value.max].map(place);
  const label = { x: high + 8, y: y + BAR - 3.5, text: valueLabel(chart, bar) };
  return { bar, y, end, low, high, label };
}

/** Series that have bars, side by side, in as many lines as it takes. None where there is one and nothing to tell apart. */
function placeLegend({ series, groups }: Chart, top: number): PlacedSeries[] {
  const used = new Set(groups.flatMap(({ bars }) => bars.map((bar) => bar.series)));
  if (used.size < 2) return [];
  let x = MARGIN;
  let y = top + LINE;
  return [...series.keys()]
    .filter((n) => used.has(n))
    .map((n) => {
      const { name } = series[n];
      const width = SWATCH + 6 + textWidth(name, SIZES.text) + 14;
      if (x > MARGIN && x + width > WIDTH - MARGIN) {
        x = MARGIN;
        y += LINE + 3;
      }
      const placed = { series: n, x, y, text: name };
      x += width;
      return placed;
    });
}

/** Labels of marks that would touch stand above each other. */
function placeMarks(marks: readonly Mark[], place: (value: number) => number, top: number): Layout['marks'] {
  const ends: number[] = [];
  return [...marks]
    .sort((a, b) => a.at - b.at)
    .map((mark) => {
      const x = place(mark.at);
      const half = textWidth(mark.label, SIZES.small) / 2;
      const free = ends.findIndex((end) => end + 4 <= x - half);
      const row = free < 0 ? ends.length : free;
      ends[row] = x + half;
      return { x, mark, label: { x, y: top + row * (SIZES.small + 3), text: mark.label } };
    });
}

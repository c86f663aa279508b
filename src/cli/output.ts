/** How commands print: tables that fit a terminal, numbers that people read, colour only where it is wanted. */
import type { Env } from './env.js';

/** Colours for one destination; each gives its text back unchanged where colour is not wanted. */
export interface Paint {
  bold(text: string): string;
  dim(text: string): string;
  red(text: string): string;
  green(text: string): string;
  yellow(text: string): string;
}

/** Colour on a terminal only, and never against NO_COLOR (https://no-color.org) or a dumb terminal. */
export function wantsColour(env: Env): boolean {
  return env.isTTY && env.getenv('NO_COLOR') === undefined && env.getenv('TERM') !== 'dumb';
}

export function paint(colour: boolean): Paint {
  const sgr = (code: number) => (text: string) => (colour && text !== '' ? `\u001b[${code}m${text}\u001b[0m` : text);
  return { bold: sgr(1), dim: sgr(2), red: sgr(31), green: sgr(32), yellow: sgr(33) };
}

export interface Column {
  title: string;
  /** Numbers go to the right. Default 'left'. */
  align?: 'left' | 'right';
  /** May be cut to this many characters when the table is too wide. The widest of these is cut first. */
  shrinkTo?: number;
  /** With shrinkTo: cut only when all the others are as narrow as they get. For names, which people copy. */
  last?: boolean;
  /** Colour of a cell, given its text without padding. */
  colour?: (text: string) => (text: string) => string;
}

/** Lines of a table, its titles first, at most `width` characters wide where the columns can shrink that far. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  width: number,
  ink: Paint,
): string[] {
  const cells = rows.map((row) => row.map(plain));
  const widths = columns.map(({ title }, i) =>
    cells.reduce((most, row) => Math.max(most, row[i].length), title.length),
  );
  const gap = '  ';
  let surplus = widths.reduce((sum, w) => sum + w, gap.length * (columns.length - 1)) - width;
  for (const round of [false, true]) {
    while (surplus > 0) {
      let widest = -1;
      columns.forEach(({ shrinkTo = Infinity, last = false }, i) => {
        if (last === round && widths[i] > shrinkTo && (widest < 0 || widths[i] > widths[widest])) widest = i;
      });
      if (widest < 0) break;
      widths[widest]--;
      surplus--;
    }
  }
  const line = (row: readonly string[], finish: (text: string, i: number) => string): string =>
    row
      .map((cell, i) => {
        const text = cut(cell, widths[i]);
        const pad = ' '.repeat(widths[i] - text.length);
        return columns[i].align === 'right' ? pad + finish(text, i) : finish(text, i) + pad;
      })
      .join(gap)
      .trimEnd();
  return [
    line(
      columns.map(({ title }) => title),
      (text) => ink.bold(text),
    ),
    ...cells.map((row) => line(row, (text, i) => (columns[i].colour?.(row[i]) ?? ((same) => same))(text))),
  ];
}

/** Width for a table on stdout: that of the terminal; without one nothing is cut, as what reads a pipe or a file wants names whole. */
export function tableWidth(env: Env): number {
  return env.isTTY ? env.columns() : Infinity;
}

/** A text in at most `width` characters, "…" for what is missing. */
export function cut(text: string, width: number): string {
  if (text.length <= width) return text;
  return width <= 1 ? text.slice(0, width) : `${text.slice(0, width - 1)}…`;
}

/** A text without control characters and changes of direction: what a config or a daemon named moves no cursor here. */
export function plain(text: string): string {
  return text.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, '\ufffd');
}

/** "1,234,567"; from `shortFrom` on "12.35M". */
export function count(value: number, shortFrom = 1e7): string {
  if (!Number.isFinite(value)) return '-';
  if (Math.abs(value) < shortFrom) return Math.round(value).toLocaleString('en-US');
  for (const [unit, size] of [
    ['P', 1e15],
    ['T', 1e12],
    ['G', 1e9],
    ['M', 1e6],
    ['k', 1e3],
  ] as const) {
    if (Math.abs(value) >= size) return `${(value / size).toPrecision(4)}${unit}`;
  }
  return String(value);
}

/** Bytes in decimal units: "1.50 MB". */
export function bytes(value: number): string {
  if (value < 1000) return `${Math.round(value)} B`;
  const units = ['kB', 'MB', 'GB', 'TB', 'PB'];
  let size = value / 1000;
  let unit = 0;
  for (; size >= 999.5 && unit < units.length - 1; unit++) size /= 1000;
  return `${size < 100 ? size.toPrecision(3) : Math.round(size)} ${units[unit]}`;
}

/** "5s", "12m03s", "3h04m", "12d03h". */
export function duration(seconds: number): string {
  const s = Math.max(0, Math.floor(seconds));
  const two = (value: number): string => String(value).padStart(2, '0');
  if (s < 60) return `${s}s`;
  if (s < 3600) return `${Math.floor(s / 60)}m${two(s % 60)}s`;
  if (s < 86400) return `${Math.floor(s / 3600)}h${two(Math.floor(s / 60) % 60)}m`;
  return `${Math.floor(s / 86400)}d${two(Math.floor(s / 3600) % 24)}h`;
}

/** "1 problem", "3 problems". */
export function plural(number: number, noun: string): string {
  return `${count(number)} ${noun}${number === 1 ? '' : 's'}`;
}

/** Writes lines to stdout. */
export function print(env: Env, ...lines: string[]): void {
  if (lines.length > 0) env.stdout.write(`${lines.join('\n')}\n`);
}

/** Writes one JSON value to stdout: indented for `--json`, on one line for streams of them. */
export function printJson(env: Env, value: unknown, indent = 2): void {
  env.stdout.write(`${JSON.stringify(value, null, indent)}\n`);
}

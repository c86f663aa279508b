/** A report as text for people. */
import type { Level, Report } from './finding.js';

const MARK: Record<Level, string> = { ok: 'ok  ', info: 'info', warn: 'WARN', bad: 'BAD ' };
/** SGR colours: green, blue, yellow, red. */
const COLOUR: Record<Level, number> = { ok: 32, info: 34, warn: 33, bad: 31 };

export interface RenderOptions {
  /** Colours, for a terminal. */
  colour: boolean;
  /** Characters a line; text is wrapped at words, commands never are. */
  columns: number;
}

const INDENT = ' '.repeat(7);

export function render(report: Report, options: RenderOptions): string {
  const lines: string[] = [];
  let subject = '';
  for (const finding of report.findings) {
    if (finding.subject !== subject) {
      if (subject !== '') lines.push('');
      subject = finding.subject;
      lines.push(subject);
    }
    const mark = MARK[finding.level];
    const [first, ...rest] = wrap(`${finding.check}: ${finding.text}`, Math.max(options.columns, 60) - INDENT.length);
    lines.push(`  ${options.colour ? `\x1b[${COLOUR[finding.level]}m${mark}\x1b[0m` : mark} ${first}`);
    for (const line of rest) lines.push(INDENT + line);
    if (finding.fix !== undefined) lines.push(`${INDENT}→ ${finding.fix}`);
  }
  const { ok, info, warn, bad } = report.counts;
  const verdict = bad > 0 ? 'mend what is BAD first' : warn > 0 ? 'sluice will run here' : 'all is well';
  lines.push('', `${ok} ok, ${info} info, ${warn} warnings, ${bad} bad: ${verdict}`);
  return `${lines.join('\n')}\n`;
}

/** Breaks text at spaces into lines of at most `width` characters, a longer word alone on its line. */
function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ')) {
    if (line !== '' && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  lines.push(line);
  return lines;
}

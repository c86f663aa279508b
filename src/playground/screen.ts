/**
 * Output of the demo. On a terminal, lines scroll above a footer that is drawn anew; elsewhere there are lines and
 * nothing else, no escape code among them.
 */
import type { Writable } from 'node:stream';

/** Moves to the start of the line `n` lines up and clears from there to the end of the screen. */
const rewind = (lines: number) => (lines > 0 ? `\x1b[${lines}F\x1b[J` : '');

export class Screen {
  private footer: readonly string[] = [];

  constructor(
    private readonly out: Writable,
    /** Whether the footer is shown. */
    readonly live: boolean,
    /** Width of the terminal now; longer footer lines are cut, because a wrapped line could not be drawn over. */
    private readonly columns: () => number,
  ) {}

  print(text = ''): void {
    this.out.write(`${rewind(this.footer.length)}${text}\n${this.drawn()}`);
  }

  setFooter(lines: readonly string[]): void {
    if (!this.live) return;
    const before = this.footer.length;
    this.footer = lines;
    this.out.write(rewind(before) + this.drawn());
  }

  private drawn(): string {
    const width = this.columns() - 1;
    return this.footer.map((line) => `${line.slice(0, width)}\n`).join('');
  }
}

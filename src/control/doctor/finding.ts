/**
 * What the doctor says. One finding is one thing that was looked at.
 *
 * - `ok`: looked at and right;
 * - `info`: worth knowing, nothing to do, or something that could not be seen;
 * - `warn`: works, but slower or with a trap that the text names;
 * - `bad`: sluice will not start here, or will lose or spoil packets.
 */
export type Level = 'ok' | 'info' | 'warn' | 'bad';

export interface Finding {
  level: Level;
  /** Interface name, or 'host'. */
  subject: string;
  /** Stable name of the check, for scripts: 'memlock', 'driver', 'tx-checksum' … */
  check: string;
  /** One or two sentences: what is there and what it means. */
  text: string;
  /** The command that puts it right, ready to paste; absent when there is nothing to do or nothing that can be done. */
  fix?: string;
}

export interface Report {
  /** Kernel release as uname gives it. */
  kernel: string;
  findings: Finding[];
  counts: Record<Level, number>;
}

/** Puts findings into a report and counts them by level. */
export function reportOf(kernel: string, findings: Finding[]): Report {
  const counts: Record<Level, number> = { ok: 0, info: 0, warn: 0, bad: 0 };
  for (const { level } of findings) counts[level]++;
  return { kernel, findings, counts };
}

/** Collects findings about one subject. */
export class Findings {
  readonly list: Finding[] = [];

  constructor(readonly subject: string) {}

  add(level: Level, check: string, text: string, fix?: string): void {
    this.list.push(
      fix === undefined
        ? { level, subject: this.subject, check, text }
        : { level, subject: this.subject, check, text, fix },
    );
  }
}

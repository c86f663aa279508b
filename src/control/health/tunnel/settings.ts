/**
 * Settings below /proc/sys that the tunnel changes, written down before they are changed: after a kill -9 the next process
 * finds the file and puts back what it says. One file a network namespace, on a file system that a reboot empties.
 *
 * Files are read and written synchronously: /proc/sys/net belongs to the network namespace of the thread that opens it.
 */
import { mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../../../errors.js';

export const RECORD_DIRECTORY = '/run/sluice-health';

interface Change {
  /** With slashes, below /proc/sys. */
  key: string;
  from: string;
  to: string;
}

export class Settings {
  private readonly path: string;
  private changes: Change[] = [];
  private open = false;

  constructor(private readonly directory = RECORD_DIRECTORY) {
    const namespace = /\d+/.exec(readlinkSync('/proc/thread-self/ns/net'))?.[0] ?? '0';
    this.path = join(directory, `${namespace}.json`);
  }

  /** Whether a process died here without putting things back. */
  hasLeftovers(): boolean {
    return !this.open && this.recorded() !== null;
  }

  /** Begins. What a dead process had changed is put back first. */
  begin(): void {
    this.changes = this.recorded() ?? [];
    this.restore();
    this.open = true;
    this.write();
  }

  /** Sets a value. Does nothing where the kernel has no such setting. */
  set(key: string, to: string): void {
    const from = read(key);
    if (from === null || from === to) return;
    const known = this.changes.find((change) => change.key === key);
    if (known) known.to = to;
    else this.changes.push({ key, from, to });
    this.write();
    write(key, to);
  }

  /** Puts everything back and removes the record. */
  end(): void {
    this.restore();
    this.open = false;
    rmSync(this.path, { force: true });
  }

  private restore(): void {
    for (const { key, from, to } of this.changes.reverse()) {
      // Somebody else's change, or another network namespace under a number that was used before: not ours to undo.
      if (read(key) === to) write(key, from);
    }
    this.changes = [];
  }

  private recorded(): Change[] | null {
    try {
      const document = JSON.parse(readFileSync(this.path, 'utf8')) as { changes: Change[] };
      return document.changes.filter(({ key }) => /^net\/ipv[46]\/[\w./-]+$/.test(key) && !key.includes('..'));
    } catch {
      return null;
    }
  }

  /** Whole or not at all: a kill may come at any moment. */
  private write(): void {
    mkdirSync(this.directory, { recursive: true, mode: 0o700 });
    writeFileSync(`${this.path}.new`, JSON.stringify({ changes: this.changes }), { mode: 0o600 });
    renameSync(`${this.path}.new`, this.path);
  }
}

/** A value without the line's end; null when there is no such setting. */
export function read(key: string): string | null {
  try {
    return readFileSync(`/proc/sys/${key}`, 'utf8').trim();
  } catch {
    return null;
  }
}

function write(key: string, value: string): void {
  try {
    writeFileSync(`/proc/sys/${key}`, `${value}\n`);
  } catch (cause) {
    throw new SluiceError(
      'SLUICE_PERMISSION',
      `cannot set ${key.replaceAll('/', '.')} to ${value}: ${(cause as Error).message}`,
      'Health checks through the tunnel need root and a /proc/sys that can be written to.',
      { cause },
    );
  }
}

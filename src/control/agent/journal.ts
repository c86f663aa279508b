/**
 * What the agent has changed on its host, written down before it is changed: after a kill -9 the next agent reads it and
 * undoes what is left. One file a network namespace, in a directory on a file system that a reboot empties.
 */
import { mkdirSync, readFileSync, readlinkSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SluiceError } from '../../errors.js';
import { native } from '../../native.js';
import { formatMac } from '../../shared/addr.js';
import { startTime } from '../process_identity.js';

export const JOURNAL_DIRECTORY = '/run/sluice-backend';

export type Change =
  /** Address with length, such as "198.51.100.10/32", added to lo. */
  | { kind: 'address'; address: string }
  /** Prefix whose addresses are all the host's own (AnyIP): a local route on lo. */
  | { kind: 'route'; prefix: string }
  /** Key with slashes, below /proc/sys. */
  | { kind: 'sysctl'; key: string; from: string; to: string };

/** Tells one network namespace from a later one with the same number: its interfaces. */
interface Fingerprint {
  name: string;
  ifindex: number;
  mac: string;
}

interface Document {
  pid: number;
  startTime: string;
  interfaces: Fingerprint[];
  changes: Change[];
}

export class Journal {
  private constructor(
    private readonly path: string,
    private readonly document: Document,
  ) {}

  /**
   * Opens the journal of this network namespace. `leftovers` are the changes of an agent that died without undoing them, in the
   * order in which they were made; they are this agent's to undo from now on. Throws SLUICE_STATE while another one runs.
   */
  static open(interfaces: readonly string[]): { journal: Journal; leftovers: Change[] } {
    mkdirSync(JOURNAL_DIRECTORY, { recursive: true, mode: 0o700 });
    const namespace = /\d+/.exec(readlinkSync('/proc/self/ns/net'))![0];
    const path = join(JOURNAL_DIRECTORY, `${namespace}.json`);
    const former = read(path);
    if (former && former.pid !== process.pid && startTime(former.pid) === former.startTime) {
      throw new SluiceError(
        'SLUICE_STATE',
        `a backend agent runs here already, pid ${former.pid}`,
        'One agent serves all interfaces of a host: give it --interface several times, or stop the other one.',
      );
    }
    const leftovers = former?.interfaces.some(isHere) ? former.changes : [];
    const journal = new Journal(path, {
      pid: process.pid,
      startTime: startTime(process.pid) ?? '',
      interfaces: interfaces.map(fingerprint),
      changes: [...leftovers],
    });
    journal.write();
    return { journal, leftovers };
  }

  changes(): readonly Change[] {
    return this.document.changes;
  }

  /** Before the change is made. */
  add(change: Change): void {
    this.document.changes.push(change);
    this.write();
  }

  /** After the change is undone, or when it was not made. */
  remove(change: Change): void {
    this.document.changes = this.document.changes.filter((other) => other !== change);
    this.write();
  }

  /** Removes the file when nothing is left to undo; otherwise it stays for the next agent. */
  close(): void {
    if (this.document.changes.length === 0) rmSync(this.path, { force: true });
  }

  /** Whole or not at all: a kill may come at any moment. */
  private write(): void {
    writeFileSync(`${this.path}.new`, JSON.stringify(this.document), { mode: 0o600 });
    renameSync(`${this.path}.new`, this.path);
  }
}

function read(path: string): Document | undefined {
  try {
    const document = JSON.parse(readFileSync(path, 'utf8')) as Document;
    return Array.isArray(document.changes) && Array.isArray(document.interfaces) ? document : undefined;
  } catch {
    // None, or one that no agent wrote.
    return undefined;
  }
}

function fingerprint(name: string): Fingerprint {
  const { ifindex, address } = native().linkInfo(name);
  return { name, ifindex, mac: formatMac(address) };
}

function isHere(known: Fingerprint): boolean {
  try {
    const now = fingerprint(known.name);
    return now.ifindex === known.ifindex && now.mac === known.mac;
  } catch {
    return false;
  }
}

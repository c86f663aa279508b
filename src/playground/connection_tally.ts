/** What a load of connections counts: how many were opened, how they ended, and what broke those that did not end well. */
import { readFileSync } from 'node:fs';

/** held: open for seconds, with a message every now and then. short: one message, one answer. */
export type ConnectionKind = 'held' | 'short';

/**
 * How a connection broke: RST; no answer in time (connection set-up and end included); SYN refused; an answer by another backend
 * than the first; bytes that are not those which were sent; FIN by the backend, which never closes first.
 */
export type BreakCause = 'reset' | 'timeout' | 'refused' | 'other backend' | 'wrong answer' | 'closed' | (string & {});

export interface ConnectionProgress {
  type: 'progress';
  /** Connections that were begun. */
  opened: Record<ConnectionKind, number>;
  /** Connections that were answered once at least. */
  met: Record<ConnectionKind, number>;
  broken: number;
  answered: number;
}

export interface ConnectionResult {
  type: 'result' | 'snapshot';
  /** Connections that were begun. */
  opened: Record<ConnectionKind, number>;
  /** Connections that ended by a FIN in each direction, every message answered. */
  finished: Record<ConnectionKind, number>;
  /** Connections that broke, by cause. */
  broken: Record<string, number>;
  /** The first few of them, in words. */
  accounts: string[];
  /** Messages answered, each with the bytes that were sent and by the backend of the connection. */
  answered: number;
  /** Connections by the backend that answered. */
  perBackend: Record<string, number>;
  /** Longest time from a message to its answer, ms. */
  slowestMs: number;
  /** TCP of this host, from the kernel: segments sent again, and connections that left ESTABLISHED by RST or by giving up. */
  kernel: { retransmitted: number; reset: number };
  /** Age of the oldest connection that is under way, ms; 0 when there is none. */
  oldestMs: number;
  durationMs: number;
}

const ACCOUNTS = 10;

export class ConnectionTally {
  answered = 0;
  slowestMs = 0;
  private readonly opened = { held: 0, short: 0 };
  private readonly finished = { held: 0, short: 0 };
  private readonly metOf = { held: 0, short: 0 };
  /** Those under way, the oldest first, with the time of their begin. */
  private readonly begins = new Map<object, number>();
  private readonly brokenBy: Record<string, number> = {};
  private readonly accounts: string[] = [];
  private readonly perBackend: Record<string, number> = {};
  private readonly begin = performance.now();
  private readonly kernel = tcpCounters();

  /** Connections that are neither finished nor broken. */
  get underWay(): number {
    return this.begins.size;
  }

  get broken(): number {
    return Object.values(this.brokenBy).reduce((a, b) => a + b, 0);
  }

  /** `connection`: whatever stands for it. */
  open(kind: ConnectionKind, connection: object): void {
    this.opened[kind]++;
    this.begins.set(connection, performance.now());
  }

  /** The first answer of a connection. */
  met(kind: ConnectionKind, backend: string): void {
    this.metOf[kind]++;
    this.perBackend[backend] = (this.perBackend[backend] ?? 0) + 1;
  }

  finish(kind: ConnectionKind, connection: object): void {
    this.finished[kind]++;
    this.begins.delete(connection);
  }

  /** `account`: which connection, and when. */
  break(cause: BreakCause, connection: object, account: string): void {
    this.begins.delete(connection);
    this.brokenBy[cause] = (this.brokenBy[cause] ?? 0) + 1;
    if (this.accounts.length < ACCOUNTS) this.accounts.push(`${this.elapsedMs} ms: ${cause}: ${account}`);
  }

  progress(): ConnectionProgress {
    const { opened, metOf, broken, answered } = this;
    return { type: 'progress', opened: { ...opened }, met: { ...metOf }, broken, answered };
  }

  result(type: 'result' | 'snapshot'): ConnectionResult {
    const { opened, finished, brokenBy, accounts, answered, perBackend, slowestMs } = this;
    const now = tcpCounters();
    return {
      type,
      opened: { ...opened },
      finished: { ...finished },
      broken: { ...brokenBy },
      accounts: [...accounts],
      answered,
      perBackend: { ...perBackend },
      slowestMs: Math.round(slowestMs),
      kernel: {
        retransmitted: now.RetransSegs - this.kernel.RetransSegs,
        reset: now.EstabResets - this.kernel.EstabResets,
      },
      oldestMs: this.oldestMs,
      durationMs: this.elapsedMs,
    };
  }

  private get oldestMs(): number {
    for (const begin of this.begins.values()) return Math.round(performance.now() - begin);
    return 0;
  }

  private get elapsedMs(): number {
    return Math.round(performance.now() - this.begin);
  }
}

/** RFC 4022's counters of this network namespace. */
function tcpCounters(): Record<string, number> {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Tcp:'))
    .map((line) => line.split(' '));
  return Object.fromEntries(names.map((name, i) => [name, Number(values[i])]));
}

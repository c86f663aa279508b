/** What an HTTP load counts, and how it sums it up. */

export interface HttpLoadProgress {
  type: 'progress';
  answered: number;
  failed: number;
  perBackend: Record<string, number>;
}

export interface HttpLoadResult {
  type: 'result' | 'snapshot';
  answered: number;
  failed: number;
  /** Failures by errno name or short reason. */
  reasons: Record<string, number>;
  /** Answers by backend. */
  perBackend: Record<string, number>;
  /** Connections opened in all. */
  connections: number;
  /** Of 'keepalive' connections: how many were set up to each backend, how many broke, by backend ("" before an answer). */
  held: Record<string, number>;
  broken: Record<string, number>;
  /** Answers on a held connection by another backend than before: never, when TCP is TCP. */
  misrouted: number;
  /** Time from request to answer, connection set-up included, ms. */
  latencyMs: { p50: number; p90: number; p99: number; max: number };
  durationMs: number;
}

export class Tally {
  connections = 0;
  misrouted = 0;
  private answers = 0;
  private failures = 0;
  private readonly reasons: Record<string, number> = {};
  private readonly perBackend: Record<string, number> = {};
  private readonly heldBy: Record<string, number> = {};
  private readonly brokenBy: Record<string, number> = {};
  private readonly latencies: number[] = [];

  answered(backend: string, ms: number): void {
    this.answers++;
    count(this.perBackend, backend);
    this.latencies.push(ms);
  }

  failed(reason: string): void {
    this.failures++;
    count(this.reasons, reason);
  }

  held(backend: string): void {
    count(this.heldBy, backend);
  }

  broken(backend: string): void {
    count(this.brokenBy, backend);
  }

  progress(): HttpLoadProgress {
    return { type: 'progress', answered: this.answers, failed: this.failures, perBackend: { ...this.perBackend } };
  }

  result(type: string, durationMs: number): HttpLoadResult {
    const sorted = Float64Array.from(this.latencies).sort();
    const quantile = (q: number) => Number((sorted[Math.ceil(sorted.length * q) - 1] ?? 0).toFixed(2));
    return {
      type: type === 'snapshot' ? 'snapshot' : 'result',
      answered: this.answers,
      failed: this.failures,
      reasons: { ...this.reasons },
      perBackend: { ...this.perBackend },
      connections: this.connections,
      held: { ...this.heldBy },
      broken: { ...this.brokenBy },
      misrouted: this.misrouted,
      latencyMs: { p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max: quantile(1) },
      durationMs: Math.round(durationMs),
    };
  }
}

function count(counts: Record<string, number>, key: string): void {
  counts[key] = (counts[key] ?? 0) + 1;
}

/**
 * The Prometheus text format, version 0.0.4, written straight into strings: a scrape of ten thousand services would cost
 * prom-client several objects a sample. https://prometheus.io/docs/instrumenting/exposition_formats/
 */

export type MetricType = 'counter' | 'gauge';

/** Characters that are put together before they go into the buffer. */
const BATCH = 16384;

/**
 * Collects families in the order in which they are begun; each is begun once and its samples follow at once. The text goes
 * into a buffer as it grows: kept as strings until the end, half of a large scrape's time would be garbage collection.
 */
export class TextWriter {
  private buffer = Buffer.allocUnsafe(1 << 16);
  private used = 0;
  private batch = '';
  private readonly begun = new Set<string>();
  private name = '';

  /** Begins a family. Counters end in `_total`. A family without samples is still announced, as prom-client does. */
  family(name: string, type: MetricType, help: string): this {
    if (this.begun.has(name)) throw new Error(`metric family ${name} is written twice`);
    this.begun.add(name);
    this.name = name;
    return this.raw(`# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`);
  }

  /** A sample of the family in hand. `labels` is what `labels()` made, '' for none. */
  sample(labels: string, value: number): this {
    return this.raw(labels === '' ? `${this.name} ${number(value)}\n` : `${this.name}{${labels}} ${number(value)}\n`);
  }

  /** Text that is in the format already. */
  raw(text: string): this {
    this.batch += text;
    if (this.batch.length >= BATCH) this.flush();
    return this;
  }

  /** All of it, as UTF-8. The writer is not to be used after that. */
  finish(): Buffer {
    this.flush();
    return this.buffer.subarray(0, this.used);
  }

  private flush(): void {
    // A UTF-16 unit takes at most three bytes.
    const room = this.used + this.batch.length * 3;
    if (room > this.buffer.length) {
      const larger = Buffer.allocUnsafe(Math.max(room, this.buffer.length * 2));
      this.buffer.copy(larger, 0, 0, this.used);
      this.buffer = larger;
    }
    this.used += this.buffer.write(this.batch, this.used, 'utf8');
    this.batch = '';
  }
}

/** `service="web",backend="10.0.0.1"` from names and values, the values escaped. */
export function labels(values: Readonly<Record<string, string | number>>): string {
  let text = '';
  for (const name in values) text += `${text === '' ? '' : ','}${name}="${escapeLabel(String(values[name]))}"`;
  return text;
}

/** Backslash, double quote and line feed, as the format wants it. */
export function escapeLabel(value: string): string {
  if (!/[\\"\n]/.test(value)) return value;
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

function escapeHelp(help: string): string {
  return help.replaceAll('\\', '\\\\').replaceAll('\n', '\\n');
}

function number(value: number): string {
  if (Number.isFinite(value)) return String(value);
  return Number.isNaN(value) ? 'NaN' : value > 0 ? '+Inf' : '-Inf';
}

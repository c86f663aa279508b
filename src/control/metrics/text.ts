/**
 * The Prometheus text format, version 0.0.4, written straight into strings: a scrape of ten thousand services would cost
 * prom-client several objects a sample. https://prometheus.io/docs/instrumenting/exposition_formats/
 */

export type MetricType = 'counter' | 'gauge';

/** Collects families in the order in which they are begun; each is begun once and its samples follow at once. */
export class TextWriter {
  private readonly parts: string[] = [];
  private readonly begun = new Set<string>();
  private name = '';

  /** Begins a family. Counters end in `_total`. A family without samples is still announced, as prom-client does. */
  family(name: string, type: MetricType, help: string): this {
    if (this.begun.has(name)) throw new Error(`metric family ${name} is written twice`);
    this.begun.add(name);
    this.name = name;
    this.parts.push(`# HELP ${name} ${escapeHelp(help)}\n# TYPE ${name} ${type}\n`);
    return this;
  }

  /** A sample of the family in hand. `labels` is what `labels()` made, '' for none. */
  sample(labels: string, value: number): this {
    this.parts.push(labels === '' ? `${this.name} ${number(value)}\n` : `${this.name}{${labels}} ${number(value)}\n`);
    return this;
  }

  toString(): string {
    return this.parts.join('');
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

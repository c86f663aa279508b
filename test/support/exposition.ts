/** Prometheus' text format, read back strictly. */
import { expect } from 'vitest';

export interface Exposition {
  types: Map<string, string>;
  /** By name and labels, as they are written. */
  samples: Map<string, number>;
}

/** Reads the text format by its rules and refuses what breaks them: order, names, escapes, doubles. */
export function parseExposition(input: string | Buffer): Exposition {
  const text = String(input);
  const types = new Map<string, string>();
  const samples = new Map<string, number>();
  let family = '';
  let helped = '';
  expect(text.endsWith('\n')).toBe(true);
  for (const line of text.split('\n')) {
    if (line === '') continue;
    const help = /^# HELP ([a-zA-Z_:][a-zA-Z0-9_:]*) (\S.*)$/.exec(line);
    const type = /^# TYPE ([a-zA-Z_:][a-zA-Z0-9_:]*) (counter|gauge|histogram|summary|untyped)$/.exec(line);
    if (help) {
      helped = help[1];
    } else if (type) {
      if (helped !== type[1] || types.has(type[1])) throw new Error(`TYPE out of place: ${line}`);
      family = type[1];
      types.set(family, type[2]);
    } else {
      const sample =
        /^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*\})? (-?[\d.]+(?:e[+-]?\d+)?|NaN|[+-]Inf)$/.exec(
          line,
        );
      if (!sample) throw new Error(`no sample: ${line}`);
      if (sample[1] !== family) throw new Error(`sample of another family: ${line}`);
      const key = sample[1] + (sample[2] ?? '');
      if (samples.has(key)) throw new Error(`twice: ${key}`);
      samples.set(key, Number(sample[3].replace('Inf', 'Infinity')));
    }
  }
  return { types, samples };
}

/** What the parts of the schema are put together with. */
import { z } from 'zod';

/** Takes a short form and makes the long one of it; anything else stays as it is. */
export function short<T extends z.ZodType>(expand: (raw: unknown) => unknown, schema: T) {
  return z.preprocess(expand, schema);
}

/** "a,b" or one thing alone, for a list. */
export function listOf<T extends z.ZodType>(entry: T) {
  const expand = (raw: unknown): unknown => {
    if (typeof raw === 'string') return raw.split(',').map((part) => part.trim());
    return Array.isArray(raw) || (typeof raw === 'object' && raw !== null) ? raw : [raw];
  };
  return short(expand, z.array(entry));
}

/** What a missing key is answered with: an example of what to add. */
export function required<T extends z.ZodType>(schema: T, example: string): T {
  return schema.meta({ example }) as T;
}

/**
 * A key of a match, which may be left out but not left empty: "src:" with nothing behind it would otherwise make a rule for a few packets one
 * for all.
 */
export function condition<T extends z.ZodType>(schema: T) {
  return schema.optional().meta({ condition: true });
}

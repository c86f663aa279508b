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
  return schema.optional().meta({ leaveOut: 'to match any' });
}

/**
 * Keys that may be left out but not left empty: "mode:" with nothing behind it would otherwise enforce a rule whose author stopped in the middle of
 * writing "mode: shadow". Lists are let be, as their entries may be commented out one by one.
 */
export function filled<T extends z.ZodRawShape>(shape: T): T {
  const marked = Object.entries(shape).map(([key, schema]) => [key, markFilled(schema as z.ZodType)]);
  return Object.fromEntries(marked) as T;
}

function markFilled(schema: z.ZodType): z.ZodType {
  const inner = schema instanceof z.ZodOptional || schema instanceof z.ZodPrefault ? schema.unwrap() : null;
  if (inner instanceof z.ZodArray) return schema;
  const hasDefault = schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault;
  const usual: unknown = hasDefault ? schema.def.defaultValue : undefined;
  const value = typeof usual === 'object' ? 'the default' : String(usual);
  return schema.meta({ leaveOut: hasDefault ? `for ${value}` : '', ...schema.meta() });
}

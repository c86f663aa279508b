/** The schema as a list of keys, for holding the documentation to it and for `sluice check --json`-like tools. */
import { z } from 'zod';
import { configSchema } from './schema.js';

export interface SchemaKey {
  /** "services[].backends[].weight". */
  path: string;
  /** True when there is neither a default nor leave to omit it. */
  required: boolean;
  /** The default when it is one value, as JSON would write it; null when there is none, or it is a map. */
  default: string | null;
}

/** Every key that a configuration may have, in the schema's order. */
export function schemaKeys(): SchemaKey[] {
  const keys: SchemaKey[] = [];
  collect(configSchema, '', keys);
  return keys;
}

function collect(schema: z.ZodType, path: string, keys: SchemaKey[]): void {
  if (schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault) {
    collect(schema.def.innerType as z.ZodType, path, keys);
  } else if (schema instanceof z.ZodPreprocess) {
    collect(schema.def.out as z.ZodType, path, keys);
  } else if (schema instanceof z.ZodArray) {
    // A list of single values has no keys of its own.
    collect(schema.element as z.ZodType, `${path}[]`, keys);
  } else if (schema instanceof z.ZodObject) {
    for (const [key, child] of Object.entries(schema.shape) as [string, z.ZodType][]) {
      const childPath = path === '' ? key : `${path}.${key}`;
      keys.push({ path: childPath, required: isRequired(child), default: defaultOf(child) });
      collect(child, childPath, keys);
    }
  }
}

function isRequired(schema: z.ZodType): boolean {
  return !(schema instanceof z.ZodOptional || schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault);
}

function defaultOf(schema: z.ZodType): string | null {
  if (!(schema instanceof z.ZodDefault || schema instanceof z.ZodPrefault)) return null;
  const value: unknown = schema.def.defaultValue;
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return null;
  return typeof value === 'string' ? value : JSON.stringify(value);
}

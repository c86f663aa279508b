/** Maps of GLB's JSON, each with its place in the file. */
import type { ConvertInput, Notes, Place } from './draft.js';
import { parseJson, type LinedJson } from './json_lines.js';
import { Unreadable } from './places.js';

/** A map of the input; nothing is known of its values. */
export interface Part {
  json: Readonly<Record<string, unknown>>;
  /** Of one of its keys, or of itself. */
  place(key?: string): Place;
  /** The maps in the list under a key. A list that is not there, and what is in it and no map, gets a note. */
  children(key: string, notes: Notes): Part[];
}

/** Throws Unreadable for what is not a map in JSON. */
export function readPart({ name: file, text }: ConvertInput): Part {
  const document = parseJson(text);
  if (!isMap(document.value)) throw new Unreadable('is not a map of keys');
  return partOf(document, document.value, file);
}

function partOf(document: LinedJson, json: Part['json'], file: string): Part {
  const place = (key?: string): Place => ({ file, line: document.lineOf(json, key) });
  return {
    json,
    place,
    children: (key, notes) => {
      const list = json[key];
      if (!Array.isArray(list)) {
        notes.lost(place(key), `there is no list "${key}"`);
        return [];
      }
      return list.flatMap((entry: unknown, i) => {
        if (isMap(entry)) return [partOf(document, entry, file)];
        notes.lost({ file, line: document.lineOf(list, i) }, `an entry of "${key}" is not a map`);
        return [];
      });
    },
  };
}

export function isMap(value: unknown): value is Part['json'] {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

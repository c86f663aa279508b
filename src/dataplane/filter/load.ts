import { register } from 'node:module';
import type { FilterContext, FilterModule, PacketFilter } from './contract.js';

let typescriptReady = false;

/** Modules by URL. The URL carries a hash of the file's content, so a changed file is a new module. */
const loaded = new Map<string, FilterModule>();

/** True when `loadFilter` of this URL needs no import. */
export function isLoaded(url: string): boolean {
  return loaded.has(url);
}

/**
 * Imports a user's filter module, JavaScript or TypeScript. Throws TypeError when its default export is not a filter.
 */
export async function loadFilter(url: string): Promise<void> {
  if (loaded.has(url)) return;
  if (/\.[mc]?ts(\?|$)/.test(url) && !typescriptReady) {
    register('./typescript_hooks.js', import.meta.url);
    typescriptReady = true;
  }
  const exports = (await import(url)) as { default?: unknown };
  const filter = exports.default as Partial<FilterModule> | undefined;
  if (typeof filter?.create !== 'function') {
    throw new TypeError(
      `${url.replace(/\?.*/, '')} has no filter as its default export: export default defineFilter({ name, create })`,
    );
  }
  loaded.set(url, filter as FilterModule);
}

/** Makes this worker's instance of a loaded module. */
export function createFilter(url: string, context: FilterContext): PacketFilter {
  const filter = loaded.get(url);
  if (!filter) throw new Error(`filter module ${url} is not loaded`);
  const judge: unknown = filter.create(context);
  if (typeof judge !== 'function') {
    throw new TypeError(`create() of the filter ${filter.name} returned no function`);
  }
  return judge as PacketFilter;
}

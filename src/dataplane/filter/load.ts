import { register } from 'node:module';
import { fileURLToPath } from 'node:url';
import { SluiceError } from '../../errors.js';
import type { FilterContext, FilterModule, PacketFilter } from './contract.js';

let hooksReady = false;

/** Modules by URL. The URL carries a hash of what it is made of, so a changed file is a new module. */
const loaded = new Map<string, FilterModule>();

/** Imports that failed, by URL: Node remembers a failure under its URL, and what was missing may be there the next time. */
const failures = new Map<string, number>();

/** True when `loadFilter` of this URL needs no import. */
export function isLoaded(url: string): boolean {
  return loaded.has(url);
}

/** Once a thread. Where this very file runs as TypeScript (a test runner), modules are the runner's business, and there are no hooks. */
function readyHooks(): void {
  if (hooksReady || !import.meta.url.endsWith('.js')) return;
  register('./typescript_hooks.js', import.meta.url);
  hooksReady = true;
}

/** The module's file, for messages. */
function fileOf(url: string): string {
  const bare = url.replace(/[?#].*$/, '');
  return bare.startsWith('file:') ? fileURLToPath(bare) : bare;
}

/**
 * Imports a user's filter module, JavaScript or TypeScript.
 *
 * @throws SluiceError SLUICE_CONFIG that names the file: it is not there, it or something that it imports does not parse or
 *   throws, or its default export is no filter
 */
export async function loadFilter(url: string): Promise<void> {
  if (loaded.has(url)) return;
  readyHooks();
  const failed = failures.get(url) ?? 0;
  try {
    const again = failed === 0 ? '' : `${url.includes('?') ? '&' : '?'}again=${failed}`;
    loaded.set(url, checked(url, await import(url + again)));
    failures.delete(url);
  } catch (cause) {
    failures.set(url, failed + 1);
    if (cause instanceof SluiceError) throw cause;
    const file = fileOf(url);
    const what = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    const remedy = isUnplaced(cause) ? `See where: node --check ${file}` : '';
    throw new SluiceError('SLUICE_CONFIG', `filter module ${file} cannot be loaded: ${what}`, remedy, { cause });
  }
}

/** V8 says where a syntax error is to the terminal only. Ours (typescript_hooks.ts) have the place, and link errors have names. */
function isUnplaced(cause: unknown): boolean {
  return cause instanceof SyntaxError && !/:\d+:\d+: |provide an export/.test(cause.message);
}

function checked(url: string, exports: { default?: unknown }): FilterModule {
  const filter = exports.default as Partial<FilterModule> | undefined;
  if (typeof filter?.create === 'function') return filter as FilterModule;
  throw new SluiceError(
    'SLUICE_CONFIG',
    `filter module ${fileOf(url)} has no filter as its default export`,
    'It should say: export default defineFilter({ name, create })',
  );
}

/**
 * Makes this worker's instance of a loaded module.
 *
 * @throws SluiceError SLUICE_CONFIG when `create` throws or returns no function
 */
export function createFilter(url: string, context: FilterContext): PacketFilter {
  const filter = loaded.get(url);
  if (!filter) throw new Error(`filter module ${url} is not loaded`);
  let judge: unknown;
  try {
    judge = filter.create(context);
  } catch (cause) {
    const text = cause instanceof Error ? `${cause.name}: ${cause.message}` : String(cause);
    throw new SluiceError('SLUICE_CONFIG', `create() of filter module ${fileOf(url)} threw ${text}`, '', { cause });
  }
  if (typeof judge === 'function') return judge as PacketFilter;
  const what = judge instanceof Promise ? 'a Promise' : String(judge);
  throw new SluiceError(
    'SLUICE_CONFIG',
    `create() of filter module ${fileOf(url)} returned ${what}`,
    'It should return the function that judges a packet.',
  );
}

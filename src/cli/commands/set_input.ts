/** Entries of the command line, or a stream of them from stdin. */
import type { Env } from '../env.js';

/** Entries of one request at most; what has come by then is sent before more is awaited. */
export const BATCH = 5000;
/** A request has a limit in bytes too. */
const BATCH_CHARACTERS = 400_000;

/** Batches of entries; "-" alone stands for the lines of stdin, where "#" and ";" start a comment. Lines go out as they come. */
export async function* entryBatches(env: Env, given: readonly string[]): AsyncGenerator<string[]> {
  if (given.length !== 1 || given[0] !== '-') {
    yield* split(given);
    return;
  }
  let rest = '';
  const decoder = new TextDecoder();
  for await (const chunk of env.stdin ?? process.stdin) {
    rest += typeof chunk === 'string' ? chunk : decoder.decode(chunk as Uint8Array, { stream: true });
    const end = rest.lastIndexOf('\n');
    if (end < 0) continue;
    yield* split(entriesOf(rest.slice(0, end)));
    rest = rest.slice(end + 1);
  }
  yield* split(entriesOf(rest));
}

function entriesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.replace(/^\s*#.*$|[;].*$|\s#.*$/, '').trim())
    .filter((line) => line !== '');
}

function* split(entries: readonly string[]): Generator<string[]> {
  let batch: string[] = [];
  let characters = 0;
  for (const entry of entries) {
    if (batch.length >= BATCH || (batch.length > 0 && characters + entry.length > BATCH_CHARACTERS)) {
      yield batch;
      batch = [];
      characters = 0;
    }
    batch.push(entry);
    characters += entry.length;
  }
  if (batch.length > 0) yield batch;
}

/**
 * A test runner for one process on a slow machine: tests one after the other, their results as JSON lines on stdout (read by
 * ../run.mjs).
 */
export interface Test {
  name: string;
  run: () => void | Promise<void>;
}

const tests: Test[] = [];

/** Registers a test; they run in this order. */
export function test(name: string, run: Test['run']): void {
  tests.push({ name, run });
}

/** A line for whoever watches: a number that was measured, not an outcome. */
export function note(text: string): void {
  say({ note: text });
}

function say(message: object): void {
  process.stdout.write(`${JSON.stringify(message)}\n`);
}

/** Limit of one asynchronous test. One that never yields is ended with the machine. */
const LIMIT_MS = 240_000;

async function limited(run: Test['run']): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${LIMIT_MS / 1000} s`)), LIMIT_MS);
  });
  try {
    await Promise.race([run(), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** Runs the tests whose name contains `text`, with `after` after each; a failure of that is the test's. */
export async function runTests(text: string, after: () => void | Promise<void>): Promise<void> {
  say({ booted: true });
  for (const { name, run } of tests.filter((one) => one.name.includes(text))) {
    say({ begin: name });
    const start = performance.now();
    let error: unknown;
    try {
      await limited(run);
    } catch (thrown) {
      error = thrown;
    }
    try {
      await after();
    } catch (thrown) {
      error ??= thrown;
    }
    const ms = performance.now() - start;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    say(error === undefined ? { test: name, ok: true, ms } : { test: name, ok: false, ms, error: text });
  }
  say({ done: true });
}

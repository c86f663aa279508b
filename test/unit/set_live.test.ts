/** A thread looks up without pause while this one, the writer, changes the set: what is there all along is always found, what never was never. */
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { describe, expect, it } from 'vitest';
import { CountingReaders, IpSet, type Readers } from '../../src/control/sets/index.js';
import { formatWords } from '../../src/shared/addr.js';
import type { SetType } from '../../src/shared/sets/index.js';
import { random } from '../support/packets.js';

const here = dirname(fileURLToPath(import.meta.url));
/** As long as it takes to do so much, and `RUN_MS` at least. */
const [LOOKUPS, CHANGES] = [20_000, 1000];
const RUN_MS = 700;
const PATIENCE_MS = 10_000;
const TCP80 = (6 << 16) | 80;

type Words = [number, number, number, number];

/** Readers that have also taken the newest buffers: the rule that the wiring of a daemon keeps. */
class WorkerReaders implements Readers {
  private readonly counting: CountingReaders;

  constructor(
    private readonly control: Int32Array,
    private readonly version: () => number,
  ) {
    this.counting = new CountingReaders(() => new Map([[control, Atomics.load(control, 3)]]));
  }

  mark(): unknown {
    return { count: this.counting.mark(), version: this.version() };
  }

  passed(mark: unknown): boolean {
    const { count, version } = mark as { count: unknown; version: number };
    return Atomics.load(this.control, 4) >= version && this.counting.passed(count);
  }
}

interface Outcome {
  lookups: number;
  wrong: number;
  changes: number;
  versions: number;
}

async function hammer(type: SetType, family: 4 | 6, seed: number): Promise<Outcome> {
  const control = new Int32Array(new SharedArrayBuffer(32));
  let set: IpSet | null = null;
  const readers = new WorkerReaders(control, () => set?.version ?? 0);
  const target = (set = new IpSet({ name: 'live', type, maxelem: 100_000, timeout: 0 }, { seconds: () => 1, readers }));
  const next = random(seed);
  const integer = (limit: number): number => Math.floor(next() * limit);
  const isNet = type.startsWith('hash:net');
  const port = type.endsWith(',port') ? TCP80 : 0;
  const bits = family === 4 ? 32 : 128;
  /** All in one block of 16 bits, so that tries and chains are shared by what stays and what moves. */
  const address = (low: number): Words =>
    family === 4 ? [0x0a010000 | (low & 0xffff), 0, 0, 0] : [0x20010db8, 0, (low & 0xff) << 24, low & 0xffff];
  const text = (words: Words, length: number): string =>
    `${formatWords(family, words)}${length === bits ? '' : `/${length}`}${port === 0 ? '' : ',tcp:80'}`;

  const always: Words[] = [];
  const never: Words[] = [];
  for (let low = 0; low < 4096; low += 8) {
    always.push(address(low + 1));
    never.push(address(low + 2));
  }
  for (const words of always) target.add(text(words, bits));
  if (isNet) {
    // The block matches through a short prefix, and some of it is excepted for good.
    target.add(text(address(0), family === 4 ? 17 : 40), {}, true);
    for (const words of never) target.add(text(words, bits), { nomatch: true });
    for (const low of [0x5003, 0x5013, 0x6007]) always.push(address(low));
  }

  const worker = new Worker(join(here, '../support/set_reader.mjs'), {
    workerData: {
      dist: join(here, '../../dist'),
      buffers: target.buffers,
      control,
      family,
      port,
      always: always.flat(),
      never: never.flat(),
    },
  });
  let handed = target.version;
  let versions = 0;
  const failed = new Promise<never>((_, reject) => worker.once('error', reject));
  const ended = new Promise<void>((resolve) => worker.once('exit', () => resolve()));
  const waitFor = (word: number): Promise<void> =>
    Promise.race([failed, (async () => { while (Atomics.load(control, word) === 0) await new Promise((r) => setTimeout(r, 5)); })()]); // prettier-ignore
  await waitFor(1);

  /** What comes and goes: neither among the addresses that are always there nor those that never are, but around and between them. */
  const moving = new Set<string>();
  let changes = 0;
  const change = (): void => {
    const low = integer(0x8000);
    const slot = low & 7;
    const isHost = slot > 2 || low >= 4096;
    if (!isHost) return;
    // Short ones hold the others: they match wherever the short prefix does, so nothing may change by them.
    const length =
      isNet && next() < 0.5 ? Math.max(family === 4 ? 18 : 41, bits - integer(family === 4 ? 14 : 80)) : bits;
    const words = address(low);
    if (length < bits) for (let b = length; b < bits; b++) words[b >> 5] &= ~(1 << (31 - (b & 31)));
    const place = text(words, length);
    if (moving.has(place)) {
      target.del(place);
      moving.delete(place);
    } else if (!(length === bits && always.some((one) => one.every((word, i) => word === words[i])))) {
      const nomatch = isNet && family === 4 && low < 4096 && length >= 20 && next() < 0.3;
      target.add(place, { timeout: next() < 0.3 ? 1000 : 0, nomatch }, true);
      moving.add(place);
    }
    changes++;
  };
  const started = performance.now();
  const enough = (): boolean => Atomics.load(control, 1) > LOOKUPS && changes > CHANGES;
  while (performance.now() - started < RUN_MS || (!enough() && performance.now() - started < PATIENCE_MS)) {
    for (let i = 0; i < 50; i++) change();
    if (target.version !== handed) {
      handed = target.version;
      versions++;
      worker.postMessage(target.buffers);
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  Atomics.store(control, 0, 1);
  await Promise.race([ended, failed]);
  return { lookups: Atomics.load(control, 1), wrong: Atomics.load(control, 2), changes, versions };
}

describe('while a worker looks up', () => {
  it.each([
    ['hash:ip', 4],
    ['hash:ip,port', 6],
    ['hash:net', 4],
    ['hash:net', 6],
    ['hash:net,port', 4],
  ] as const)('%s of IPv%i is never wrong about what does not change', async (type, family) => {
    const outcome = await hammer(type, family, 7);
    expect(outcome.wrong).toBe(0);
    // Both sides did something worth the name.
    expect(outcome.lookups).toBeGreaterThan(LOOKUPS);
    expect(outcome.changes).toBeGreaterThan(CHANGES);
  });
});

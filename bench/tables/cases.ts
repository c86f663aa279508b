/** What the build benches have in common. */
export interface BuildCase<T> {
  name: string;
  /** Done before each build, and not timed. */
  before?: () => void;
  build: () => T;
  /** Throws when the table is not what was asked for; returns a number made of all of it. */
  check: (result: T) => number;
}

export interface Sizes {
  slots: number;
  backends: readonly number[];
  prefixes: number;
  serverIds: number;
  services: number;
}

export const SIZES: Readonly<Record<'small' | 'whole', Sizes>> = {
  small: { slots: 4099, backends: [10, 100], prefixes: 10_000, serverIds: 1000, services: 100 },
  whole: { slots: 65_537, backends: [10, 100, 1000], prefixes: 1_000_000, serverIds: 10_000, services: 10_000 },
};

/** Depends on every value and on its place. */
export function sumOf(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum = (Math.imul(sum, 31) + values[i]) | 0;
  return sum;
}

/** The same pseudo-random int32 in every run (xorshift). */
export function sequence(): () => number {
  let state = 0x2545f491;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    return (state ^= state << 5);
  };
}

export const count = (n: number): string => n.toLocaleString('en');

/**
 * How the CPU time of `run` grows between two sizes, as an exponent: 1 for linear work, 2 for quadratic. Of each size the least of some runs counts, in turn, so that
 * neither other processes nor a warming JIT nor a collection of garbage decides.
 */
export function growth(run: (size: number) => void, small: number, large: number, runs = 5): number {
  const least = [Infinity, Infinity];
  const exponent = (): number => Math.log(least[1] / least[0]) / Math.log(large / small);
  // The least of more runs is nearer to what the work takes: some more where it looks as if it grew too fast.
  for (let i = 0; i < runs || (i < 3 * runs && exponent() >= BELOW_QUADRATIC); i++) {
    for (const [which, size] of [small, large].entries()) {
      const start = process.cpuUsage();
      run(size);
      const { user, system } = process.cpuUsage(start);
      least[which] = Math.min(least[which], user + system);
    }
  }
  return exponent();
}

/** Above all that was seen of nearly linear work (1.0 to 1.4), below what is quadratic for the most part. */
export const BELOW_QUADRATIC = 1.7;

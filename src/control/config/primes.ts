/** Small primes, by trial division: a Maglev ring needs a prime number of slots (section 3.4 of the Maglev paper). */

/** Whether `n` is prime. Takes at most √n/2 divisions: 405 for the largest ring. */
export function isPrime(n: number): boolean {
  if (n < 2 || (n % 2 === 0 && n !== 2)) return false;
  for (let divisor = 3; divisor * divisor <= n; divisor += 2) if (n % divisor === 0) return false;
  return true;
}

/** The largest prime at or below `n`, and the smallest at or above it. `n` must be 2 or more. */
export function nearestPrimes(n: number): [below: number, above: number] {
  let below = n;
  while (!isPrime(below)) below--;
  let above = n;
  while (!isPrime(above)) above++;
  return [below, above];
}

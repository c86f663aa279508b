/**
 * Builds the control plane's tables again and again: `node child.js BUILDS small|whole` prints one JSON line a table. Small only shows that
 * it runs. Each build's result is checked, and must be the same as the first one's.
 */
import { SIZES, type BuildCase } from './cases.js';
import { lookUpCases } from './lookups.js';
import { publisherCases } from './publisher.js';
import { ringCases } from './rings.js';

const builds = Number(process.argv[2]);
const size = SIZES[process.argv[3] === 'small' ? 'small' : 'whole'];
if (!(builds > 0)) throw new RangeError(`"${process.argv[2]}" is not a number of builds`);

/** ms of CPU time of this process, V8's compiler and collector included: what other programs take does not count. */
function time<T>(build: () => T): { ms: number; result: T } {
  const start = process.cpuUsage();
  const result = build();
  const { user, system } = process.cpuUsage(start);
  return { ms: (user + system) / 1000, result };
}

function measure<T>({ name, before, build, check }: BuildCase<T>): void {
  const once = (): { ms: number; sum: number } => {
    before?.();
    const { ms, result } = time(build);
    return { ms, sum: check(result) };
  };
  const first = once();
  const ms: number[] = [];
  for (let n = 0; n < builds; n++) {
    const again = once();
    if (again.sum !== first.sum) throw new Error(`${name}: build ${n + 1} made another table than the first`);
    ms.push(again.ms);
  }
  process.stdout.write(`${JSON.stringify({ name, firstMs: first.ms, ms })}\n`);
}

for (const each of ringCases(size)) measure(each);
for (const each of lookUpCases(size)) measure(each);
for (const each of publisherCases(size)) measure(each);

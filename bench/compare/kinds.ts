/** The benches that compare the path with C++, as far as two revisions of their TypeScript can be compared with each other. */
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packetsToCompare, type PathCase } from '../path/cases.js';
import type { FilterCase } from '../path/filter_cases.js';
import { filtersDidAsMeant, packetsToCompare as filterPackets, type FilterTrial } from '../path/filter_run.js';
import { didAsMeant, type Trial } from '../path/run.js';
import { ChildError } from '../process.js';

/** What a trial is run on. */
export interface CaseToCompare {
  name: string;
  /** Writes what the child reads. */
  write(fixture: string): void;
  /** Packets that both revisions write before they are timed. */
  packets: number;
  /** Whether a trial that printed this did the case's work. */
  didAsMeant(line: unknown): boolean;
}

/** A bench whose child is `node CHILD FIXTURE MS` or `node CHILD FIXTURE --write FILE PACKETS`. */
export interface Kind {
  /** Sources that a revision must have. */
  files: readonly string[];
  /** Below the compiled benches. */
  child: string;
  /** Cases of the revision whose compiled benches are there. @throws ChildError where its modules are of another kind */
  casesOf(benches: string): Promise<CaseToCompare[]>;
}

type Module = Readonly<Record<string, unknown>>;

async function load(benches: string, name: string): Promise<Module> {
  return (await import(pathToFileURL(join(benches, 'path', `${name}.js`)).href)) as Module;
}

/** What a module of another revision exports under a name: as this one has it, or not at all. */
function exported<T>(module: Module, name: string, benches: string): T {
  if (module[name] === undefined)
    throw new ChildError(`${benches}: its cases and fixtures are not of the kind that is known here: no ${name}`);
  return module[name] as T;
}

function pathKind(casesFrom: (module: Module, benches: string) => readonly PathCase[]): Kind {
  return {
    files: ['bench/path/child.ts', 'bench/path/cases.ts', 'bench/path/fixture.ts'],
    child: 'path/child.js',
    async casesOf(benches) {
      const write = exported<(path: string, of: PathCase) => void>(await load(benches, 'fixture'), 'writeFixture', benches); // prettier-ignore
      return casesFrom(await load(benches, 'cases'), benches).map((one) => ({
        name: one.name,
        write: (fixture) => write(fixture, one),
        packets: packetsToCompare(one),
        didAsMeant: (line) => (line as Trial).ns > 0 && didAsMeant(line as Trial, one),
      }));
    },
  };
}

const filterKind: Kind = {
  files: ['bench/path/filter_child.ts', 'bench/path/filter_cases.ts', 'bench/path/filter_fixture.ts'],
  child: 'path/filter_child.js',
  async casesOf(benches) {
    const fixtures = await load(benches, 'filter_fixture');
    const write = exported<(path: string, of: FilterCase) => void>(fixtures, 'writeFilterFixture', benches);
    const cases = exported<(effort: string) => readonly FilterCase[]>(await load(benches, 'filter_cases'), 'filterCases', benches); // prettier-ignore
    return cases('full').map((one) => ({
      name: one.name,
      write: (fixture) => write(fixture, one),
      packets: filterPackets(one),
      didAsMeant: (line) => filtersDidAsMeant(line as FilterTrial, one),
    }));
  },
};

/** By the bench's name. */
export const KINDS: Readonly<Record<string, Kind>> = {
  path: pathKind((module, benches) => exported<readonly PathCase[]>(module, 'PATH_CASES', benches)),
  ways: pathKind((module, benches) => exported<(smoke: boolean) => readonly PathCase[]>(module, 'wayCases', benches)(false)), // prettier-ignore
  filters: filterKind,
};

/** The cases of the path bench that are about filters: the parser alone, rules by their number, sets by their size, and all of it together. */
import type { EffortName } from '../bench.js';

/** What filters are in force, and what becomes of the packets. */
export interface FilterCase {
  name: string;
  /** A multiple of the burst. */
  flows: number;
  flowSlots: number;
  /** Rules; the last one drops every packet of the bench unless these are known flows to be balanced. */
  rules: number;
  /** Addresses of a hash:ip set that drops by source, 0: there is none. It has every source unless packets are to be balanced. */
  setEntries: number;
  /** All packets are dropped: by the parser's caller, by the last rule, by the set; or none is, and known flows are balanced. */
  ends: 'parser' | 'rule' | 'set' | 'balancer';
}

type Filters = Omit<FilterCase, 'flows' | 'flowSlots'>;

const FILTERS: readonly Filters[] = [
  { name: 'parse only', rules: 0, setEntries: 0, ends: 'parser' },
  { name: '1 rule', rules: 1, setEntries: 0, ends: 'rule' },
  { name: '10 rules', rules: 10, setEntries: 0, ends: 'rule' },
  { name: '100 rules', rules: 100, setEntries: 0, ends: 'rule' },
  { name: '1,000 rules', rules: 1000, setEntries: 0, ends: 'rule' },
  { name: 'set of 1 k', rules: 0, setEntries: 1000, ends: 'set' },
  { name: 'set of 1 M', rules: 0, setEntries: 1_000_000, ends: 'set' },
  { name: 'all: 100 rules, set of 1 k, balanced', rules: 100, setEntries: 1000, ends: 'balancer' },
];

const FEW = { flows: 4096, flowSlots: 65_536 };
const MANY = { flows: 1_000_000, flowSlots: 2_097_152 };

function sized(filters: Filters, size: { flows: number; flowSlots: number }): FilterCase {
  return { ...filters, ...size, name: `${filters.name}, ${size.flows.toLocaleString('en')} flows` };
}

/** Every case with 4,096 and with a million flows; quick: with 4,096, and the whole of it with a million; smoke: what takes no second to build. */
export function filterCases(effort: EffortName): readonly FilterCase[] {
  const few = FILTERS.map((filters) => sized(filters, FEW));
  if (effort === 'smoke') return few.filter(({ setEntries }) => setEntries <= 1000);
  const many = FILTERS.map((filters) => sized(filters, MANY));
  return effort === 'full' ? [...few, ...many] : [...few, many[many.length - 1]];
}

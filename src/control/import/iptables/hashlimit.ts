/** `-m hashlimit` and `-m limit` as the limit of a rule: packets above a rate are dropped, the others go on. */
import { SluiceError } from '../../../errors.js';
import type { RuleLimitConfig } from '../../../shared/config.js';
import { parseByteCount, parseRate } from '../../../shared/limits/rate.js';
import { checkLimit, limitSpecOf } from '../../mitigation/limit_spec.js';
import type { Option } from './conditions.js';
import type { RuleDraft } from './rule_draft.js';

/** What a rule says of its limit, as it was read. */
export interface HashLimit {
  /** Rules with one name share a table; ours have one each. null: of `-m limit`, where every rule has its own. */
  name: string | null;
  rate: string;
  /** Packets above it are meant, or those within it; null: not said. */
  direction: 'above' | 'upto' | null;
  /** '': not said. */
  burst: string;
  per: RuleLimitConfig['per'][number][];
  srcMask: number | null;
  dstMask: number | null;
  max: number | null;
}

const FIELDS: Readonly<Record<string, RuleLimitConfig['per'][number]>> = {
  srcip: 'src',
  srcport: 'sport',
  dstip: 'dst',
  dstport: 'dport',
};

function option(read: (limit: HashLimit, value: string, draft: RuleDraft) => boolean): Option {
  return {
    values: 1,
    read(draft, [value], negated) {
      draft.limit ??= { ...NO_LIMIT };
      return !negated && read(draft.limit, value, draft);
    },
  };
}

const NO_LIMIT: HashLimit = {
  name: '',
  rate: '',
  direction: null,
  burst: '',
  per: [],
  srcMask: null,
  dstMask: null,
  max: null,
};

const rate = (direction: 'above' | 'upto'): Option =>
  option((limit, value) => {
    limit.rate = value;
    limit.direction = direction;
    return reads(() => parseRate(value));
  });

const mask = (key: 'srcMask' | 'dstMask'): Option =>
  option((limit, value, draft) => {
    limit[key] = /^\d{1,3}$/.test(value) ? Number(value) : 129;
    return limit[key] <= (draft.family === 4 ? 32 : 128);
  });

/** How the table is kept is our own affair. */
const ours = option(() => true);

export const HASHLIMIT: readonly (readonly [string, Option])[] = [
  ['--hashlimit-above', rate('above')],
  ['--hashlimit-upto', rate('upto')],
  ['--hashlimit-burst', option((limit, value) => ((limit.burst = value), reads(() => parseByteCount(value))))],
  ['--hashlimit-name', option((limit, value) => ((limit.name = value), true))],
  ['--hashlimit-srcmask', mask('srcMask')],
  ['--hashlimit-dstmask', mask('dstMask')],
  ['--hashlimit-htable-size', ours],
  ['--hashlimit-htable-expire', ours],
  ['--hashlimit-htable-gcinterval', ours],
  [
    '--hashlimit-htable-max',
    option((limit, value) => ((limit.max = Math.min(1 << 22, Number(value))), /^[1-9]\d{0,9}$/.test(value))),
  ],
  [
    '--hashlimit-mode',
    option((limit, value) => {
      const fields = value.split(',');
      limit.per = fields.map((field) => FIELDS[field]);
      return fields.every((field) => Object.hasOwn(FIELDS, field));
    }),
  ],
];

/** A rule with both modules has two limits, of which ours would have one. */
const alone = (read: (limit: HashLimit, value: string) => boolean): Option => ({
  values: 1,
  read(draft, [value], negated) {
    draft.limit ??= { ...NO_LIMIT, name: null, rate: '3/hour', direction: 'upto' };
    return !negated && draft.limit.name === null && read(draft.limit, value);
  },
});

export const LIMIT: readonly (readonly [string, Option])[] = [
  ['--limit', alone((limit, value) => ((limit.rate = value), reads(() => parseRate(value))))],
  ['--limit-burst', alone((limit, value) => ((limit.burst = value), /^[1-9]\d{0,4}$/.test(value)))],
];

function reads(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch {
    return false;
  }
}

/** Why no table of ours can keep it; '' when one can. The rate has been read. */
export function limitProblem({ rate, burst, per }: HashLimit): string {
  try {
    checkLimit(limitSpecOf({ rate: parseRate(rate), per, ...(burst === '' ? {} : { burst: parseByteCount(burst) }) }));
    return '';
  } catch (error) {
    if (error instanceof SluiceError) return error.message;
    throw error;
  }
}

/** The value of `limit`. Without a mode all packets share one rate, as they do in iptables. */
export function limitDocument(limit: HashLimit, family: 4 | 6): Record<string, unknown> {
  const { rate, burst, per, srcMask, dstMask, max } = limit;
  const document: Record<string, unknown> = { rate, per };
  // XT_HASHLIMIT_BURST of extensions/libxt_hashlimit.c, XT_LIMIT_BURST of libxt_limit.c.
  if (parseRate(rate).unit === 'packets') document.burst = Number(burst || 5);
  else if (burst !== '') document.burst = burst;
  const suffix = family === 4 ? '' : '6';
  if (srcMask !== null && per.includes('src')) document[`src_mask${suffix}`] = srcMask;
  if (dstMask !== null && per.includes('dst')) document[`dst_mask${suffix}`] = dstMask;
  if (max !== null) document.max = max;
  return document;
}

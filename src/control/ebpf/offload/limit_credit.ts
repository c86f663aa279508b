/**
 * Limits in integers, for a program that has no others. The limiters of the data plane (src/dataplane/mitigate/) count in float64; here every
 * amount is multiplied by what makes all of them whole, so that both say the same of each packet.
 */
import type { LimitSpec } from '../../../shared/layout.js';
import { CREDITS_PER_SECOND, CREDITS_PER_UNIT } from '../../../shared/limits/hash_limit.js';

/** What a packet costs: `cost`; that for each byte; or that for each 16 bytes, the last of them not full, and `cap` at most. */
export type Charge = 'packet' | 'byte' | 'step';

/** A bucket of credit: at most `cap`, growing by `gain` a millisecond. All below 2^63. */
export interface Credit {
  readonly cap: bigint;
  readonly gain: bigint;
  readonly cost: bigint;
  readonly charge: Charge;
  /** Times that an empty credit is filled up again. */
  readonly refills: number;
}

/** A sum of two has to stay below 2^64. */
const MOST = 2n ** 62n;

/** null: the numbers do not fit into 64 bits, since the burst takes too long to fill. */
export function creditOf(spec: LimitSpec): Credit | null {
  const credit = spec.kind === 'hash' ? ofHash(spec.shared.run) : ofBucket(spec.shared);
  // The longest packet that the program looks at.
  const dearest = credit.charge === 'packet' ? credit.cost : credit.cost * 0xffffn;
  return credit.cap <= MOST && credit.gain <= MOST && dearest <= MOST ? credit : null;
}

function ofHash(run: (LimitSpec & { kind: 'hash' })['shared']['run']): Credit {
  const { bytes, refills } = run;
  // Packets: the kernel's own unit, of which a second has 250 · 2^39. Bytes are whole already.
  const scale = bytes ? 1n : BigInt(CREDITS_PER_UNIT);
  const gain = bytes ? BigInt(run.gainPerMs) : BigInt(CREDITS_PER_SECOND / 1000);
  return {
    cap: BigInt(run.cap) * scale,
    gain,
    cost: BigInt(run.cost) * scale,
    charge: bytes ? 'step' : 'packet',
    refills,
  };
}

/** A token is as many parts as the rate's time has milliseconds. */
function ofBucket({ amount, seconds, burst, bytes }: (LimitSpec & { kind: 'bucket' })['shared']): Credit {
  const token = seconds * 1000;
  const cap = BigInt(Math.round(burst * token));
  return { cap, gain: BigInt(amount), cost: BigInt(token), charge: bytes ? 'byte' : 'packet', refills: 0 };
}

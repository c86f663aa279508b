/** What a set is made with: ipset's create options. */
import { SluiceError } from '../../errors.js';
import { maskWords } from '../../shared/addr.js';
import type { Words } from '../../shared/addr.js';
import type { SetOptions } from '../../shared/set_config.js';
import type { SetType } from '../../shared/sets/layout.js';

/** Most seconds of a timeout: ipset keeps milliseconds in 32 bits (IPSET_MAX_TIMEOUT). */
export const TIMEOUT_MOST = 2_147_483;
export const MAXELEM_DEFAULT = 65_536;
/** Most entries of one family: numbers have 24 bits, and half of them may be waiting for the readers. */
export const ENTRIES_MOST = 8_000_000;
const NAME_MOST = 31;
export const COMMENT_MOST = 255;

export type { SetOptions };

export function isNetType(type: SetType): boolean {
  return type === 'hash:net' || type === 'hash:net,port';
}

export function hasPortType(type: SetType): boolean {
  return type === 'hash:ip,port' || type === 'hash:net,port';
}

/** The options with what is left out filled in as ipset does (but both families), checked. Throws SluiceError (SLUICE_FORMAT). */
export function completeOptions(given: Partial<SetOptions> & Pick<SetOptions, 'name' | 'type'>): SetOptions {
  const options: SetOptions = {
    family: 'both',
    maxelem: MAXELEM_DEFAULT,
    timeout: null,
    counters: false,
    comment: false,
    forceadd: false,
    mask4: null,
    mask6: null,
    ...given,
  };
  const fail = (message: string, remedy = ''): never => {
    throw new SluiceError('SLUICE_FORMAT', message, remedy);
  };
  const { name, maxelem, timeout, type, mask4, mask6 } = options;
  if (name === '' || name.length > NAME_MOST || /[\s\p{Cc}"]/u.test(name)) {
    fail(`${JSON.stringify(name.slice(0, 64))} is not a name for a set`, `1 to ${NAME_MOST} characters, no blanks.`);
  }
  if (!(Number.isInteger(maxelem) && maxelem >= 1 && maxelem <= 0xffffffff))
    fail(`maxelem ${maxelem}: 1 to 4294967295`);
  if (timeout !== null) checkTimeout(timeout);
  if (isNetType(type) && (mask4 !== null || mask6 !== null)) {
    fail(`${type} has no netmask or bitmask`, 'Networks have their own lengths.');
  }
  if ([mask4, mask6].some((mask) => mask?.every((word) => word === 0))) fail('a bitmask of no bits');
  return options;
}

export function checkTimeout(seconds: number): void {
  if (!(Number.isInteger(seconds) && seconds >= 0 && seconds <= TIMEOUT_MOST)) {
    throw new SluiceError('SLUICE_FORMAT', `timeout ${seconds}: 0 to ${TIMEOUT_MOST} seconds`);
  }
}

/** The mask of a family, all ones by default. */
export function maskOf({ mask4, mask6 }: SetOptions, family: 4 | 6): Words {
  return (family === 4 ? mask4 : mask6) ?? maskWords(128);
}

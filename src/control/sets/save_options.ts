/** The options of `create` and `add` lines. */
import { SluiceError } from '../../errors.js';
import { addressBits, maskWords, parseAddress, type Words } from '../../shared/addr.js';
import type { SetType } from '../../shared/sets/layout.js';
import type { AddFields } from './entry_extras.js';
import { COMMENT_MOST, isNetType, type SetOptions } from './options.js';
import { LineError, numberOf } from './save_words.js';

type Note = (message: string) => void;

const CREATE_WITH_VALUE = ['family', 'hashsize', 'maxelem', 'bucketsize', 'initval', 'timeout', 'netmask', 'bitmask'];
const CREATE_FLAGS = ['counters', 'comment', 'forceadd', 'skbinfo'];
const ADD_WITH_VALUE = ['timeout', 'packets', 'bytes', 'comment', 'skbmark', 'skbprio', 'skbqueue'];
const ADD_FLAGS = ['nomatch'];
const UINT32_MOST = 0xffffffff;
/** Entries that we make room for at once because a file says so; more come by growing. */
const EXPECTED_MOST = 1 << 22;

/** The options of a create line behind its type. What is not understood is noted. Throws LineError. */
export function readCreateOptions(
  type: SetType,
  words: string[],
  note: Note,
): { options: Omit<SetOptions, 'name' | 'type'>; expected: number } {
  const given = pairs(words.flatMap(familyAsOption), CREATE_WITH_VALUE, CREATE_FLAGS, note);
  const familyText = given.get('family') ?? 'inet';
  // As ipset takes it.
  const family =
    familyText === 'inet' || familyText === 'ipv4'
      ? 'inet'
      : familyText === 'inet6' || familyText === 'ipv6'
        ? 'inet6'
        : null;
  if (family === null) throw new LineError(`family ${JSON.stringify(familyText.slice(0, 64))} is not inet or inet6`);
  if (given.has('bucketsize')) numberOf(given.get('bucketsize'), 'bucketsize', 1, 255);
  if (given.has('initval')) numberOf(given.get('initval'), 'initval', 0, UINT32_MOST);
  if (given.has('skbinfo')) note('skbinfo is not understood: marks and classes are left out');
  const hashsize = given.has('hashsize') ? numberOf(given.get('hashsize'), 'hashsize', 1, UINT32_MOST) : 0;
  const mask = maskFrom(given, type, family);
  const options: Omit<SetOptions, 'name' | 'type'> = {
    family,
    maxelem: given.has('maxelem') ? numberOf(given.get('maxelem'), 'maxelem', 1, UINT32_MOST) : 65_536,
    timeout: given.has('timeout') ? numberOf(given.get('timeout'), 'timeout', 0, 2_147_483) : null,
    counters: given.has('counters'),
    comment: given.has('comment'),
    forceadd: given.has('forceadd'),
    mask4: family === 'inet' ? mask : null,
    mask6: family === 'inet6' ? mask : null,
  };
  return { options, expected: Math.min(hashsize, EXPECTED_MOST) };
}

/** ipset takes a family also as an option of its own. */
function familyAsOption(word: string): string[] {
  return word === '-4' ? ['family', 'inet'] : word === '-6' ? ['family', 'inet6'] : [word];
}

function maskFrom(given: ReadonlyMap<string, string>, type: SetType, family: 'inet' | 'inet6'): Words | null {
  const netmask = given.get('netmask');
  const bitmask = given.get('bitmask');
  if (netmask === undefined && bitmask === undefined) return null;
  if (isNetType(type)) throw new LineError(`${type} has no netmask or bitmask`);
  if (netmask !== undefined && bitmask !== undefined) throw new LineError('netmask and bitmask exclude each other');
  const version = family === 'inet' ? 4 : 6;
  if (netmask !== undefined) return maskWords(numberOf(netmask, 'netmask', 1, addressBits(version)));
  try {
    const address = parseAddress(bitmask!);
    if (address.family === version) return address.words;
  } catch (error) {
    if (!(error instanceof SluiceError)) throw error;
  }
  throw new LineError(`bitmask ${JSON.stringify(bitmask!.slice(0, 64))} is not an IPv${version} address`);
}

/** "netmask 24" or "bitmask 255.0.255.0". */
export function maskText(mask: Words, family: 'inet' | 'inet6', text: (words: Words) => string): string {
  const bits = family === 'inet' ? 32 : 128;
  for (let length = 1; length <= bits; length++) {
    const net = maskWords(length);
    if (net.every((word, i) => i >= bits / 32 || word === mask[i])) return `netmask ${length}`;
  }
  return `bitmask ${text(mask)}`;
}

/** The options of an add or del line behind its element. What is not understood is noted. Throws LineError. */
export function readAddFields(words: string[], note: Note): AddFields {
  if (words.length === 0) return {};
  const given = pairs(words, ADD_WITH_VALUE, ADD_FLAGS, note);
  const fields: AddFields = {};
  if (given.has('timeout')) fields.timeout = numberOf(given.get('timeout'), 'timeout', 0, 2_147_483);
  if (given.has('packets')) fields.packets = numberOf(given.get('packets'), 'packets', 0, 2 ** 64);
  if (given.has('bytes')) fields.bytes = numberOf(given.get('bytes'), 'bytes', 0, 2 ** 64);
  if (given.has('nomatch')) fields.nomatch = true;
  const comment = given.get('comment');
  if (comment !== undefined) {
    if (Buffer.byteLength(comment) > COMMENT_MOST) throw new LineError(`a comment of more than ${COMMENT_MOST} bytes`);
    fields.comment = comment;
  }
  for (const name of ['skbmark', 'skbprio', 'skbqueue'])
    if (given.has(name)) note(`${name} is not understood: it is left out`);
  return fields;
}

/** Options by name; flags have the value "". A word that is no option is noted with what follows it up to the next option. */
function pairs(words: string[], withValue: string[], flags: string[], note: Note): Map<string, string> {
  const found = new Map<string, string>();
  for (let i = 0; i < words.length; i++) {
    const name = words[i];
    if (flags.includes(name)) found.set(name, '');
    else if (withValue.includes(name)) {
      if (++i >= words.length) throw new LineError(`${name} without a value`);
      found.set(name, words[i]);
    } else {
      let last = i;
      while (last + 1 < words.length && !flags.includes(words[last + 1]) && !withValue.includes(words[last + 1]))
        last++;
      const text = words
        .slice(i, last + 1)
        .join(' ')
        .slice(0, 64);
      note(`option ${JSON.stringify(text)} is not understood: it is left out`);
      i = last;
    }
  }
  return found;
}

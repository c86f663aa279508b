/** Reads and writes the text of `ipset save` and `ipset restore` (ipset(8)). */
import { SluiceError } from '../../errors.js';
import { formatWords } from '../../shared/addr.js';
import type { SetType } from '../../shared/sets/layout.js';
import type { AddFields } from './entry_extras.js';
import type { IpSet } from './ip_set.js';
import { COMMENT_MOST, isNetType, type SetOptions } from './options.js';
import type { SetRegistry } from './registry.js';
import { maskText, readAddFields, readCreateOptions } from './save_options.js';
import { LineError, splitWords } from './save_words.js';

/** Something in the text that sluice does not do. The rest was done. */
export interface SaveNote {
  line: number;
  message: string;
}

export interface RestoreResult {
  notes: SaveNote[];
  /** Names of sets that the text made. */
  created: string[];
  /** `add` lines that were carried out. */
  added: number;
}

const TYPES: readonly string[] = ['hash:ip', 'hash:net', 'hash:ip,port', 'hash:net,port'];
/** Names of ipset 4, which ipset takes to this day. */
const OLD_TYPES: Readonly<Record<string, string>> = {
  iphash: 'hash:ip',
  nethash: 'hash:net',
  ipporthash: 'hash:ip,port',
};
/** Types that ipset has, so that a note can tell them from slips of the pen. */
const OTHER_TYPES =
  /^(bitmap:(ip|ip,mac|port)|list:set|hash:(mac|ip,mac|ip,mark|ip,port,ip|ip,port,net|net,net|net,port,net|net,iface))$/;
const LINE_MOST = 4096;
/** A comment of ours: ipset has one family a set, so that a set of both is written as two. */
const PART = /^# (\S{1,31}) is the IPv6 part of (\S{1,31})$/;
/** Commands and their short forms; a longer beginning of a command's name will also do. */
const COMMANDS: readonly (readonly [name: string, short: string, old: string])[] = [
  ['create', 'n', '-N'],
  ['add', 'a', '-A'],
  ['del', 'd', '-D'],
  ['flush', 'f', '-F'],
  ['destroy', 'x', '-X'],
  ['rename', 'e', '-E'],
  ['swap', 'w', '-W'],
];

/** Runs `lines` of restore text against a registry. See `restoreSets`. */
class Restorer {
  readonly result: RestoreResult = { notes: [], created: [], added: 0 };
  /** Sets of the text that sluice cannot have: their type, and the lines that are left out. */
  private readonly unknown = new Map<string, { line: number; type: string; left: number }>();
  /** By the names of IPv6 parts, what the text says that they are a part of; and of those that were created, the set that has their entries. */
  private readonly announced = new Map<string, string>();
  private readonly parts = new Map<string, string>();
  /** Notes by their text: where it came up first, and how often. */
  private readonly same = new Map<string, { line: number; lines: number }>();
  private line = 0;

  constructor(
    private readonly registry: SetRegistry,
    private readonly file: string,
  ) {}

  run(text: string): void {
    const settle: (() => void)[] = [];
    try {
      for (let start = 0; start < text.length;) {
        const end = text.indexOf('\n', start);
        this.line++;
        this.lineOf(text.slice(start, end < 0 ? text.length : end), settle);
        start = end < 0 ? text.length : end + 1;
      }
    } finally {
      for (const done of settle) done();
    }
    const { notes } = this.result;
    for (const [name, { line, type, left }] of this.unknown) {
      const lines = left === 1 ? 'with this line' : `with ${left} lines about it`;
      notes.push({ line, message: `type ${type} is not understood: set ${name} is left out, ${lines}` });
    }
    for (const [message, { line, lines }] of this.same) {
      notes.push({ line, message: lines === 1 ? message : `${message} (${lines} lines, this is the first)` });
    }
    notes.sort((a, b) => a.line - b.line);
  }

  private lineOf(raw: string, settle: (() => void)[]): void {
    const text = raw.trim();
    const part = PART.exec(text);
    if (part !== null) this.announced.set(part[1], part[2]);
    if (text === '' || text.startsWith('#') || text === 'COMMIT') return;
    try {
      if (text.length > LINE_MOST) throw new LineError(`a line of more than ${LINE_MOST} characters`);
      this.command(splitWords(text), settle);
    } catch (error) {
      if (error instanceof LineError) throw this.placed(error.message, error.remedy);
      if (error instanceof SluiceError) throw this.placed(error.message, error.remedy, error);
      throw error;
    }
  }

  private command(all: string[], settle: (() => void)[]): void {
    const words = all.filter((word) => word !== '-exist' && word !== '-!');
    const exist = words.length < all.length;
    const [verb, ...rest] = words;
    const command = COMMANDS.find(([name, short, old]) => verb === short || verb === old || isStart(verb, name));
    if (command === undefined) {
      throw new LineError(
        `${JSON.stringify((verb ?? '').slice(0, 64))} is not a command of ipset restore`,
        'Is it a file of ipset save?',
      );
    }
    const name = rest[0];
    if (name !== undefined && this.isUnknown(name, command[0], rest)) return;
    switch (command[0]) {
      case 'create':
        return this.create(rest, exist, settle);
      case 'add': {
        const [set, element, fields] = this.entryOf(rest);
        this.registry.get(this.parts.get(set) ?? set).add(element, fields, exist);
        this.result.added++;
        return;
      }
      case 'del': {
        const [set, element] = this.entryOf(rest);
        return this.registry.get(this.parts.get(set) ?? set).del(element, exist);
      }
      case 'flush':
        if (name === undefined) for (const each of this.registry.names) this.registry.get(each).flush();
        else this.registry.get(name).flush();
        return this.expectWords(rest, 0, 1);
      case 'destroy':
        if (name === undefined) throw new LineError('destroy of every set', 'Name the set.');
        this.expectWords(rest, 1, 1);
        return this.registry.destroy(name);
      case 'rename':
        this.expectWords(rest, 2, 2);
        return this.registry.rename(rest[0], rest[1]);
      case 'swap':
        this.expectWords(rest, 2, 2);
        return this.registry.swap(rest[0], rest[1]);
    }
  }

  private create(words: string[], exist: boolean, settle: (() => void)[]): void {
    const [name, written, ...options] = words;
    if (written === undefined) throw new LineError('create without a type', 'Write for example: create NAME hash:net');
    const type = Object.hasOwn(OLD_TYPES, written) ? OLD_TYPES[written] : written;
    if (!TYPES.includes(type)) {
      if (!OTHER_TYPES.test(type))
        throw new LineError(`${JSON.stringify(type.slice(0, 64))} is not a set type`, `Types: ${TYPES.join(' ')}.`);
      this.unknown.set(name, { line: this.line, type, left: 1 });
      return;
    }
    const read = readCreateOptions(type as SetType, options, (message) => this.note(message));
    const { family, mask6 } = read.options;
    const whole = this.announced.get(name);
    if (whole !== undefined && family === 'inet6' && this.registry.has(whole)) {
      this.parts.set(name, whole);
      // The whole has no entries yet: its IPv6 part is announced in front of it, and created right behind.
      const { options: made, count } = this.registry.get(whole);
      if (mask6 === null || count > 0) return;
      this.registry.destroy(whole);
      settle.push(this.registry.create({ ...made, mask6 }, false, read.expected).startBulk());
      return;
    }
    const isNew = !this.registry.has(name);
    const isWhole = family === 'inet' && [...this.announced.values()].includes(name);
    const set = this.registry.create(
      { ...read.options, family: isWhole ? 'both' : family, name, type: type as SetType },
      exist,
      read.expected,
    );
    if (isNew) this.result.created.push(name);
    settle.push(set.startBulk());
  }

  private entryOf(words: string[]): [set: string, element: string, fields: AddFields] {
    const [set, element, ...options] = words;
    if (element === undefined)
      throw new LineError('a set and an element are expected', 'Write for example: add NAME 192.0.2.0/24');
    return [set, element, readAddFields(options, (message) => this.note(message))];
  }

  /** Whether the line is about a set that is left out. */
  private isUnknown(name: string, command: string, words: string[]): boolean {
    const of = command === 'swap' ? words.slice(0, 2) : [name];
    const found = of.map((each) => this.unknown.get(each)).find((each) => each !== undefined);
    if (found === undefined || command === 'create') return false;
    found.left++;
    return true;
  }

  private expectWords(words: string[], least: number, most: number): void {
    if (words.length < least) throw new LineError('a name is missing');
    if (words.length > most) throw new LineError(`${JSON.stringify(words[most].slice(0, 64))} is one word too many`);
  }

  private note(message: string): void {
    const same = this.same.get(message);
    if (same !== undefined) same.lines++;
    else this.same.set(message, { line: this.line, lines: 1 });
  }

  private placed(message: string, remedy: string, cause?: unknown): SluiceError {
    return new SluiceError('SLUICE_FORMAT', `${this.file}:${this.line}: ${message}`, remedy, { cause });
  }
}

/** Whether `verb` is the beginning of a command's name, long enough to be no other's. */
function isStart(verb: string | undefined, name: string): boolean {
  return verb !== undefined && verb.length >= 2 && name.startsWith(verb);
}

/**
 * Carries out the text of an `ipset save`, or of whatever `ipset restore` takes: create, add, del, flush, destroy, rename, swap. Throws SluiceError
 * (SLUICE_FORMAT) at the first line that is wrong, naming `file` and line; what stood before it is done. What is right for ipset but not understood here (other
 * set types, skbinfo) is left out and noted, each with its line.
 */
export function restoreSets(text: string, registry: SetRegistry, file = 'ipset save'): RestoreResult {
  const restorer = new Restorer(registry, file);
  restorer.run(text);
  return restorer.result;
}

/**
 * The set as `ipset restore` takes it. A set of both families becomes two, the second with "6" behind its name, and a comment in front by which
 * `restoreSets` makes them one again. `taken`: names of sets that are in the same text; the second's is added.
 */
export function* saveSet(set: IpSet, taken = new Set<string>()): Generator<string> {
  const { options } = set;
  const isBoth = options.family === 'both';
  const part = isBoth ? nameOfPart(options.name, taken) : options.name;
  const nameOf = (isIpv6: boolean): string => (isIpv6 ? part : options.name);
  if (isBoth) yield `# ${part} is the IPv6 part of ${options.name}`;
  const families = isBoth ? (['inet', 'inet6'] as const) : [options.family as 'inet' | 'inet6'];
  for (const family of families) yield createLine(options, nameOf(family === 'inet6'), family);
  for (const { text, timeout, nomatch, counters, comment } of set.list()) {
    let line = `add ${nameOf(text.includes(':') && text.split(',')[0].includes(':'))} ${text}`;
    if (timeout !== null) line += ` timeout ${timeout}`;
    if (nomatch) line += ' nomatch';
    if (counters !== null) line += ` packets ${counters.packets} bytes ${counters.bytes}`;
    if (comment !== null) line += ` comment "${comment.replaceAll('"', "'").slice(0, COMMENT_MOST)}"`;
    yield line;
  }
}

function nameOfPart(name: string, taken: Set<string>): string {
  let part = `${name.slice(0, 30)}6`;
  for (let i = 2; taken.has(part) || part === name; i++) part = `${name.slice(0, 24)}6.${i}`;
  taken.add(part);
  return part;
}

function createLine(options: SetOptions, name: string, family: 'inet' | 'inet6'): string {
  const { type, maxelem, timeout, counters, comment, forceadd } = options;
  let line = `create ${name} ${type} family ${family} maxelem ${maxelem}`;
  const mask = family === 'inet' ? options.mask4 : options.mask6;
  if (mask !== null && !isNetType(type))
    line += ` ${maskText(mask, family, (words) => formatWords(family === 'inet' ? 4 : 6, words))}`;
  if (timeout !== null) line += ` timeout ${timeout}`;
  if (counters) line += ' counters';
  if (comment) line += ' comment';
  if (forceadd) line += ' forceadd';
  return line;
}

/**
 * What a packet must have for a program to match it, as an index of rules can use it: protocols, addresses, ports. Found by running the
 * program on sets of values once for IPv4, once for IPv6 and once for all else. Where paths meet, what came by each is kept apart as long as that is not
 * much: "host H and port P" is four ways to match, and the sets of them united would allow any address with any port.
 */
import { withoutLoops } from './loops.js';
import { Bpf, Code, isConditional, isReturn, Word, type Program } from './program.js';
import type { Range } from './ranges.js';
import { intersect, subtract, union, type RangeSet } from './range_sets.js';
import { simplify } from './simplify.js';
import { targetsOf } from './structure.js';
import { operationAt, type Operation } from './values.js';

/**
 * One way to match. Every set is of the bytes where they lie in the packet, numbers as they are on the wire, and all values that a field can
 * have where the program says nothing. The ports are the two pairs of bytes behind the IPv4 header (its IHL counts) or the fixed IPv6 header,
 * whatever the protocol, in fragments too: who indexes by ports has to try the program on packets whose ports he does not know.
 */
export interface FamilyFacts {
  /** IPv4's protocol; the next header in the fixed IPv6 header. */
  readonly protocols: RangeSet;
  /** One set for IPv4; one for each 32-bit word of an IPv6 address. */
  readonly source: readonly RangeSet[];
  readonly destination: readonly RangeSet[];
  readonly sourcePorts: RangeSet;
  readonly destinationPorts: RangeSet;
}

export interface Facts {
  /**
   * A packet whose EtherType (at offset 12; where programs begin at the layer-3 header: whose version) is IPv4 matches only if all of one of these
   * holds; none: it never does.
   */
  readonly ipv4: readonly FamilyFacts[];
  readonly ipv6: readonly FamilyFacts[];
  /** Whether any other packet may match: ARP, and VLAN tags, whose EtherType at offset 12 is their own. */
  readonly other: boolean;
}

/** Ways to match that are told apart, and states in front of an instruction; of more, the nearest are united. */
const WAYS_MOST = 8;
const STATES_MOST = 8;
const RANGES_MOST = 32;

/** A load that the analysis knows by name. */
interface Field {
  readonly code: number;
  readonly k: number;
  /** The offset counts from the end of the IPv4 header: X = 4 × IHL. */
  readonly behindHeader: boolean;
}

/** Numbers of the fields, the same for both families; addresses have one or four. */
const enum Is {
  family = 0,
  protocol = 1,
  sourcePort = 2,
  destinationPort = 3,
  source = 4,
}

interface Family {
  readonly base: number;
  readonly fields: readonly Field[];
  /** Words of an address. */
  readonly words: number;
}

/** What says the family: the EtherType, or the first byte of the layer-3 header. */
function familyField(base: number): Field {
  return base === 0 ? at(Code.LD_B_ABS, 0) : at(Code.LD_H_ABS, 12);
}

function at(code: number, k: number, behindHeader = false): Field {
  return { code, k, behindHeader };
}

function words(offset: number, count: number): Field[] {
  return Array.from({ length: count }, (_, i) => at(Code.LD_W_ABS, offset + 4 * i));
}

function ipv4(base: number): Family {
  const ports = [at(Code.LD_H_IND, base, true), at(Code.LD_H_IND, base + 2, true)];
  return { base, words: 1, fields: [familyField(base), at(Code.LD_B_ABS, base + 9), ...ports, ...words(base + 12, 2)] };
}

function ipv6(base: number): Family {
  const ports = [at(Code.LD_H_ABS, base + 40), at(Code.LD_H_ABS, base + 42)];
  return { base, words: 4, fields: [familyField(base), at(Code.LD_B_ABS, base + 6), ...ports, ...words(base + 8, 8)] };
}

const ETHER_TYPES: readonly Range[] = [
  { lo: 0x800, hi: 0x800 },
  { lo: 0x86dd, hi: 0x86dd },
];
const IP_VERSIONS: readonly Range[] = [
  { lo: 0x40, hi: 0x4f },
  { lo: 0x60, hi: 0x6f },
];

/** In front of an instruction: what each field may be, and what A and X are. */
interface State {
  readonly sets: readonly RangeSet[];
  /** A is this field, −1: something else, with the bits of `mask`. */
  readonly field: number;
  readonly mask: number;
  /** X is 4 × IHL. */
  readonly header: boolean;
}

/**
 * Necessary conditions for a match. Of a program that begins at the layer-3 header (`link` is 'ip'), `ipv4` holds for packets whose first byte says
 * version 4, `ipv6` for version 6. The program has passed checkProgram, or checkLoops.
 */
export function necessary(program: Program): Facts {
  // Whatever comes to a loop may match.
  const simple = simplify(withoutLoops(program, 1));
  const base = program.link === 'ethernet' ? 14 : 0;
  const any: RangeSet = [{ lo: 0, hi: base === 0 ? 0xff : 0xffff }];
  const [four, six] = base === 0 ? IP_VERSIONS : ETHER_TYPES;
  const rest = subtract(subtract(any, four), six);
  return {
    ipv4: waysOf(simple, ipv4(base), [four]),
    ipv6: waysOf(simple, ipv6(base), [six]),
    // Fields of IPv4 mean nothing here; that some value of theirs is ruled out is still true.
    other: waysOf(simple, ipv4(base), rest).length > 0,
  };
}

/** `first`: what the field that says the family may be. */
function waysOf(program: Program, family: Family, first: RangeSet): FamilyFacts[] {
  const count = program.words.length / Word.SIZE;
  const states: State[][] = Array.from({ length: count }, () => []);
  const ways: State[] = [];
  const all: RangeSet[] = family.fields.map(({ code }) => [{ lo: 0, hi: mostOf(code) }]);
  const flow = (to: number, state: State | null): void => {
    if (state === null) return;
    const { code, k } = operationAt(program.words, to);
    if (!isReturn(code)) join(states[to], state, STATES_MOST);
    // What A and X are is no fact.
    else if (code === Code.RET_A || k !== 0) join(ways, { ...state, ...NOTHING_KNOWN }, WAYS_MOST);
  };
  flow(0, { sets: all.with(Is.family, first), ...NOTHING_KNOWN });
  for (let i = 0; i < count; i++) {
    const operation = operationAt(program.words, i);
    // Jumps go forwards: nothing is added to these any more.
    for (const state of states[i]) {
      if (isConditional(operation.code)) {
        const [taken, other] = targetsOf(program.words, i);
        flow(taken, constrain(operation, state, true, family));
        flow(other, constrain(operation, state, false, family));
      } else if (operation.code === Code.JA) flow(i + 1 + operation.k, state);
      else flow(i + 1, step(operation, state, family));
    }
    states[i] = [];
  }
  return ways.map(({ sets }) => factsOf(sets, family.words));
}

const NOTHING_KNOWN = { field: -1, mask: -1, header: false };

/**
 * Adds a state to those that come the same way. One that differs from another in a single set is united with it, which loses nothing; with `most` there
 * already, it is united with the one that differs in the fewest.
 */
function join(states: State[], state: State, most: number): void {
  let nearest = -1;
  let least = Infinity;
  for (let i = 0; i < states.length; i++) {
    const distance = differences(states[i], state);
    if (distance < least) [nearest, least] = [i, distance];
  }
  if (least === 0) return;
  if (least > 1 && states.length < most) states.push(state);
  else states[nearest] = merge(states[nearest], state);
}

/** Sets in which they differ; many when A or X is something else. */
function differences(one: State, two: State): number {
  const known = one.field === two.field && one.mask === two.mask && one.header === two.header;
  let count = known ? 0 : 100;
  for (let i = 0; i < one.sets.length; i++) if (!sameSet(one.sets[i], two.sets[i])) count++;
  return count;
}

function sameSet(one: RangeSet, two: RangeSet): boolean {
  if (one === two) return true;
  return one.length === two.length && one.every(({ lo, hi }, i) => lo === two[i].lo && hi === two[i].hi);
}

function mostOf(code: number): number {
  const size = code & Bpf.SIZE;
  return size === Bpf.W ? 0xffffffff : size === Bpf.H ? 0xffff : 0xff;
}

function factsOf(sets: readonly RangeSet[], count: number): FamilyFacts {
  return {
    protocols: sets[Is.protocol],
    sourcePorts: sets[Is.sourcePort],
    destinationPorts: sets[Is.destinationPort],
    source: sets.slice(Is.source, Is.source + count),
    destination: sets.slice(Is.source + count),
  };
}

function merge(one: State, two: State): State {
  const same = one.field === two.field && one.mask === two.mask;
  return {
    sets: one.sets.map((set, i) => union(set, two.sets[i], RANGES_MOST)),
    field: same ? one.field : -1,
    mask: same ? one.mask : -1,
    header: one.header && two.header,
  };
}

/** Behind an instruction that is no jump. */
function step({ code, k }: Operation, state: State, { base, fields }: Family): State {
  switch (code & Bpf.CLASS) {
    case Bpf.LD: {
      const field = fields.findIndex(
        (known) => known.code === code && known.k === k && (!known.behindHeader || state.header),
      );
      return { ...state, field, mask: -1 };
    }
    case Bpf.LDX:
      return { ...state, header: code === Code.LDX_MSH && k === base };
    case Bpf.ALU:
      if (code === Code.AND_K) return { ...state, mask: state.mask & k };
      return { ...state, field: -1 };
    case Bpf.MISC:
      return code === Code.TAX ? { ...state, header: false } : { ...state, field: -1 };
    default:
      return state;
  }
}

/** On an edge of a conditional jump; null where no packet comes by. */
function constrain({ code, k }: Operation, state: State, taken: boolean, { fields }: Family): State | null {
  if (state.field < 0 || (code & Bpf.SRC) === Bpf.X) return state;
  const value = k >>> 0;
  const set = state.sets[state.field];
  // A field has no bits above its size.
  const bits = (state.mask | ~mostOf(fields[state.field].code)) >>> 0;
  let result = set;
  if ((code & Bpf.OP) === Bpf.JEQ) {
    // Only a mask of leading bits makes a range of what it lets through.
    const range = prefixRange(value, bits);
    if (range === null) return taken && (value & ~bits) !== 0 ? null : state;
    result = taken ? intersect(set, range) : subtract(set, range);
  } else if (bits === 0xffffffff && (code & Bpf.OP) !== Bpf.JSET) {
    const least = (code & Bpf.OP) === Bpf.JGT ? value + 1 : value;
    result = taken ? intersect(set, { lo: least, hi: 0xffffffff }) : intersect(set, { lo: 0, hi: least - 1 });
  }
  return result.length === 0 ? null : { ...state, sets: state.sets.with(state.field, result) };
}

/** Numbers v with (v & mask) = value: a range when the mask's zeros are its last bits; null otherwise. */
function prefixRange(value: number, mask: number): Range | null {
  const rest = ~mask >>> 0;
  if ((rest & (rest + 1)) !== 0 || (value & rest) !== 0) return null;
  return { lo: value, hi: (value | rest) >>> 0 };
}

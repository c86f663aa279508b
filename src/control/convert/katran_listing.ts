/** What Katran's example client prints: VIPs with their reals (-l), QUIC server ids (-list_qm), health checks (-list_hc). */
import type { ConvertInput, Notes, Place } from './draft.js';
import { type KatranState, type KatranVip, localReal, vipFlags, vipOf } from './katran_state.js';
import { Unreadable, parsePlace, portOf, wholeNumber } from './places.js';

/** Of no meaning for a configuration: log lines of Go, statistics, closing words. */
const CHATTER =
  /^(\d{4}\/\d\d\/\d\d \d\d:\d\d:\d\d |exiting$|printing address |summary: |vip: |ICMP "|Deleting |Mac address )/;

/** Adds to `state` what the lines say; returns the numbers of those lines, from 1. What is wrong is in the notes. */
export function readListing({ name: file, text }: ConvertInput, state: KatranState, notes: Notes): Set<number> {
  const seen = new Set<number>();
  let vip: KatranVip | null = null;
  text.split(/\r?\n/).forEach((line, i) => {
    const place: Place = { file, line: i + 1 };
    try {
      const match = LINES.map(({ shape }) => shape.exec(line)).find((found) => found !== null);
      if (match) {
        const { read } = LINES.find(({ shape }) => shape.test(line))!;
        seen.add(i + 1);
        vip = read(match, { place, state, notes, vip });
      } else if (CHATTER.test(line.trim())) seen.add(i + 1);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      notes.lost(place, error.message, error.remedy);
      // What follows belongs to a VIP that could not be read.
      vip = null;
    }
  });
  return seen;
}

interface Context {
  place: Place;
  state: KatranState;
  notes: Notes;
  /** The VIP that the lines are about. */
  vip: KatranVip | null;
}

type Read = (match: RegExpExecArray, context: Context) => KatranVip | null;

const LINES: readonly { shape: RegExp; read: Read }[] = [
  {
    shape: /^VIP:\s*(\S+)\s+Port:\s*(\S+)\s+Protocol:\s*(tcp|udp)\s*$/,
    read: ([, address, port, protocol], { place, state }) => {
      const found = vipOf(protocol as 'tcp' | 'udp', parsePlace(address).address, portOf(port));
      if (state.vips.has(found.key))
        throw new Unreadable(`the VIP is there already, from line ${state.vips.get(found.key)!.place.line}`);
      const vip: KatranVip = { ...found, place, flags: new Set(), reals: new Map() };
      state.vips.set(found.key, vip);
      return vip;
    },
  },
  {
    shape: /^Vip's flags:(.*)$/,
    read: ([, flags], { vip }) => {
      if (!vip) throw new Unreadable('belongs to no VIP above');
      for (const flag of vipFlags(flags)) vip.flags.add(flag);
      return vip;
    },
  },
  {
    shape: /^\s*->\s*(\S+)\s+weight:?\s*(\S+)(?:\s+flags:(.*))?\s*$/,
    read: ([, address, weight, flags = ''], { place, notes, vip }) => {
      if (!vip) throw new Unreadable('belongs to no VIP above');
      const real = {
        place,
        address: parsePlace(address).address,
        weight: wholeNumber(weight, 2 ** 31 - 1, 'a weight'),
      };
      vip.reals.set(real.address.text, real);
      if (flags.includes('LOCAL_REAL')) localReal(place, notes);
      return vip;
    },
  },
  {
    shape: /^real:\s*(\S+)\s*= connection id:\s*(\d+)\s*$/,
    read: ([, address, id], { place, state, vip }) => {
      state.serverIds.set(wholeNumber(id, 2 ** 31 - 1, 'a server id'), {
        place,
        address: parsePlace(address).address.text,
      });
      return vip;
    },
  },
  {
    shape: /^somark:\s*(\d+)\s+addr:\s*(\S+)\s*$/,
    read: ([, mark], { place, state, vip }) => {
      state.checked.set(mark, place);
      return vip;
    },
  },
];

/** Sets of a configuration, as read, checked and completed. */
import type { Words } from './addr.js';
import type { SetSides, SetType } from './sets/index.js';

/** Where a set's entries come from. The text of a file is not kept: whoever fills the set reads it again and compares the digest. */
export type SetSource =
  | {
      kind: 'file';
      /** Absolute. */
      path: string;
      /** SHA-256 of its bytes, hexadecimal. */
      digest: string;
      /** Text of `ipset save`, or a list with one element a line. */
      format: 'save' | 'list';
      /** The set's name in a text of `ipset save`. */
      nameInFile: string;
    }
  /** As written behind a name in an `add` line: "192.0.2.0/24 timeout 60". */
  | { kind: 'entries'; entries: readonly string[] };

/** What of a packet is looked up: iptables' `--match-set NAME src,dst`. "src" and "dst" mean address and port of that side. */
export type SetKeyName = 'src' | 'dst' | 'src,src' | 'src,dst' | 'dst,src' | 'dst,dst';

/** What a set is made with: ipset's create options. */
export interface SetOptions {
  name: string;
  type: SetType;
  /** ipset's sets have one family; ours may have both. */
  family: 'inet' | 'inet6' | 'both';
  /** Entries at a time, of both families together. */
  maxelem: number;
  /** Seconds that an entry lives when it does not say, 0: for ever; null: entries of this set do not end. */
  timeout: number | null;
  counters: boolean;
  comment: boolean;
  /** A full set gives up some entry for a new one. */
  forceadd: boolean;
  /** hash:ip, hash:ip,port: bits of addresses that count, by family. null: all. */
  mask4: Words | null;
  mask6: Words | null;
}

export interface SetConfig extends SetOptions {
  source: SetSource;
  /** Packets in it are dropped before the rules; null: only what refers to the set by name asks it. */
  drop: SetKeyName | null;
}

const SIDES: Readonly<Record<SetKeyName, SetSides>> = {
  src: 0,
  'src,src': 0,
  'dst,src': 1,
  'src,dst': 2,
  dst: 3,
  'dst,dst': 3,
};

export function isSetKey(text: string): text is SetKeyName {
  return Object.hasOwn(SIDES, text);
}

export function sidesOf(key: SetKeyName): SetSides {
  return SIDES[key];
}

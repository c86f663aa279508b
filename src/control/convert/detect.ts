/** Whose configuration a text is, by what only that one has. */
import type { ConvertInput } from './draft.js';

export const CONVERT_SOURCES = ['ipvs', 'katran', 'glb'] as const;
export type ConvertSource = (typeof CONVERT_SOURCES)[number];

const KATRAN = /\bkatran|^VIP:|^Vip's flags:|(^|\s)-(vf|rf|new_hc|quic_mapping|change_mac|list_\w+)\b/im;
const IPVS =
  /\bipvsadm\b|(^|\s)--?(add-s|fwmark-service|sctp-service|persistent|scheduler)|(^|\n)\s*-A\s.*\s-s\s+\w+|(^|\n)\s*-a\s.*\s-[gim]\b/;
/** Both have these, and mean the same by them. */
const EITHER = /(^|\n)\s*-[Aa]\s+-[tu]\s/;

/** null when it could be anything, or more than one of them. */
export function detectSource(inputs: readonly ConvertInput[]): ConvertSource | null {
  const found = new Set(inputs.map(({ text }) => sourceOf(text)));
  const [source] = found;
  return found.size === 1 ? source : null;
}

/** What people give that is not the right text, and what is. */
const OTHERS: readonly [shape: RegExp, what: string, remedy: string][] = [
  [/^\s*$/, 'there is nothing in it', 'An ipvsadm -S -n that prints nothing has no services.'],
  [
    /^IP Virtual Server version|^Prot LocalAddress:Port/m,
    'this is the table of ipvsadm -L, which does not say all',
    'Give the output of: ipvsadm -S -n',
  ],
  [
    /^\s*(virtual_server|virtual_server_group|real_server)\s.*\{/m,
    'this is a configuration of keepalived',
    'Give what it makes of it: ipvsadm -S -n. Write its checks as health of the services.',
  ],
];

/** What a text is that is nobody's configuration, and what to do; null when that cannot be told. */
export function misplaced(inputs: readonly ConvertInput[]): { what: string; remedy: string } | null {
  for (const [shape, what, remedy] of OTHERS) {
    if (inputs.every(({ text }) => shape.test(text))) return { what, remedy };
  }
  return null;
}

function sourceOf(text: string): ConvertSource | null {
  if (/^\ufeff?\s*\{/.test(text)) return 'glb';
  const katran = KATRAN.test(text);
  const ipvs = IPVS.test(text);
  if (katran !== ipvs) return katran ? 'katran' : 'ipvs';
  return !katran && EITHER.test(text) ? 'ipvs' : null;
}

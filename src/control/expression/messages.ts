import type { ExpressionLimits } from './helper.js';
import type { Place } from './locate.js';

/** What to do about an error of libpcap's, by its words (gencode.c, grammar.y, scanner.l). */
const REMEDIES: readonly [RegExp, string][] = [
  [/^unknown host /, 'names of hosts are never looked up: write the address'],
  [/^unknown network /, 'names of networks are never looked up: write the prefix, such as 192.0.2.0/24'],
  [/^unknown ether host /, 'names of hosts are never looked up: write the address, such as 02:00:00:00:00:01'],
  [
    /^'gateway' not supported/,
    'it needs a name, and names of hosts are never looked up: write "ether host MAC and not host ADDRESS"',
  ],
  [/^unknown port /, '/etc/services does not have the name: write the number'],
  [/^unknown (ip|ip6|icmp)? ?proto(col)? /, '/etc/protocols does not have the name: write the number'],
  [/^unknown ether proto /, 'write the number, such as 0x88cc'],
];

/** A sentence for an error of libpcap's. */
export function explainError(text: string, limits: ExpressionLimits): string {
  if (/^(malloc|calloc|out of memory)\b/.test(text)) {
    return `it takes more than ${limits.memoryMib} MiB to compile; split it, or put long lists into a set`;
  }
  const what = tidy(text).replace(/^can't parse filter expression: /, '');
  const remedy = REMEDIES.find(([pattern]) => pattern.test(text))?.[1];
  return remedy === undefined ? what : `${what}: ${remedy}`;
}

export function explainSyntaxError(text: string, { at, word }: Place): string {
  if (text.trim() === '') return 'syntax error';
  // Characters as a person counts them, from 1.
  const position = [...text.slice(0, at)].length + 1;
  return word === ''
    ? 'syntax error: something is missing at the end'
    : `syntax error at character ${position}: "${tidy(word)}"`;
}

/** Why there is no answer: the signal that ended the helper, or 'timeout'. */
export function explainKill(signal: string, limits: ExpressionLimits): string {
  switch (signal) {
    case 'SIGPROF':
      return `it takes more than ${limits.cpuMs / 1000} s to compile; split it, or put long lists into a set`;
    case 'timeout':
      return `not compiled after ${limits.wallMs / 1000} s; split it, or try again when the machine is less busy`;
    default:
      return `libpcap died of it (${signal}); split it`;
  }
}

/** At most 200 characters, and none that moves a cursor. */
function tidy(text: string): string {
  const clean = text.replace(/[\p{Cc}\u2028\u2029]/gu, '\ufffd');
  return clean.length <= 200 ? clean : `${clean.slice(0, 199)}…`;
}

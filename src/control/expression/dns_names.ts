/** Patterns of DNS names: `example.com`, `*.example.com`, `www.*.example`, `example.**`. */
import { domainToASCII } from 'node:url';
import { SluiceError } from '../../errors.js';

/** One label: its bytes, letters in lower case; or any label of `least` to `most` bytes. */
export type DnsLabel = { readonly bytes: Uint8Array } | { readonly least: number; readonly most: number };

export interface DnsPattern {
  /** As it was written. */
  readonly text: string;
  /** Whether one or more labels of any kind come in front (`*.`), or behind (`.**`). */
  readonly front: boolean;
  readonly behind: boolean;
  /** Labels between them, the root not counted. */
  readonly labels: readonly DnsLabel[];
}

/** What RFC 1035 section 5.1 has for bytes that mean something else: \X and \DDD. */
const ESCAPE = /\\(?:\d{3}|.)/gs;

/** RFC 1035 section 2.3.4. A name counts with its length bytes and the root. */
export const LABEL_MOST = 63;
export const NAME_MOST = 255;

/**
 * Reads a pattern. `*` in front is one or more labels, elsewhere one; `*{4-20}` one label of so many bytes; `**` at the end one or more; `.` is
 * the root. A backslash makes a character mean itself, three digits behind it a byte (RFC 1035 section 5.1). What is not ASCII becomes punycode (UTS #46).
 * A dot at the end makes no difference.
 *
 * @throws SluiceError SLUICE_CONFIG that says what is wrong with it
 */
export function readDnsPattern(text: string): DnsPattern {
  if (text.length > 4 * NAME_MOST) throw bad(text, 'is longer than a name can be', `Write at most ${NAME_MOST} bytes.`);
  if (text === '') throw bad(text, 'has no labels', 'Write a name, or "." for the root.');
  if (/\s/.test(text.replaceAll(ESCAPE, ''))) {
    throw bad(text, 'has a space in it', 'Write \\032 for a space, or a list for several names.');
  }
  const parts = text === '.' ? [] : splitLabels(text);
  const front = parts[0] === '*';
  const behind = parts.length > 1 && parts[parts.length - 1] === '**';
  if (front && behind) {
    throw bad(text, 'has any number of labels at both ends', 'Leave one end open: *.example.com or example.**.');
  }
  const inner = parts.slice(front ? 1 : 0, behind ? -1 : undefined);
  const labels = inner.map((part) => readLabel(part, text));
  const open = (front ? 2 : 0) + (behind ? 2 : 0) + 1;
  const least = labels.reduce((sum, label) => sum + 1 + ('bytes' in label ? label.bytes.length : label.least), open);
  if (least > NAME_MOST)
    throw bad(text, `needs ${least} bytes`, `Names have at most ${NAME_MOST}, length bytes counted.`);
  return { text, front, behind, labels };
}

/** Labels as they are written, escapes included. */
function splitLabels(text: string): string[] {
  const labels: string[] = [];
  let start = 0;
  let i = 0;
  for (; i < text.length; i++) {
    if (text[i] === '\\') i++;
    else if (text[i] === '.') {
      labels.push(text.slice(start, i));
      start = i + 1;
    }
  }
  if (i > text.length) throw bad(text, 'ends in a backslash', 'Write \\\\ for a backslash.');
  if (start < text.length) labels.push(text.slice(start));
  if (labels.includes('')) throw bad(text, 'has an empty label', 'Write one dot between labels, and none in front.');
  return labels;
}

function readLabel(part: string, text: string): DnsLabel {
  if (part === '*') return { least: 1, most: LABEL_MOST };
  const range = /^\*\{(\d{1,2})-(\d{1,3})\}$/.exec(part);
  if (range !== null) {
    const [least, most] = [Math.max(1, Number(range[1])), Math.min(LABEL_MOST, Number(range[2]))];
    if (least <= most) return { least, most };
    throw bad(text, `has ${part}`, 'Write the fewer bytes first, at most 63: *{4-20}.');
  }
  if (part.replaceAll(ESCAPE, '').includes('*')) {
    throw bad(text, `has a * inside of a label (${part})`, 'A * is a whole label; write \\* for the character.');
  }
  const ascii = /\P{ASCII}/u.test(part) ? punycode(part, text) : part;
  const bytes = unescaped(ascii, text);
  if (bytes.length <= LABEL_MOST) return { bytes };
  throw bad(text, `has a label of ${bytes.length} bytes`, `Labels have at most ${LABEL_MOST}.`);
}

function punycode(label: string, text: string): string {
  const ascii = label.includes('\\') ? '' : domainToASCII(label);
  // Digits of other scripts make it an address.
  if (ascii !== '' && !ascii.includes('.')) return ascii;
  throw bad(
    text,
    `has a label that is no internationalised name (${label})`,
    'Write it as punycode (xn--…) or as bytes (\\228).',
  );
}

function unescaped(label: string, text: string): Uint8Array {
  const bytes: number[] = [];
  for (const [, digits, escaped, plain] of label.matchAll(/\\(\d{3})|\\(.)|([^\\])/gs)) {
    if (escaped !== undefined && /\d/.test(escaped)) {
      throw bad(text, 'has a backslash with fewer than three digits', 'Write three: \\007.');
    }
    const byte = digits !== undefined ? Number(digits) : (escaped ?? plain).charCodeAt(0);
    if (byte > 255) throw bad(text, `has a byte ${byte}`, 'Write \\000 to \\255.');
    bytes.push(byte >= 0x41 && byte <= 0x5a ? byte | 0x20 : byte);
  }
  return Uint8Array.from(bytes);
}

function bad(text: string, what: string, remedy: string): SluiceError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text;
  return new SluiceError('SLUICE_CONFIG', `DNS name ${JSON.stringify(shown)} ${what}`, remedy);
}

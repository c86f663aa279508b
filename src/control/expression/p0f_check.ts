/** p0f signatures that no packet could match, told by what is wrong in them; and padding that was left out. */
import { bad, OPTION_SIZE, TcpOption, type P0fSignature, type Quirk } from './p0f_signature.js';

/** Bytes of options at most: the data offset has four bits (RFC 9293 section 3.1). */
const OPTION_BYTES_MOST = 40;

/**
 * The signature with padding up to a whole word, where all options have known sizes and it says nothing of its own.
 *
 * @throws SluiceError SLUICE_CONFIG when no SYN could match it
 */
export function checkP0f(signature: P0fSignature, explicitPadding: boolean): P0fSignature {
  checkQuirks(signature);
  checkOptions(signature);
  const { layout, padding, quirks } = signature;
  const sizes = layout.map((kind) => (kind === TcpOption.eol ? 1 : OPTION_SIZE.get(kind)));
  const least = sizes.reduce<number>((sum, size) => sum + (size ?? 2), 0) + padding;
  // A malformed option may end where it wants.
  const exact = !quirks.has('bad') && sizes.every((size) => size !== undefined);
  if (least > OPTION_BYTES_MOST && exact && !signature.otherQuirks) {
    throw bad('olayout', `${least} bytes long`, `Write at most ${OPTION_BYTES_MOST} bytes of options.`);
  }
  const missing = (4 - (least % 4)) % 4;
  if (!exact || missing === 0) return signature;
  if (layout.at(-1) !== TcpOption.eol)
    return { ...signature, layout: [...layout, TcpOption.eol], padding: missing - 1 };
  if (!explicitPadding || signature.otherQuirks) return { ...signature, padding: missing };
  throw bad(
    'olayout',
    `${least} bytes long`,
    `Write eol+${padding + missing}: options are a multiple of 4 bytes, or malformed (quirk bad).`,
  );
}

function checkQuirks({ quirks, family, otherQuirks }: P0fSignature): void {
  const both = (one: Quirk, two: Quirk, remedy: string): void => {
    if (quirks.has(one) && quirks.has(two)) throw bad('quirks', `${one} with ${two}`, remedy);
  };
  if (quirks.has('ack-'))
    throw bad('quirks', 'ack-', 'Leave it out: a SYN has no ACK flag, and no other packet is looked at.');
  both('uptr+', 'urgf+', 'Leave one out: uptr+ is said of packets without the URG flag.');
  if (family !== 4) return;
  both('id+', 'id-', 'Leave one out: id+ is a number where DF is set, id- is none where it is not.');
  both('df', 'id-', 'Leave one out: id- is said of packets without DF.');
  if (quirks.has('id+') && !quirks.has('df') && !otherQuirks) {
    throw bad('quirks', 'id+ without df', 'Add df: id+ is said of packets with DF.');
  }
}

function checkOptions({ quirks, layout, padding, mss, scale, window, otherQuirks }: P0fSignature): void {
  const needs = (kind: TcpOption, name: string, field: string, what: string): void => {
    if (!layout.includes(kind)) throw bad(field, what, `Add ${name} to olayout: it is said of that option.`);
  };
  if (mss !== null && mss > 0) needs(TcpOption.mss, 'mss', 'mss', `${mss}, and olayout has no mss`);
  if (scale !== null && scale > 0) needs(TcpOption.ws, 'ws', 'scale', `${scale}, and olayout has no ws`);
  if (window.kind === 'mss' || window.kind === 'mtu') {
    const text = `${window.kind}*${window.value}`;
    needs(TcpOption.mss, 'mss', 'wsize', `${text}, and olayout has no mss`);
    if (mss !== null && mss < WINDOW_MSS_LEAST) {
      throw bad('wsize', `${text} with an MSS of ${mss}`, 'Write the window as a number: so small an MSS is no unit.');
    }
  }
  for (const quirk of ['ts1-', 'ts2+', 'linux'] as const) {
    if (quirks.has(quirk)) needs(TcpOption.ts, 'ts', 'quirks', `${quirk}, and olayout has no ts`);
  }
  if (quirks.has('exws')) needs(TcpOption.ws, 'ws', 'quirks', 'exws, and olayout has no ws');
  if (quirks.has('opt+') && (layout.at(-1) !== TcpOption.eol || padding === 0)) {
    throw bad('quirks', 'opt+, and olayout has nothing behind its end', 'Add eol+N to olayout, N at least 1.');
  }
  const single = layout.filter((kind) => kind === TcpOption.ws).length === 1;
  if (single && scale !== null && scale > 14 && !quirks.has('exws') && !otherQuirks) {
    throw bad('scale', `${scale} without the quirk exws`, 'Add exws to quirks: p0f says it of scales above 14.');
  }
  if (single && scale !== null && scale <= 14 && quirks.has('exws')) {
    throw bad('quirks', `exws with a scale of ${scale}`, 'Leave exws out: p0f says it of scales above 14.');
  }
}

/** An MSS below this is no unit of windows (detect_win_multi in p0f's fp_tcp.c). */
export const WINDOW_MSS_LEAST = 100;

/** Text in SVG: how wide it will be, about, where it breaks, and how it is written. */

/** Of a font's size: wide enough for the sans-serif fonts that systems have, so that texts that fit here do everywhere. */
const NARROW = 0.35;
const USUAL = 0.62;
const WIDE = 0.95;
const BOLD = 1.12;

/** px, from above. The font is whatever the reader's system has, so nothing exact can be known. */
export function textWidth(text: string, size: number, bold = false): number {
  let ems = 0;
  for (const char of text) ems += /[mwMW@%—]/.test(char) ? WIDE : /[iljft.,:;'’|!()[\] ]/.test(char) ? NARROW : USUAL;
  return ems * size * (bold ? BOLD : 1);
}

/** Lines no wider than that, broken between words, or within one that is too long by itself. */
export function wrap(text: string, width: number, size: number, bold = false): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(' ').flatMap((each) => pieces(each, width, size, bold))) {
    const longer = line === '' ? word : `${line} ${word}`;
    if (line !== '' && textWidth(longer, size, bold) > width) {
      lines.push(line);
      line = word;
    } else line = longer;
  }
  return [...lines, line];
}

function pieces(word: string, width: number, size: number, bold: boolean): string[] {
  const parts = [''];
  for (const char of word) {
    const last = parts[parts.length - 1];
    if (last !== '' && textWidth(last + char, size, bold) > width) parts.push(char);
    else parts[parts.length - 1] = last + char;
  }
  return parts;
}

/** For element content and attribute values. Characters that XML 1.0 does not have are left out. */
export function escapeXml(text: string): string {
  return (
    text
      // eslint-disable-next-line no-control-regex
      .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\ufffe\uffff]/g, '')
      .replaceAll('&', '&amp;')
      .replaceAll('<', '&lt;')
      .replaceAll('>', '&gt;')
      .replaceAll('"', '&quot;')
  );
}

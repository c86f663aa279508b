import { askHelper, type ExpressionLimits } from './helper.js';

/**
 * A number that libpcap's scanner refuses as soon as it reads it. Its parser reads no further than it must, so the answer
 * to "prefix PROBE" tells whether the prefix has a syntax error: that error comes first, or the scanner's does.
 */
const PROBE = ' 99999999999';
const PROBE_ERROR = /overflow/;
export const SYNTAX_ERROR = /syntax error|memory exhausted/;

/** Where a syntax error is: index in the text, and the word there; the text's length and '' at its end. */
export interface Place {
  readonly at: number;
  readonly word: string;
}

/**
 * Finds where libpcap's parser stopped in texts that have a syntax error; libpcap does not say. Searches by halves in all
 * texts at once, so the number of helper runs grows with the logarithm of the longest text, not with their number.
 * null: this libpcap does not know the probe.
 */
export function locateSyntaxErrors(texts: readonly string[], limits: ExpressionLimits): (Place | null)[] {
  if (texts.length === 0) return [];
  const [probe] = askHelper([PROBE], limits);
  if (probe.kind !== 'error' || !PROBE_ERROR.test(probe.text)) return texts.map(() => null);
  // How many words are surely right, and a number of words that surely has the error (all of them and the end).
  const searches = texts.map((text) => {
    const words = wordsOf(text);
    return { text, words, right: 0, wrong: words.length + 1 };
  });
  for (;;) {
    const open = searches.filter(({ right, wrong }) => wrong - right > 1);
    if (open.length === 0) break;
    const middle = open.map(({ right, wrong }) => (right + wrong) >> 1);
    const prefixes = open.map(({ text, words }, i) => text.slice(0, words[middle[i] - 1].end) + PROBE);
    askHelper(prefixes, limits).forEach((answer, i) => {
      if (answer.kind === 'error' && SYNTAX_ERROR.test(answer.text)) open[i].wrong = middle[i];
      else open[i].right = middle[i];
    });
  }
  return searches.map(({ text, words, wrong }) => {
    const word = words[wrong - 1];
    return word === undefined
      ? { at: text.length, word: '' }
      : { at: word.start, word: text.slice(word.start, word.end) };
  });
}

/** About the tokens of pcap-filter: words with the characters of names, addresses and numbers, else one character. */
function wordsOf(text: string): { start: number; end: number }[] {
  const token = /[\w.:\\-]+|>=|<=|!=|==|<<|>>|&&|\|\||[^\s]/gu;
  return [...text.matchAll(token)].map(({ index, 0: word }) => ({ start: index, end: index + word.length }));
}

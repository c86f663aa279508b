/**
 * What generated source may consist of. Checked token by token before it is compiled, so that a fault in the generator, or source from
 * anywhere else, cannot do more than compute: no name that leads out, no text, no property but the five below, no store into any object,
 * no loop, no recursion.
 */

/** Longest source that is compiled. */
export const SOURCE_MOST = 32 << 20;

const KEYWORDS: ReadonlySet<string> = new Set(['function', 'return', 'var', 'if', 'else', 'break']);
/** v, p, n, w, a, x, o, r, s; m0 to m15; t, h (loads), b (blocks), q (programs), g (parts) with a number. */
const NAME = /^(?:[vpnwaxors]|m(?:[0-9]|1[0-5])|[thbqg](?:0|[1-9][0-9]{0,4}))$/;
const NUMBER = /^(?:0|[1-9][0-9]{0,9})$/;
const PARAMETERS: ReadonlySet<string> = new Set(['v', 'p', 'n', 'w']);
const READS: ReadonlySet<string> = new Set(['getUint8', 'getUint16', 'getInt32']);
/** What may be assigned to; never a parameter but the three that are made int32. */
const ASSIGNED = /^(?:[pnwaxors]|[mth][0-9]+)$/;

const SIGNS: ReadonlySet<string> = new Set('- + * / % & | ^ < > = ( ) { } [ ] , ; : .'.split(' '));
/** Longest first: `>>` is none of ours, and so two signs that make no sense. */
const LONG_SIGNS = ['===', '!==', '>>>', '<<', '>=', '<=', '||'];
const START = '"use strict";\n';

/**
 * Why the source is refused, with the offending token and where it is; null when it may be compiled.
 */
export function checkSource(source: string): string | null {
  if (source.length > SOURCE_MOST) return `${source.length} characters, at most ${SOURCE_MOST}`;
  if (!source.startsWith(START)) return 'it does not begin with "use strict"';
  const checker = new Checker();
  for (let at = START.length; at < source.length;) {
    const code = source.charCodeAt(at);
    if (code === SPACE || code === LINE_END) {
      at++;
      continue;
    }
    const token = tokenAt(source, at);
    if (token === '') return `character ${at}: ${JSON.stringify(source[at])} is in no token`;
    if (!checker.allows(token)) return `character ${at}: ${JSON.stringify(token.slice(0, 20))} may not stand here`;
    at += token.length;
  }
  return checker.finished() ? null : 'it ends too early';
}

const SPACE = 32;
const LINE_END = 10;

function tokenAt(source: string, at: number): string {
  let end = at;
  while (isWordCode(source.charCodeAt(end))) end++;
  if (end > at) return source.slice(at, end);
  for (const sign of LONG_SIGNS) if (source.startsWith(sign, at)) return sign;
  return SIGNS.has(source[at]) ? source[at] : '';
}

/** A letter, a digit, $ or _. */
function isWordCode(code: number): boolean {
  return (
    (code >= 97 && code <= 122) ||
    (code >= 48 && code <= 57) ||
    (code >= 65 && code <= 90) ||
    code === 95 ||
    code === 36
  );
}

function isWord(token: string): boolean {
  return isWordCode(token.charCodeAt(0));
}

/** Goes from token to token; knows the two before, which function it is in, and what may be called. */
class Checker {
  private last = '';
  private before = '';
  /** Functions g0, g1, … that are complete: only the ones returned call them, so nothing calls itself. */
  private parts = 0;
  private depth = 0;
  private returned = false;
  /** Between the parentheses of a function's parameters. */
  private listed = false;
  private closed = false;

  allows(token: string): boolean {
    const good = !this.closed && this.fits(token);
    this.before = this.last;
    this.last = token;
    return good;
  }

  finished(): boolean {
    return this.closed && this.last === ';' && this.depth === 0;
  }

  private fits(token: string): boolean {
    const { last } = this;
    if (last === 'return' && this.depth === 0) return token === '[' && !this.returned && (this.returned = true);
    if (last === '.') return this.before === 'v' ? READS.has(token) || token === 'byteLength' : token === 'imul';
    if (READS.has(last) || last === 'imul') return token === '(';
    // Read only in front of the subtraction that the bounds check is.
    if (last === 'byteLength') return token === '-';
    if (last === 'Math') return token === '.';
    if (isWord(token)) return this.fitsWord(token, last);
    switch (token) {
      case '.':
        return last === 'v';
      case '=':
        return ASSIGNED.test(last);
      case '(':
        this.listed = this.depth === 0;
        return this.mayOpen(last);
      case ')':
        this.listed = false;
        return true;
      case '[':
        return false;
      case ']':
        return this.returned && this.depth === 0 && (last === ',' || last === '[');
      case '/':
      case '%':
        // Never where a regular expression or a comment could begin.
        return last === ')';
      case '{':
        this.depth++;
        return last === ')' || last === ':' || last === 'else';
      case '}':
        if (--this.depth === 0 && !this.returned) this.parts++;
        return this.depth >= 0;
      case ':':
        return /^[bq][0-9]/.test(last);
      case ';':
        if (last === ']') this.closed = true;
        return true;
      default:
        return true;
    }
  }

  private fitsWord(token: string, last: string): boolean {
    // Two words in a row are a keyword and what follows it.
    if (last !== '' && isWord(last) && !KEYWORDS.has(last)) return false;
    if (last === 'function') return token === `g${this.parts}` && !this.returned && this.depth === 0;
    if (last === 'break') return /^[bq][0-9]/.test(token) && NAME.test(token);
    if (token === 'function') return this.depth === 0;
    if (token === 'return') return this.depth > 0 || !this.returned;
    if (KEYWORDS.has(token)) return this.depth > 0;
    if (token === 'Math') return this.depth > 0;
    // Outside the functions: their parameters.
    if (this.depth === 0) return PARAMETERS.has(token) && (last === '(' || last === ',') && this.listed;
    return NUMBER.test(token) || NAME.test(token);
  }

  /** A parenthesis: a group, a condition, parameters, or a call of a part that is complete. */
  private mayOpen(last: string): boolean {
    if (last === 'if' || last === 'function' || last === 'return') return true;
    if (last === `g${this.parts}` && this.before === 'function') return true;
    if (/^g[0-9]/.test(last)) return this.returned && Number(last.slice(1)) < this.parts;
    return !/^[A-Za-z0-9_$)\]}]/.test(last);
  }
}

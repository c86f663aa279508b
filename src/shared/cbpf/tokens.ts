/**
 * What generated source may consist of. Checked token by token before it is compiled, so that a fault in the generator, or source from
 * anywhere else, cannot do more than compute: no name that leads out, no text, no property but the five below, no store into any object,
 * no loop, no recursion.
 */

/** Longest source that is compiled. */
export const SOURCE_MOST = 8 << 20;

const KEYWORDS: ReadonlySet<string> = new Set(['function', 'return', 'var', 'if', 'else', 'break']);
/** v, p, n, w, a, x, o, r, s; m0 to m15; t, h (loads), b (blocks), q (programs), g (parts) with a number. */
const NAME = /^(?:[vpnwaxors]|m(?:[0-9]|1[0-5])|[thbqg](?:0|[1-9][0-9]{0,4}))$/;
const NUMBER = /^(?:0|[1-9][0-9]{0,9})$/;
const READS: ReadonlySet<string> = new Set(['getUint8', 'getUint16', 'getInt32']);
/** What may be assigned to; never a parameter but the three that are made int32. */
const ASSIGNED = /^(?:[pnwaxors]|[mth][0-9]+)$/;

const TOKEN = /\s+|[A-Za-z0-9_$]+|===|!==|>>>|<<|>=|<=|\|\||[-+*/%&|^<>=(){}[\],;:.]/y;
const START = '"use strict";\n';

/**
 * Why the source is refused, with the offending token and where it is; null when it may be compiled.
 */
export function checkSource(source: string): string | null {
  if (source.length > SOURCE_MOST) return `${source.length} characters, at most ${SOURCE_MOST}`;
  if (!source.startsWith(START)) return 'it does not begin with "use strict"';
  const checker = new Checker();
  TOKEN.lastIndex = START.length;
  while (TOKEN.lastIndex < source.length) {
    const at = TOKEN.lastIndex;
    const token = TOKEN.exec(source)?.[0];
    if (token === undefined) return `character ${at}: ${JSON.stringify(source[at])} is in no token`;
    if (/^\s/.test(token)) continue;
    if (!checker.allows(token)) return `character ${at}: ${JSON.stringify(token.slice(0, 20))} may not stand here`;
  }
  return checker.finished() ? null : 'it ends too early';
}

/** Goes from token to token; knows the two before, which function it is in, and what may be called. */
class Checker {
  private last = '';
  private before = '';
  /** Functions g0, g1, … that are complete: only the ones returned call them, so nothing calls itself. */
  private parts = 0;
  private depth = 0;
  private returned = false;
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
    if (last === '.') return this.before === 'v' ? READS.has(token) || token === 'byteLength' : token === 'imul';
    if (READS.has(last) || last === 'imul') return token === '(';
    // Read only in front of the subtraction that the bounds check is.
    if (last === 'byteLength') return token === '-';
    if (last === 'Math') return token === '.';
    if (/^[A-Za-z0-9_$]/.test(token)) return this.fitsWord(token, last);
    switch (token) {
      case '.':
        return last === 'v';
      case '=':
        return ASSIGNED.test(last);
      case '(':
        return this.mayOpen(last);
      case '[':
        return last === 'return' && this.depth === 0 && !this.returned && (this.returned = true);
      case ']':
        return this.returned && this.depth === 0 && (last === ',' || last === '[');
      case '{':
        this.depth++;
        return true;
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
    if (/^[A-Za-z0-9_$]/.test(last) && !KEYWORDS.has(last)) return false;
    if (last === 'function') return token === `g${this.parts}` && !this.returned && this.depth === 0;
    if (last === 'break') return /^[bq][0-9]/.test(token) && NAME.test(token);
    if (token === 'function') return this.depth === 0;
    if (token === 'return') return this.depth > 0 || !this.returned;
    if (KEYWORDS.has(token)) return this.depth > 0;
    if (token === 'Math') return this.depth > 0;
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

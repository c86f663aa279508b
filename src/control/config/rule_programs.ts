/** The expressions of a configuration's rules, compiled together: one start of the compiler for all of them. */
import { SluiceError } from '../../errors.js';
import { compileExpressions, type ExpressionResult } from '../expression/compile.js';

export class RulePrograms {
  readonly #results = new Map<string, ExpressionResult>();

  /** Has these texts compiled, as far as they are not yet. Never throws: without a compiler every result is a failure. */
  compile(texts: readonly string[]): void {
    const missing = [...new Set(texts)].filter((text) => !this.#results.has(text));
    if (missing.length === 0) return;
    let results: ExpressionResult[];
    try {
      results = compileExpressions(missing);
    } catch (error) {
      if (!(error instanceof SluiceError)) throw error;
      results = missing.map(() => ({ ok: false, error: `${error.message}. ${error.remedy}` }));
    }
    missing.forEach((text, i) => this.#results.set(text, results[i]));
  }

  /** Of a text that was given to `compile`. */
  get(text: string): ExpressionResult {
    const result = this.#results.get(text);
    if (result === undefined) throw new SluiceError('SLUICE_STATE', 'an expression was not compiled');
    return result;
  }
}

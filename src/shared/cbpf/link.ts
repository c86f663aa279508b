import { compileJavaScript } from './javascript.js';
import type { PacketMatch } from './program.js';
import { checkSource } from './tokens.js';

/**
 * Makes functions of what `compileJavaScript` wrote. The source is checked token by token first (tokens.ts).
 *
 * @throws Error when the source is not of that kind, EvalError when Node runs with --disallow-code-generation-from-strings
 */
export function link(source: string): readonly PacketMatch[] {
  const reason = checkSource(source);
  if (reason !== null) throw new Error(`generated source is refused: ${reason}`);
  return (new Function(source) as () => PacketMatch[])();
}

/** Whether Node lets this process make functions of text: not with --disallow-code-generation-from-strings. Holds for its worker threads too. */
export function mayLink(): boolean {
  try {
    link(compileJavaScript([]));
    return true;
  } catch (error) {
    if (error instanceof EvalError) return false;
    throw error;
  }
}

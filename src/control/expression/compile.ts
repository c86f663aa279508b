/**
 * pcap-filter(7) expressions to cBPF. libpcap compiles them, so that an expression means here what it means to tcpdump; it
 * runs in a confined process (`native/pcap/`), and what comes back is checked like any other program.
 *
 * Names of hosts, networks and Ethernet addresses are never looked up. Names of ports and protocols come from /etc/services
 * and /etc/protocols.
 */
import { checkLoops } from '../../shared/cbpf/loops.js';
import { instructionCount, type Program, Word } from '../../shared/cbpf/program.js';
import { asksForMetadata, clearMemory, endAtHugeOffsets, programFrom } from './bytecode.js';
import { askHelper, type ExpressionLimits, type HelperAnswer } from './helper.js';
import { locateSyntaxErrors, SYNTAX_ERROR } from './locate.js';
import { explainError, explainKill, explainSyntaxError } from './messages.js';

export type { ExpressionLimits } from './helper.js';

/**
 * A program of link 'ethernet', with a loop when the expression has `protochain` (src/shared/cbpf/loops.ts); or one sentence
 * for a person: what is wrong, where, what to write instead.
 */
export type ExpressionResult =
  { readonly ok: true; readonly program: Program } | { readonly ok: false; readonly error: string };

export const EXPRESSION_LIMITS: ExpressionLimits = { textBytes: 65_000, cpuMs: 2000, memoryMib: 256, wallMs: 60_000 };

/** Results kept, oldest out first. */
const CACHED = 4096;
const cache = new Map<string, ExpressionResult>();

/**
 * Compiles expressions, one result a text in the same order. The empty expression matches everything. Blocks until the
 * helper is done (some milliseconds for hundreds; `limits` bound the worst case). Throws SLUICE_NATIVE when the helper is
 * missing; whatever the texts are, they only make results.
 */
export function compileExpressions(
  texts: readonly string[],
  limits: ExpressionLimits = EXPRESSION_LIMITS,
): ExpressionResult[] {
  const usual = limits === EXPRESSION_LIMITS;
  const results = new Map<string, ExpressionResult>();
  const fresh: string[] = [];
  for (const text of new Set(texts)) {
    const known = refusal(text, limits) ?? (usual ? cache.get(text) : undefined);
    if (known === undefined) fresh.push(text);
    else results.set(text, known);
  }
  const answers = askHelper(fresh, limits);
  const misspelt = fresh.filter((_, i) => isSyntaxError(answers[i]));
  const places = locateSyntaxErrors(misspelt, limits);
  const placeOf = new Map(misspelt.map((text, i) => [text, places[i]]));
  fresh.forEach((text, i) => {
    const answer = answers[i];
    const place = placeOf.get(text);
    const result = place ? failure(explainSyntaxError(text, place)) : resultOf(answer, limits);
    results.set(text, result);
    // What a limit killed may have been unlucky; all else comes out the same again.
    if (usual && answer.kind !== 'killed') remember(text, result);
  });
  return texts.map((text) => results.get(text)!);
}

/** One expression. */
export function compileExpression(text: string, limits: ExpressionLimits = EXPRESSION_LIMITS): ExpressionResult {
  return compileExpressions([text], limits)[0];
}

function failure(error: string): ExpressionResult {
  return { ok: false, error };
}

/** Texts that the helper need not see. */
function refusal(text: string, limits: ExpressionLimits): ExpressionResult | undefined {
  const bytes = Buffer.byteLength(text);
  if (bytes > limits.textBytes) {
    return failure(
      `an expression of ${bytes} bytes: at most ${limits.textBytes} are allowed; long lists belong into a set`,
    );
  }
  if (text.includes('\0')) return failure(`a NUL character at character ${text.indexOf('\0') + 1}`);
  return undefined;
}

function isSyntaxError(answer: HelperAnswer): boolean {
  return answer.kind === 'error' && SYNTAX_ERROR.test(answer.text);
}

function resultOf(answer: HelperAnswer, limits: ExpressionLimits): ExpressionResult {
  if (answer.kind === 'error') return failure(explainError(answer.text, limits));
  if (answer.kind === 'killed') return failure(explainKill(answer.signal, limits));
  const program = clearMemory(programFrom(answer.bytes));
  const count = instructionCount(program);
  if (count > Word.MAX_INSTRUCTIONS) {
    return failure(`it compiles to ${count} instructions, at most ${Word.MAX_INSTRUCTIONS} are allowed; split it`);
  }
  if (asksForMetadata(program)) {
    return failure('inbound, outbound and ifindex ask for what the kernel knows beside a frame; its bytes do not tell');
  }
  endAtHugeOffsets(program);
  const problem = checkLoops(program);
  return problem === null ? { ok: true, program } : failure(`it compiles to a program that is not valid: ${problem}`);
}

function remember(text: string, result: ExpressionResult): void {
  if (cache.size >= CACHED) cache.delete(cache.keys().next().value!);
  cache.set(text, result);
}

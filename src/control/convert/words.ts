/** Command lines of a shell script, or of `ipvsadm -S`, as words. Nothing is expanded. */
import type { ConvertInput, Place } from './draft.js';

export interface CommandLine extends Place {
  words: string[];
  /** Variables or substitutions are among its arguments, so that only a shell could tell what it says. */
  dynamic: boolean;
  /** As it stands in the file, for messages. */
  text: string;
}

/** Longest command that is looked at; real ones have a hundred characters. */
const MAX_LINE = 4096;

/**
 * The commands of a text: one a line, or several between `;`, `&&`, `||` and `|`. Quotes, backslashes, lines that go on after
 * a backslash, comments and a prompt's `$` are understood as sh(1) understands them.
 */
export function commandLines({ name: file, text }: ConvertInput): CommandLine[] {
  const commands: CommandLine[] = [];
  let pending = '';
  let first = 0;
  text.split(/\r?\n/).forEach((line, i) => {
    if (pending === '') first = i + 1;
    const joined = pending + line.slice(0, MAX_LINE);
    if (/(^|[^\\])(\\\\)*\\$/.test(line) && joined.length < MAX_LINE) {
      pending = `${joined.slice(0, -1)} `;
      return;
    }
    pending = '';
    commands.push(...commandsOf(joined, { file, line: first }));
  });
  if (pending !== '') commands.push(...commandsOf(pending, { file, line: first }));
  return commands;
}

/** A word; a separator of commands; white space and comments. An open quote goes on to the end of the line. */
const TOKEN = /\s+|(?:^|(?<=\s))#.*|;|&&?|\|\|?|(?:\\.?|'[^']*'?|"(?:\\.|[^"\\])*"?|[^\s'"\\;&|])+/g;

function commandsOf(line: string, place: Place): CommandLine[] {
  const commands: CommandLine[] = [];
  let words: string[] = [];
  let dynamic = false;
  const end = (): void => {
    // What a prompt leaves of itself in a pasted session.
    if (words[0] === '$' || words[0] === '>') words.shift();
    if (words.length > 0) commands.push({ ...place, words, dynamic, text: line.trim() });
    words = [];
    dynamic = false;
  };
  for (const [token] of line.matchAll(TOKEN)) {
    if (/^[\s#]/.test(token)) continue;
    if (/^[;&|]/.test(token)) end();
    else {
      // A program by a variable ($KC, $GOPATH/bin/katran_goclient) is known by its options.
      const isArgument = words.some((word) => word !== 'sudo' && !/^\w+=/.test(word));
      if (isArgument && /\$[\w({@*#?!]|`/.test(token.replace(/'[^']*'?/g, ''))) dynamic = true;
      words.push(unquote(token));
    }
  }
  end();
  return commands;
}

/** Whether a word stands for a program that only a shell knows: `$KC`, `"${KC}"`. */
export function isVariable(word: string | undefined): boolean {
  return /^\$(\w+|\{\w+\})$/.test(word ?? '');
}

function unquote(token: string): string {
  return token.replace(/\\(.?)|'([^']*)'?|"((?:\\.|[^"\\])*)"?/g, (_, escaped, single, double) =>
    String(escaped ?? single ?? (double as string | undefined)?.replace(/\\(["\\$`])/g, '$1') ?? ''),
  );
}

/** Command-line options in the two styles that the clients have: getopt's (ipvsadm) and Go's (Katran's example client). */

export interface Option {
  /** What the reader calls it. */
  key: string;
  /** Arguments; 'number': one, if a number follows. */
  takes: 0 | 1 | 3 | 'number';
}

export interface Options {
  /** Arguments by key; the last one counts. Without arguments: ''. */
  values: Map<string, string>;
  /** In the order in which they stand. */
  keys: string[];
  problems: string[];
}

/** Options as getopt_long(3) and popt(3) have them: `-a`, clusters `-Ln`, `-w5`, `--weight 5`, `--weight=5`. */
export function parseGetopt(
  words: readonly string[],
  shorts: Readonly<Record<string, Option>>,
  longs: Readonly<Record<string, Option>>,
): Options {
  const out: Options = { values: new Map(), keys: [], problems: [] };
  for (let i = 0; i < words.length; i++) {
    const word = words[i];
    if (word.startsWith('--') && word.length > 2) {
      const [name, attached] = split(word.slice(2));
      if (!Object.hasOwn(longs, name)) {
        out.problems.push(`the option --${cut(name)} is not known`);
        i = pastValue(words, i);
      } else i = take(out, longs[name], `--${name}`, attached, words, i);
    } else if (word.startsWith('-') && word.length > 1) {
      for (let at = 1; at < word.length; at++) {
        const letter = word[at];
        if (!Object.hasOwn(shorts, letter)) {
          out.problems.push(`the option -${letter} is not known`);
          i = pastValue(words, i);
          break;
        }
        const option = shorts[letter];
        const rest = word.slice(at + 1).replace(/^=/, '');
        const attached = option.takes !== 0 && rest !== '' ? rest : null;
        i = take(out, option, `-${letter}`, attached, words, i);
        if (attached !== null) break;
      }
    } else out.problems.push(`"${cut(word)}" belongs to no option`);
  }
  return out;
}

/** Options as Go's package flag has them: `-name value`, `-name=value`, with one dash or two; true or false after `=` for booleans. */
export function parseGoFlags(words: readonly string[], flags: Readonly<Record<string, Option>>): Options {
  const out: Options = { values: new Map(), keys: [], problems: [] };
  for (let i = 0; i < words.length; i++) {
    const [name, attached] = split(words[i].replace(/^--?/, ''));
    if (!words[i].startsWith('-') || name === '') {
      // Go stops at the first word that is no flag, and the client ignores what is left.
      out.problems.push(`"${cut(words[i])}" and what follows belong to no flag`);
      break;
    }
    if (!Object.hasOwn(flags, name)) {
      out.problems.push(`the flag -${cut(name)} is not known`);
      if (attached === null) i = pastValue(words, i);
    } else if (flags[name].takes === 0) {
      if (!/^(0|f|false)$/i.test(attached ?? '')) set(out, flags[name], '');
    } else i = take(out, flags[name], `-${name}`, attached, words, i);
  }
  return out;
}

/** What follows an option that is not known is probably its value. */
function pastValue(words: readonly string[], at: number): number {
  return at + 1 < words.length && !words[at + 1].startsWith('-') ? at + 1 : at;
}

/** Takes an option's arguments; returns the position of the last word that went into it. */
function take(
  out: Options,
  option: Option,
  shown: string,
  attached: string | null,
  words: readonly string[],
  at: number,
): number {
  if (attached !== null) {
    if (option.takes === 0) out.problems.push(`${shown} takes no value`);
    set(out, option, attached);
    return at;
  }
  if (option.takes === 'number') {
    const follows = /^\d+$/.test(words[at + 1] ?? '');
    set(out, option, follows ? words[at + 1] : '');
    return follows ? at + 1 : at;
  }
  const values = words.slice(at + 1, at + 1 + option.takes);
  if (values.length < option.takes) out.problems.push(`${shown} lacks its value`);
  else set(out, option, values.join(' '));
  return at + values.length;
}

function set(out: Options, { key }: Option, value: string): void {
  out.values.set(key, value);
  out.keys.push(key);
}

function split(text: string): [name: string, attached: string | null] {
  const at = text.indexOf('=');
  return at < 0 ? [text, null] : [text.slice(0, at), text.slice(at + 1)];
}

/** A word as a message shows it. */
export function cut(text: string): string {
  return text.length > 48 ? `${text.slice(0, 48)}…` : text;
}

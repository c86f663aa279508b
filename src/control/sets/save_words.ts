/** Lines of ipset's files as words. */

/** What is wrong with the line in hand; whoever knows file and line adds them. */
export class LineError extends Error {
  constructor(
    message: string,
    readonly remedy = '',
  ) {
    super(message);
  }
}

/** The words of a line; double quotes hold blanks together and go. There is no escape character, as in ipset. */
export function splitWords(line: string): string[] {
  const words: string[] = [];
  const pattern = /\s*(?:"([^"]*)"|([^\s"]+))/y;
  while (pattern.lastIndex < line.length) {
    const from = pattern.lastIndex;
    const match = pattern.exec(line);
    if (match === null) {
      if (line.slice(from).trim() === '') break;
      throw new LineError('a quotation mark without its other half');
    }
    words.push(match[1] ?? match[2]);
  }
  return words;
}

/** A whole number up to `most`, decimal or with 0x as ipset takes it. */
export function numberOf(text: string | undefined, what: string, least: number, most: number): number {
  if (text === undefined) throw new LineError(`${what} without a value`);
  const value = /^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(text) ? Number(text) : NaN;
  if (!(value >= least && value <= most)) {
    throw new LineError(`${what} ${JSON.stringify(text.slice(0, 64))}: a number from ${least} to ${most} is expected`);
  }
  return value;
}

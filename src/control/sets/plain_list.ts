/** Lists of elements, one a line: what feeds of bad addresses come as. "#" and ";" start a comment. */
import { SluiceError } from '../../errors.js';
import type { IpSet } from './ip_set.js';

const LINE_MOST = 4096;

/**
 * Adds each line's element to the set; what is there already stays (with the set's own timeout anew). Returns how many lines had one. Throws SluiceError
 * (SLUICE_FORMAT) at the first line that is wrong, naming `file` and line; the lines before it are added.
 */
export function addList(text: string, set: IpSet, file = 'list'): number {
  let added = 0;
  let line = 0;
  const settle = set.startBulk();
  try {
    for (let start = 0; start < text.length;) {
      const end = text.indexOf('\n', start);
      const raw = text.slice(start, end < 0 ? text.length : end);
      start = end < 0 ? text.length : end + 1;
      line++;
      if (raw.length > LINE_MOST) throw problem(`a line of more than ${LINE_MOST} characters`, 'Is it a list?');
      const content = raw.replace(/[#;][^]*$/, '').trim();
      if (content === '') continue;
      try {
        set.add(content, {}, true);
      } catch (error) {
        throw error instanceof SluiceError ? problem(error.message, error.remedy, error) : error;
      }
      added++;
    }
  } finally {
    settle();
  }
  return added;

  function problem(message: string, remedy: string, cause?: unknown): SluiceError {
    return new SluiceError('SLUICE_FORMAT', `${file}:${line}: ${message}`, remedy, { cause });
  }
}

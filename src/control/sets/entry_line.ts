/** An entry as a person writes it: an element, and what it is added with behind it. */
import { SluiceError } from '../../errors.js';
import type { AddFields } from './entry_extras.js';
import { readAddFields } from './save_options.js';
import { LineError, splitWords } from './save_words.js';

const LINE_MOST = 4096;

/** Of "192.0.2.0/24 timeout 60 comment \"a b\"", as it stands behind the name in an `add` line. Throws SluiceError (SLUICE_FORMAT). */
export function readEntry(line: string): { element: string; fields: AddFields } {
  const text = line.trim();
  if (!/[\s"]/.test(text)) return { element: text, fields: {} };
  try {
    if (text.length > LINE_MOST) throw new LineError(`a line of more than ${LINE_MOST} characters`);
    const [element, ...options] = splitWords(text);
    const fields = readAddFields(options, (message) => {
      throw new LineError(message.replace(': it is left out', ''));
    });
    return { element, fields };
  } catch (error) {
    if (error instanceof LineError) throw new SluiceError('SLUICE_FORMAT', error.message, error.remedy);
    throw error;
  }
}

/** Texts that are longer than a request, which come in parts. */
import { randomBytes } from 'node:crypto';
import { SluiceError } from '../../errors.js';

/** Longest text, characters, of all that are under way. */
const MOST = 512 << 20;
/** After this time without another part a text is given up, ms. */
const IDLE_MS = 60_000;

interface Upload {
  parts: string[];
  length: number;
  timer: NodeJS.Timeout;
}

export class Uploads {
  private readonly open = new Map<string, Upload>();

  /** The whole text when this is its last part; else the name under which it goes on. `upload` null: the first part. */
  take(part: string, upload: string | null, more: boolean): string | { upload: string } {
    const known = upload === null ? undefined : this.open.get(upload);
    if (upload !== null && known === undefined) {
      throw new SluiceError(
        'SLUICE_STATE',
        'there is no upload of that name',
        'It may have been idle too long: begin again.',
      );
    }
    const parts = [...(known?.parts ?? []), part];
    const name = upload ?? randomBytes(8).toString('hex');
    if (known !== undefined) {
      clearTimeout(known.timer);
      this.open.delete(name);
    }
    if (!more) return parts.join('');
    const length = (known?.length ?? 0) + part.length;
    let all = length;
    for (const each of this.open.values()) all += each.length;
    if (all > MOST) throw new SluiceError('SLUICE_STATE', `uploads are limited to ${MOST >> 20} MiB`);
    const timer = setTimeout(() => this.open.delete(name), IDLE_MS).unref();
    this.open.set(name, { parts, length, timer });
    return { upload: name };
  }

  close(): void {
    for (const { timer } of this.open.values()) clearTimeout(timer);
    this.open.clear();
  }
}

/** What the guest of test:zerocopy boots from: the archive that the kernel unpacks, and the order of its modules. */
import { expect, it } from 'vitest';
import { cpio } from '../zerocopy/image.mjs';
import { loadOrder } from '../zerocopy/packages.mjs';

/** A kernel module as far as loadOrder reads it. */
const module = (depends: string) => Buffer.from(`\x7fELF\0license=GPL\0depends=${depends}\0name=x\0`, 'latin1');

it('loads modules after all that they depend on, each once, and leaves out what is built in', () => {
  const files: Record<string, string> = { a: 'b,c', b: 'c', c: 'builtin', d: '' };
  const read = (name: string) => (name in files ? module(files[name]) : null);
  expect(loadOrder(['a', 'c', 'd', 'absent'], read).map(({ name }) => name)).toEqual(['c', 'b', 'a', 'd']);
  expect(loadOrder(['a'], read)[0].bytes).toEqual(module('builtin'));
});

it('writes archives in the format newc, aligned to four bytes, with a trailer', () => {
  const archive = cpio([
    { name: 'modules', mode: 0o040755 },
    { name: 'modules/x.ko', mode: 0o100755, bytes: Buffer.from('seven b') },
    { name: 'init', mode: 0o100755, bytes: Buffer.from('12345678') },
  ]);
  expect(archive.length % 4).toBe(0);
  // Every header begins with the magic and sits on a multiple of four.
  const at: number[] = [];
  for (let i = archive.indexOf('070701'); i >= 0; i = archive.indexOf('070701', i + 1)) at.push(i);
  expect(at).toHaveLength(4);
  expect(at.every((offset) => offset % 4 === 0)).toBe(true);
  const field = (entry: number, index: number) =>
    parseInt(archive.toString('latin1', at[entry] + 6 + index * 8, at[entry] + 14 + index * 8), 16);
  // mode, size of the data, size of the name with its zero
  expect([1, 6, 11].map((index) => field(1, index))).toEqual([0o100755, 7, 'modules/x.ko'.length + 1]);
  const data = at[1] + Math.ceil((110 + field(1, 11)) / 4) * 4;
  expect(archive.toString('latin1', data, data + 7)).toBe('seven b');
  expect(archive.includes('TRAILER!!!')).toBe(true);
});

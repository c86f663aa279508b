/** Maps with types, and the sweep of a hash map. */
import { expect, it, onTestFinished } from 'vitest';
import { BtfBuilder } from '../../src/control/ebpf/btf.js';
import { native, type BpfMap, type MapOptions } from '../../src/native.js';

const HASH = 1;
const u64 = (...values: number[]): Uint8Array => new Uint8Array(BigUint64Array.from(values, BigInt).buffer);

function map(options: Partial<MapOptions> = {}): BpfMap {
  const made = native().createMap({
    type: HASH,
    name: 'test',
    keySize: 8,
    valueSize: 16,
    maxEntries: 5000,
    ...options,
  });
  onTestFinished(() => made.close());
  return made;
}

it('a sweep goes round, a part at a time, and deletes what is over', () => {
  const hash = map();
  for (let i = 0; i < 3000; i++) hash.update(u64(i), u64(7, i));
  // More than a place of the hash has, so each call gets on.
  let deleted = 0;
  for (let i = 0; i < 40; i++) deleted += hash.deleteUpTo(8, 999, 100);
  expect([deleted, hash.keys().length]).toEqual([1000, 2000]);
  expect([hash.lookup(u64(999)), hash.lookup(u64(1000))]).toEqual([null, u64(7, 1000)]);
  expect(hash.deleteUpTo(0, 7, 5000) + hash.deleteUpTo(0, 7, 5000)).toBe(2000);
  expect(hash.keys()).toEqual([]);
});

it('a sweep asks for a number that is there', () => {
  const hash = map();
  expect(() => hash.deleteUpTo(9, 0, 1)).toThrow(/a value has no 8 bytes at 9/);
  expect(() => hash.deleteUpTo(0, -1, 1)).toThrow(RangeError);
  expect(() => hash.deleteUpTo(0, 0, 0)).toThrow(RangeError);
  hash.close();
  expect(() => hash.deleteUpTo(0, 0, 1)).toThrow(/closed/);
});

it('types that the kernel does not take are refused with its reason', () => {
  const btf = new BtfBuilder();
  const int = btf.int('u32', 4);
  const value = btf.struct('value', 16, [{ name: 'lock', type: 99, offset: 0 }]);
  const types = btf.build();
  expect(() => map({ btf: { types, key: int, value } })).toThrow(
    expect.objectContaining({ code: 'EINVAL', remedy: expect.stringMatching(/The kernel refused them: /) as string }),
  );
  expect(() => map({ btf: { types: new Uint8Array(3), key: 1, value: 1 } })).toThrow(/load the types of a map/);
  // Types that do not fit the sizes: no fault of the types.
  const good = new BtfBuilder();
  const key = good.int('u32', 4);
  expect(() => map({ btf: { types: good.build(), key, value: key } })).toThrow(/create map test/);
});

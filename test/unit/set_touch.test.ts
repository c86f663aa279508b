/** What is read of a large set before a burst's look-ups: the words that these then need. */
import { describe, expect, it } from 'vitest';
import { IpSet } from '../../src/control/sets/index.js';
import { formatWords } from '../../src/shared/addr.js';
import { SetView } from '../../src/shared/sets/index.js';

const address = (n: number): number => (0x0a000000 + Math.imul(n, 2654435)) | 0;

function viewOf(type: 'hash:ip' | 'hash:net', entries: number): SetView {
  const set = new IpSet({ name: 'large', type }, { seconds: () => 0 });
  const settle = set.startBulk();
  for (let n = 0; n < entries; n++) set.add(formatWords(4, [address(n), 0, 0, 0]), {}, true);
  settle();
  return new SetView(set.buffers);
}

describe('a set that is touched before its look-ups', () => {
  it('is one of hosts that no near cache holds', () => {
    expect(viewOf('hash:ip', 50_000).isLarge4).toBe(true);
    expect(viewOf('hash:ip', 1000).isLarge4).toBe(false);
    expect(viewOf('hash:net', 50_000).isLarge4).toBe(false);
    expect(viewOf('hash:net', 50).touch4(address(1), 0)).toBe(0);
  });

  it('has the records of most hosts read that are in it, and finds what it found before', () => {
    const view = viewOf('hash:ip', 50_000);
    let touched = 0;
    for (let n = 0; n < 50_000; n++) {
      if (view.touch4(address(n), 0) === address(n)) touched++;
      expect(view.lookup4(address(n), 0, 0)).toBeGreaterThan(0);
    }
    // Of the others another entry lies where theirs would be.
    expect(touched).toBeGreaterThan(35_000);
    expect(view.lookup4(0x01020304, 0, 0)).toBe(-1);
  });
});

/** Options are refused before anything is touched, by name and value, with what was probably meant. */
import { describe, expect, it } from 'vitest';
import { attach, openPort } from '../../src/library.js';
import {
  attachSettings,
  portSettings,
  type AttachmentHandle,
  type OpenPortOptions,
} from '../../src/library/options.js';

const handle: AttachmentHandle = {
  kind: 'sluice-attachment',
  interface: 'eth7',
  ifindex: 7,
  queues: [0, 1],
  mode: 'auto',
  repairChecksums: false,
  tap: null,
  channel: 'sluice-0',
};

/** A wrong value of one option, as JavaScript could pass it. */
const wrong: [options: Record<string, unknown>, message: RegExp, remedy?: RegExp][] = [
  [{ queue: 0 }, /openPort has no option "queue"/, /Did you mean "queues"/],
  [{ hostpath: true }, /no option "hostpath"/, /"hostPath"/],
  [{ colour: 'red' }, /no option "colour"/, /It has interface, queues/],
  [{ interface: [] }, /at least one interface/],
  [{ interface: undefined }, /undefined is no interface name/],
  [{ interface: 7 }, /7 is no interface name/],
  [{ interface: 'a name' }, /"a name" is no interface name/, /ip -br link/],
  [{ interface: '../eth0' }, /"\.\.\/eth0" is no interface name/],
  [{ interface: 'sixteencharacter' }, /"sixteencharacter" is no/],
  [{ interface: ['eth0', 'eth1', 'eth0'] }, /interface eth0 twice/],
  [{ interface: ['eth7', handle] }, /interface eth7 twice/],
  [{ interface: handle, hostPath: true }, /hostPath is for the thread that attaches/, /attach\(\)/],
  [{ queues: 'none' }, /queues is 'all' or a list of numbers, not "none"/],
  [{ queues: 0 }, /not 0/],
  [{ queues: [] }, /not \[\]/],
  [{ queues: [0, -1] }, /a queue is a whole number from 0 to 1023, not -1/],
  [{ queues: [0, '1'] }, /not "1"/],
  [{ queues: [3, 3] }, /a number twice: \[3,3\]/],
  [{ mode: 'native' }, /mode is one of "auto", "zero-copy", "copy", "generic", not "native"/],
  [{ frames: 63 }, /frames is a whole number from 64 to \d+, not 63/],
  [{ frames: 1.5e9 }, /not 1500000000/],
  [{ frames: NaN }, /not NaN/],
  [{ frameSize: 1500 }, /frameSize is one of 2048, 4096, not 1500/],
  [{ hugepages: 1 }, /hugepages is one of true, false, not 1/],
  [{ parse: 1 }, /parse is one of true, false, not 1/],
  [{ parse: false, checksum: 'repair' }, /checksum 'repair' needs headers that are read/],
  [{ ring: 1000 }, /ring is a power of two, not 1000/],
  [{ ring: 32 }, /ring is a whole number from 64/],
  [{ burst: 0 }, /burst is a whole number from 1 to 1024, not 0/],
  [{ burst: 2000 }, /not 2000/],
  [{ onAbort: 'log' }, /onAbort is a function/],
  [{ destinations: [] }, /destinations is a list/, /Leave it out/],
  [{ destinations: '10.0.0.0/8' }, /destinations is a list .* not "10\.0\.0\.0\/8"/],
  [{ destinations: ['10.0.0.0/33'] }, /10\.0\.0\.0\/33/],
  [{ destinations: ['example.org'] }, /example\.org/],
  [{ hostPath: 'yes' }, /hostPath is one of true, false, not "yes"/],
  [{ fallback: 'tx' }, /fallback is one of "pass", "drop", not "tx"/],
  [{ checksum: 'off' }, /checksum is one of "auto", "trust", "repair", not "off"/],
];

describe('openPort', () => {
  it.each(wrong)('refuses %j', async (options, message, remedy = /^/) => {
    const work = openPort({ interface: 'eth0', ...options } as OpenPortOptions);
    await expect(work).rejects.toMatchObject({
      code: 'SLUICE_USAGE',
      message: expect.stringMatching(message),
      remedy: expect.stringMatching(remedy),
    });
  });

  it('has the defaults that its documentation says', () => {
    expect(portSettings({ interface: 'eth0' })).toEqual({
      interfaces: ['eth0'],
      queues: 'all',
      frames: null,
      frameSize: 2048,
      hugepages: false,
      ring: 2048,
      burst: 64,
      parse: true,
      onAbort: null,
    });
    expect(attachSettings({})).toEqual({
      mode: 'auto',
      destinations: null,
      hostPath: true,
      fallback: 'pass',
      checksum: 'auto',
    });
  });

  it('takes names of 15 characters, handles, and lists of both', () => {
    expect(portSettings({ interface: ['enp3s0f0np0.123', handle], queues: [1, 0], hostPath: false })).toMatchObject({
      interfaces: ['enp3s0f0np0.123', handle],
      queues: [1, 0],
    });
  });
});

describe('attach', () => {
  it('refuses what is for a port', async () => {
    await expect(attach({ interface: 'eth0', queues: [0] } as never)).rejects.toMatchObject({
      code: 'SLUICE_USAGE',
      message: 'attach has no option "queues"',
    });
  });
});

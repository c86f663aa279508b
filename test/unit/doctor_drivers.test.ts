import { describe, expect, it } from 'vitest';
import { DRIVERS, findDriver } from '../../src/control/doctor/drivers.js';
import { effectiveCapabilities, lockedMemoryLimit } from '../../src/control/doctor/process.js';
import { parseChannels, parseFeatures } from '../../src/control/doctor/offloads.js';
import { atLeast, parseVersion } from '../../src/control/doctor/version.js';

describe('the driver table', () => {
  it('has every driver that the features list names, under the name that ethtool gives', () => {
    const wanted =
      'ena bnxt_en nicvf fsl_dpaa2_eth ixgbe ixgbevf i40e ice mvneta mlx4_en mlx5_core hv_netvsc nfp virtio_net tun veth bonding qede netsec sfc cpsw igb igc gve mana';
    expect(wanted.split(' ').filter((name) => !findDriver(name))).toEqual([]);
    expect(['thunderx', 'dpaa2', 'mlx5', 'bond', 'stmmac'].filter((alias) => !findDriver(alias))).toEqual([]);
  });

  it('names each driver once, whatever the alias', () => {
    const names = DRIVERS.flatMap(({ name, aliases }) => [name, ...(aliases ?? [])]).map((name) => name.toLowerCase());
    expect(names.filter((name, index) => names.indexOf(name) !== index)).toEqual([]);
  });

  it('has versions that can be read, and no zero-copy without or before native XDP', () => {
    for (const { name, native, zeroCopy } of DRIVERS) {
      if (native) expect(parseVersion(native), name).not.toBeNull();
      if (!zeroCopy) continue;
      expect(native, name).not.toBeNull();
      expect(atLeast(parseVersion(zeroCopy)!, native!), name).toBe(true);
      expect(atLeast(parseVersion(zeroCopy)!, '4.18'), `${name}: AF_XDP is of 4.18`).toBe(true);
    }
  });
});

describe('versions', () => {
  it('compare by number, not by text', () => {
    expect(atLeast({ major: 6, minor: 2 }, '6.14')).toBe(false);
    expect(atLeast({ major: 6, minor: 14 }, '6.2')).toBe(true);
    expect(atLeast({ major: 5, minor: 0 }, '4.20')).toBe(true);
    expect(atLeast({ major: 6, minor: 14 }, '6.14')).toBe(true);
    expect(() => atLeast({ major: 6, minor: 0 }, 'soon')).toThrow(RangeError);
    expect(parseVersion('6.18.44-fc-v669')).toEqual({ major: 6, minor: 18 });
    expect(parseVersion('mainline')).toBeNull();
  });
});

describe('what the doctor reads', () => {
  it('takes capabilities above bit 31', () => {
    expect(effectiveCapabilities('CapPrm:\tffff\nCapEff:\t0000008000000000\n')).toEqual(new Set(['BPF']));
    expect(effectiveCapabilities('CapEff:\t0000000000003000\n')).toEqual(new Set(['NET_ADMIN', 'NET_RAW']));
    expect(effectiveCapabilities('Name: x\n')).toBeNull();
  });

  it('takes the soft limit of locked memory', () => {
    expect(lockedMemoryLimit('Max locked memory         65536                8388608              bytes\n')).toBe(
      65536,
    );
    expect(lockedMemoryLimit('Max locked memory         unlimited            unlimited            bytes\n')).toBe(
      Infinity,
    );
    expect(lockedMemoryLimit('')).toBeNull();
  });

  it('reads features with and without [fixed], indented or not', () => {
    const features = parseFeatures(
      'Features for x:\nrx-checksumming: off [fixed]\ntx-checksumming: on\n\ttx-checksum-sctp: on [requested on]\n',
    );
    expect(features.get('rx-checksumming')).toEqual({ on: false, fixed: true });
    expect(features.get('tx-checksumming')).toEqual({ on: true, fixed: false });
    expect(features.get('tx-checksum-sctp')).toEqual({ on: true, fixed: false });
    expect(features.size).toBe(3);
  });

  it('adds separate RX queues to combined ones', () => {
    const text =
      'Pre-set maximums:\nRX:\t\t2\nTX:\t\t2\nCombined:\t6\nCurrent hardware settings:\nRX:\t\t1\nTX:\t\t1\nCombined:\t3\n';
    expect(parseChannels(text)).toEqual({ rx: 4, maximum: 8 });
    expect(parseChannels('netlink error: Operation not supported\n')).toBeNull();
  });
});

import { describe, expect, it } from 'vitest';
import { runDoctor } from '../../src/control/doctor/doctor.js';
import type { Finding, Level } from '../../src/control/doctor/finding.js';
import { render } from '../../src/control/doctor/render.js';
import { ethtoolFeatures, fakeMachine, nic, type FakeMachine } from '../support/fake_machine.js';

const DEFAULTS = { frameCount: 8192, frameSize: 2048 };

function examine(machine: FakeMachine, ...interfaces: string[]) {
  return runDoctor(fakeMachine(machine), { interfaces, ...DEFAULTS });
}

/** The one finding of a check about a subject. */
function finding(machine: FakeMachine, check: string, interfaces: string[] = [], subject?: string): Finding {
  const found = examine(machine, ...interfaces).findings.filter(
    (one) => one.check === check && (!subject || one.subject === subject),
  );
  expect(found, `findings of ${check}`).toHaveLength(1);
  return found[0];
}

const CAP_NONE = { '/proc/self/status': 'CapEff:\t0000000000000000\n' };
/** NET_ADMIN (12), NET_RAW (13) and BPF (39), without IPC_LOCK (14). */
const CAP_MINIMUM = {
  '/proc/self/status': `CapEff:\t${((1n << 12n) | (1n << 13n) | (1n << 39n)).toString(16).padStart(16, '0')}\n`,
};
const ixgbe = (extra: FakeMachine = {}, options: Parameters<typeof nic>[1] = {}): FakeMachine => ({
  ...extra,
  files: { ...nic('eth0', options), ...extra.files },
  commands: {
    'ethtool -i eth0': 'driver: ixgbe\nversion: 6\n',
    'ethtool -k eth0': ethtoolFeatures('eth0'),
    ...extra.commands,
  },
});

describe('the doctor, on the host', () => {
  it('finds nothing wrong with a machine in order', () => {
    const report = examine(ixgbe(), 'eth0');
    expect(report.findings.filter(({ level }) => level !== 'ok')).toEqual([]);
    expect(report.counts).toEqual({ ok: report.findings.length, info: 0, warn: 0, bad: 0 });
    expect(report.findings.length).toBeGreaterThan(12);
  });

  const cases: [string, FakeMachine, string, Level, RegExp, RegExp?][] = [
    ['a kernel without bpf_link for XDP', { kernel: '5.4.0-42-generic' }, 'kernel', 'bad', /needs 5\.9/],
    [
      'a kernel that lacks newer features',
      { kernel: '5.10.0' },
      'kernel',
      'ok',
      /not yet: preferred busy polling \(5\.11\)/,
    ],
    ['a kernel with a strange name', { kernel: 'custom' }, 'kernel', 'warn', /cannot tell/],
    [
      'no AF_XDP in the kernel',
      { files: { '/proc/net/protocols': 'TCP 1\n' } },
      'af-xdp',
      'bad',
      /no AF_XDP/,
      /CONFIG_XDP_SOCKETS/,
    ],
    ['no BTF', { system: { list: () => [] } }, 'btf', 'warn', /CO-RE/],
    [
      'BPF interpreted',
      { files: { '/proc/sys/net/core/bpf_jit_enable': '0\n' } },
      'jit',
      'warn',
      /interpreted/,
      /bpf_jit_enable=1/,
    ],
    [
      'BPF for everyone',
      { files: { '/proc/sys/kernel/unprivileged_bpf_disabled': '0\n' } },
      'unprivileged-bpf',
      'warn',
      /any user/,
      /=2$/,
    ],
    [
      'strict reverse path filter',
      { files: { '/proc/sys/net/ipv4/conf/all/rp_filter': '1\n' } },
      'rp-filter',
      'warn',
      /strict/,
      /all\.rp_filter=2/,
    ],
    [
      'loose over strict',
      { files: { '/proc/sys/net/ipv4/conf/all/rp_filter': '2\n', '/proc/sys/net/ipv4/conf/default/rp_filter': '1\n' } },
      'rp-filter',
      'ok',
      /not stand/,
    ],
    ['the addon missing', { system: { libbpfVersion: () => null } }, 'addon', 'warn', /does not load/, /npm run setup/],
    [
      'a confined root',
      { files: CAP_NONE },
      'capabilities',
      'bad',
      /CAP_NET_RAW.*CAP_NET_ADMIN.*CAP_BPF/,
      /--cap-add BPF/,
    ],
    ['an ordinary user', { files: CAP_NONE, uid: 1000 }, 'capabilities', 'warn', /lacks/, /AmbientCapabilities=/],
    [
      'too few huge pages',
      { files: { '/proc/meminfo': 'HugePages_Total: 4\nHugePages_Free: 3\nHugepagesize: 2048 kB\n' } },
      'hugepages',
      'info',
      /3 huge pages/,
      /nr_hugepages=9$/,
    ],
  ];
  it.each(cases)('names %s', (_name, machine, check, level, text, fix) => {
    const found = finding(machine, check);
    expect(found.level).toBe(level);
    expect(found.text).toMatch(text);
    if (fix) expect(found.fix).toMatch(fix);
  });

  it('says when an AF_XDP socket cannot be opened, and why', () => {
    const failed = (code: string) => ({ probeXdpSocket: () => ({ result: 'failed' as const, code, text: 'reason' }) });
    expect(finding({ system: failed('ENOBUFS') }, 'af-xdp')).toMatchObject({
      level: 'bad',
      text: expect.stringContaining('ENOBUFS'),
    });
    expect(finding({ system: failed('EPERM'), uid: 1000 }, 'af-xdp').level).toBe('warn');
    expect(finding({ system: failed('EPERM') }, 'af-xdp').level).toBe('bad');
  });

  it('compares locked memory with what all queues of the named interfaces need', () => {
    // 8192 frames of 2048 bytes are 16 MiB a worker; 8 MiB may be locked.
    const short = finding(ixgbe({ files: CAP_MINIMUM }), 'memlock', ['eth0']);
    expect(short).toMatchObject({ level: 'bad', text: expect.stringMatching(/only 8 MiB .* 32 MiB/) });
    expect(short.fix).toContain('ulimit -l 32768');
    const unlimited = {
      '/proc/self/limits': 'Max locked memory         unlimited            unlimited            bytes\n',
    };
    expect(finding(ixgbe({ files: { ...CAP_MINIMUM, ...unlimited } }), 'memlock', ['eth0']).level).toBe('ok');
    expect(finding(ixgbe(), 'memlock', ['eth0']).text).toContain('CAP_IPC_LOCK');
  });

  it('takes SYS_ADMIN for BPF, as the kernel does', () => {
    const bits = ((1n << 12n) | (1n << 13n) | (1n << 21n)).toString(16);
    expect(finding({ files: { '/proc/self/status': `CapEff:\t${bits}\n` } }, 'capabilities').level).toBe('ok');
  });

  it('says what it could not see without root and without ethtool, and calls none of it bad', () => {
    const files = { ...nic('eth0'), ...CAP_NONE };
    const machine = fakeMachine({ files, uid: 1000, absent: ['ethtool', 'ip', 'bpftool'] });
    const blind = { ...machine, queryXdp: () => undefined, libbpfVersion: () => null };
    blind.readFile = (path) =>
      path.endsWith('bpf_jit_enable') ? null : path.endsWith('/limits') ? null : machine.readFile(path);
    blind.probeXdpSocket = () => ({ result: 'untested', why: 'no addon' });
    const report = runDoctor(blind, { interfaces: ['eth0'], ...DEFAULTS });
    expect(report.counts.bad).toBe(0);
    const unseen = report.findings.filter(
      ({ level, text }) => level === 'info' && /could not be seen|only root|not tried|cannot read/.test(text),
    );
    expect(unseen.map(({ check }) => check)).toEqual(['af-xdp', 'jit', 'memlock', 'driver', 'xdp-program', 'offloads']);
  });
});

describe('the doctor, on interfaces', () => {
  it('looks at all but lo when none is named', () => {
    const files = {
      ...nic('lo', { ifindex: 1 }),
      ...nic('eth0'),
      ...nic('eth1', { ifindex: 3 }),
      '/sys/class/net/bonding_masters': '',
    };
    expect([...new Set(examine({ files }).findings.map(({ subject }) => subject))]).toEqual(['host', 'eth0', 'eth1']);
  });

  it('refuses a name that is not there and suggests the nearest', () => {
    const missing = finding(ixgbe(), 'interface', ['ehtO', 'eth0'], 'ehtO');
    expect(missing.level).toBe('bad');
    expect(missing.text).toContain('there are: eth0');
    expect(finding({ files: nic('enp3s0f0') }, 'interface', ['enp3sof0']).text).toContain('did you mean enp3s0f0?');
  });

  it('minds a link that is down more when it was named', () => {
    const down = ixgbe({}, { up: false });
    expect(finding(down, 'link', ['eth0'])).toMatchObject({ level: 'bad', fix: 'ip link set dev eth0 up' });
    expect(finding(down, 'link')).toMatchObject({ level: 'warn' });
    expect(finding(ixgbe({}, { carrier: false }), 'link', ['eth0'])).toMatchObject({
      level: 'bad',
      text: expect.stringContaining('no carrier'),
    });
  });

  it('warns of more queues than CPUs', () => {
    expect(finding(ixgbe({ cpus: 2 }, { queues: 8 }), 'queues', ['eth0'])).toMatchObject({
      level: 'warn',
      fix: 'ethtool -L eth0 combined 2',
    });
  });

  it('reads set and possible queues from ethtool', () => {
    const channels =
      'Channel parameters for eth0:\nPre-set maximums:\nRX:\t\tn/a\nCombined:\t63\nCurrent hardware settings:\nRX:\t\tn/a\nCombined:\t3\n';
    expect(finding(ixgbe({ commands: { 'ethtool -l eth0': channels } }), 'queues', ['eth0']).text).toContain(
      '3 RX of at most 63',
    );
  });

  it('tells when UDP is spread by addresses only', () => {
    const addresses = 'UDP over IPV4 flows use these fields for computing Hash flow key:\nIP SA\nIP DA\n';
    const ports = `${addresses}L4 bytes 0 & 1 [TCP/UDP src port]\nL4 bytes 2 & 3 [TCP/UDP dst port]\n`;
    const command = 'ethtool -n eth0 rx-flow-hash udp4';
    expect(finding(ixgbe({ commands: { [command]: addresses } }), 'rss', ['eth0']).fix).toContain('udp4 sdfn');
    expect(
      examine(ixgbe({ commands: { [command]: ports } }), 'eth0').findings.some(({ check }) => check === 'rss'),
    ).toBe(false);
  });

  it.each([
    ['ixgbe', '6.1.0', 'ok', /native XDP since 4\.12, zero-copy since 4\.20/],
    ['igb', '6.12.0', 'ok', /zero-copy only since 6\.14: each packet is copied/],
    ['ena', '6.1.0', 'ok', /no zero-copy/],
    ['ionic', '6.1.0', 'warn', /this kernel is older/],
    ['e1000e', '6.1.0', 'warn', /no native XDP/],
    ['tg3', '6.1.0', 'warn', /from memory, not checked/],
    ['frobnic', '6.1.0', 'info', /not in our table/],
  ])('says what driver %s does on %s', (driver, kernel, level, text) => {
    const found = finding(ixgbe({ kernel, commands: { 'ethtool -i eth0': `driver: ${driver}\n` } }), 'driver', [
      'eth0',
    ]);
    expect(found.level).toBe(level);
    expect(found.text).toMatch(text);
  });

  it('takes the driver from /sys when there is no ethtool', () => {
    const machine = {
      files: nic('eth0'),
      links: { '/sys/class/net/eth0/device/driver': '../../../bus/pci/drivers/ixgbe' },
      absent: ['ethtool'],
    };
    expect(finding(machine, 'driver', ['eth0']).text).toContain('Intel 82599');
  });

  it.each([
    [1500, 'mtu', 'ok', /fits/, undefined],
    [1774, 'mtu', 'ok', /fits/, undefined],
    [1775, 'mtu', 'info', /frames of 4096/, /size: 4096/],
    [3050, 'mtu', 'info', /frames of 4096/, /size: 4096/],
    [3051, 'mtu', 'bad', /3050/, /mtu 3050/],
    [1500, 'encapsulation', 'warn', /over 1480 bytes do not fit/, /mtu 1540/],
    [1520, 'encapsulation', 'warn', /over 1480 bytes fit over IPv4/, /mtu 1540/],
    [1540, 'encapsulation', 'ok', /still fit/, undefined],
  ])('judges MTU %i: %s', (mtu, check, level, text, fix) => {
    const found = finding(ixgbe({}, { mtu }), check, ['eth0']);
    expect(found.level).toBe(level);
    expect(found.text).toMatch(text);
    if (fix) expect(found.fix).toMatch(fix);
  });

  it.each([
    ['igb', '7.2.0', 1500, true],
    ['igb', '7.2.0', 1003, true],
    ['igb', '7.2.0', 1002, false],
    ['igb', '6.12.0', 1500, false],
    ['igc', '6.12.0', 1500, true],
    ['ixgbe', '6.12.0', 1500, false],
  ])('says of %s on %s with MTU %i whether zero-copy needs larger frames: %s', (driver, kernel, mtu, needed) => {
    const machine = ixgbe({ kernel, commands: { 'ethtool -i eth0': `driver: ${driver}\n` } }, { mtu });
    const found = examine(machine, 'eth0').findings.filter(({ check }) => check === 'zero-copy');
    expect(found.map(({ level, fix }) => [level, fix])).toEqual(
      needed ? [['info', expect.stringContaining('size: 4096')]] : [],
    );
  });

  it.each([
    ['large-receive-offload', 'lro', 'bad', 'ethtool -K eth0 lro off'],
    ['rx-gro-hw', 'gro-hw', 'warn', 'ethtool -K eth0 rx-gro-hw off'],
    ['rx-vlan-offload', 'rx-vlan', 'warn', 'ethtool -K eth0 rxvlan off'],
  ])('turns off %s', (feature, check, level, fix) => {
    const on = { 'ethtool -k eth0': ethtoolFeatures('eth0', [feature]) };
    expect(finding(ixgbe({ commands: on }), check, ['eth0'])).toMatchObject({ level, fix });
    const fixed = { 'ethtool -k eth0': ethtoolFeatures('eth0', [feature], [feature]) };
    expect(finding(ixgbe({ commands: fixed }), check, ['eth0']).fix).toBeUndefined();
  });

  it('minds software GRO only where there is no native XDP', () => {
    const gro = { 'ethtool -k eth0': ethtoolFeatures('eth0', ['generic-receive-offload']) };
    expect(finding(ixgbe({ commands: gro }), 'offloads', ['eth0']).level).toBe('ok');
    const generic = { ...gro, 'ethtool -i eth0': 'driver: r8169\n' };
    expect(finding(ixgbe({ commands: generic }), 'gro', ['eth0'])).toMatchObject({
      level: 'warn',
      fix: 'ethtool -K eth0 gro off',
    });
  });
});

describe("the doctor's report", () => {
  it('prints every finding with its fix, wrapped, and commands in one piece', () => {
    const report = examine(ixgbe({ kernel: '5.4.0' }, { mtu: 1500 }), 'eth0');
    const text = render(report, { colour: false, columns: 80 });
    for (const { check, fix } of report.findings) {
      expect(text).toContain(`${check}:`);
      if (fix) expect(text).toContain(`→ ${fix}\n`);
    }
    expect(text.split('\n').filter((line) => line.length > 80 && !line.includes('→'))).toEqual([]);
    expect(text).toMatch(/BAD {2}kernel/);
    expect(text.trimEnd().split('\n').pop()).toMatch(/^\d+ ok, 0 info, 1 warnings, 1 bad: mend what is BAD first/);
    expect(text).not.toContain('\x1b');
    expect(render(report, { colour: true, columns: 80 })).toContain('\x1b[31mBAD ');
  });
});

import { describe, expect, it } from 'vitest';
import { runDoctor } from '../../src/control/doctor/doctor.js';
import type { XdpQuery } from '../../src/native.js';
import { ethtoolFeatures, fakeMachine, nic, type FakeMachine } from '../support/fake_machine.js';

/** As `ip -j link show dev va` prints a pair whose other end is elsewhere (namespace id 0), captured on 6.18. */
const ELSEWHERE = JSON.stringify([
  { ifindex: 5, link_index: 2, ifname: 'va', flags: ['UP'], mtu: 1600, link_netnsid: 0 },
]);
const HERE = [
  { ifindex: 2, ifname: 'vb', mtu: 1600 },
  { ifindex: 5, link: 'vb', ifname: 'va', mtu: 1600 },
];

function veth(
  commands: Record<string, string>,
  system: FakeMachine['system'] = {},
  more: Pick<FakeMachine, 'files' | 'links'> = {},
): ReturnType<typeof runDoctor>['findings'] {
  const machine = fakeMachine({
    files: { ...nic('va', { ifindex: 5 }), '/sys/class/net/va/iflink': '2\n', ...more.files },
    links: more.links,
    commands: {
      'ethtool -i va': 'driver: veth\n',
      'ethtool -k va': ethtoolFeatures('va', ['rx-vlan-offload']),
      ...commands,
    },
    system,
  });
  const report = runDoctor(machine, { interfaces: ['va'], frameCount: 4096, frameSize: 2048 });
  return report.findings.filter(({ subject }) => subject === 'va');
}

const IN_NAMESPACE = {
  'ip -j link show dev va': ELSEWHERE,
  'ip -j netns list-id': JSON.stringify([{ nsid: 0, name: 'client' }]),
  'ip -n client -j link show': JSON.stringify([
    { ifindex: 1, ifname: 'lo' },
    { ifindex: 2, ifname: 'vb', mtu: 1600 },
  ]),
};

describe('the doctor, on a veth pair', () => {
  it('finds the other end in its namespace and turns off what it leaves undone there', () => {
    const features = ethtoolFeatures('vb', ['tx-checksumming', 'tx-vlan-offload']);
    const findings = veth({ ...IN_NAMESPACE, 'ip netns exec client ethtool -k vb': features });
    const checksum = findings.find(({ check }) => check === 'tx-checksum');
    expect(checksum).toMatchObject({ level: 'warn', fix: 'ip netns exec client ethtool -K vb tx off' });
    expect(checksum?.text).toContain('vb in namespace client');
    expect(findings.find(({ check }) => check === 'tx-vlan')?.fix).toBe(
      'ip netns exec client ethtool -K vb txvlan off',
    );
  });

  it('finds the other end in the same namespace', () => {
    const findings = veth({
      'ip -j link show dev va': JSON.stringify([HERE[1]]),
      'ip -j link show': JSON.stringify(HERE),
      'ethtool -k vb': ethtoolFeatures('vb', ['tx-checksumming']),
    });
    expect(findings.find(({ check }) => check === 'tx-checksum')?.fix).toBe('ethtool -K vb tx off');
  });

  it('is content when the other end does its checksums, and does not mind rx-vlan-offload on veth', () => {
    const findings = veth({ ...IN_NAMESPACE, 'ip netns exec client ethtool -k vb': ethtoolFeatures('vb') });
    expect(findings.filter(({ level }) => level !== 'ok')).toEqual([]);
  });

  it('says how to find an end that it cannot see', () => {
    const peer = veth({ 'ip -j link show dev va': ELSEWHERE }).find(({ check }) => check === 'peer');
    expect(peer?.level).toBe('info');
    expect(peer?.text).toContain('interface 2');
    expect(peer?.fix).toContain('grep "^2:"');
  });

  it('minds segmentation offload of the other end only in generic mode', () => {
    const features = ethtoolFeatures('vb', ['tcp-segmentation-offload', 'generic-segmentation-offload']);
    const commands = { ...IN_NAMESPACE, 'ip netns exec client ethtool -k vb': features };
    expect(veth(commands).some(({ check }) => check === 'tso')).toBe(false);
    const program: XdpQuery = { programId: 7, mode: 'generic', programName: 'sluice_redirect', tag: 'a1' };
    const tso = veth(commands, { queryXdp: () => program }).find(({ check }) => check === 'tso');
    expect(tso).toMatchObject({ level: 'warn', fix: 'ip netns exec client ethtool -K vb tso off gso off' });
  });
});

describe('the doctor, on the MTU of a veth pair', () => {
  const withPeerMtu = (mtu: number) => ({
    ...IN_NAMESPACE,
    'ip -n client -j link show': JSON.stringify([{ ifindex: 2, ifname: 'vb', mtu }]),
  });

  it('minds what the other end may send', () => {
    const found = veth(withPeerMtu(9000)).find(({ check }) => check === 'mtu');
    expect(found).toMatchObject({ level: 'bad', fix: 'ip netns exec client ip link set dev vb mtu 3506' });
    expect(found?.text).toContain('the other end (vb) has MTU 9000');
  });

  it('wants room for encapsulation at both ends', () => {
    const found = veth(withPeerMtu(1500)).find(({ check }) => check === 'encapsulation');
    expect(found).toMatchObject({ level: 'warn', fix: 'ip netns exec client ip link set dev vb mtu 1540' });
  });
});

describe('the doctor, on XDP programs', () => {
  const foreign: XdpQuery = { programId: 42, mode: 'native', programName: 'xdp_firewall', tag: 'ff' };
  const program = (query: XdpQuery | null | undefined, commands: Record<string, string> = {}) =>
    veth({ ...IN_NAMESPACE, ...commands }, { queryXdp: () => query }).find(({ check }) => check === 'xdp-program');

  it('refuses a foreign one and names the command that takes it off', () => {
    expect(program(foreign)).toMatchObject({ level: 'bad', fix: 'ip link set dev va xdp off' });
    expect(program({ ...foreign, mode: 'generic' })?.fix).toBe('ip link set dev va xdpgeneric off');
  });

  it('names the link and the process that hold a foreign one', () => {
    const fd = (pid: number, number: number, program: number, link: number) => ({
      links: { [`/proc/${pid}/fd/${number}`]: 'anon_inode:bpf_link' },
      files: {
        [`/proc/${pid}/fdinfo/${number}`]: `pos:\t0\nlink_type:\txdp\nlink_id:\t${link}\nprog_id:\t${program}\n`,
      },
    });
    const [other, holder] = [fd(600, 3, 41, 3), fd(777, 12, 42, 9)];
    const files = { ...other.files, ...holder.files, '/proc/777/comm': 'xdpfw\n' };
    const found = veth(
      IN_NAMESPACE,
      { queryXdp: () => foreign },
      { files, links: { ...other.links, ...holder.links } },
    );
    const report = found.find(({ check }) => check === 'xdp-program');
    expect(report?.fix).toBe('bpftool link detach id 9');
    expect(report?.text).toContain('held by xdpfw (777)');
  });

  it('finds a pinned link, which no process holds', () => {
    const links = [
      { id: 3, type: 'xdp', prog_id: 41 },
      { id: 9, type: 'xdp', prog_id: 42 },
    ];
    expect(program(foreign, { 'bpftool -j link show': JSON.stringify(links) })?.fix).toBe('bpftool link detach id 9');
  });

  it('knows our own', () => {
    expect(program({ ...foreign, programName: 'sluice_redirect' })).toMatchObject({
      level: 'info',
      fix: 'sluice status',
    });
  });

  it('reads it from ip when there is no addon, and does not condemn what has no name', () => {
    const shown = (prog: object) => ({
      'ip -j -d link show dev va': JSON.stringify([{ ifname: 'va', xdp: { mode: 1, prog } }]),
    });
    expect(program(undefined, shown({ id: 42, name: 'xdp_firewall' }))?.level).toBe('bad');
    expect(program(undefined, shown({ id: 42 }))).toMatchObject({
      level: 'warn',
      text: expect.stringContaining('not visible'),
    });
    expect(program(undefined, { 'ip -j -d link show dev va': '[{"ifname":"va"}]' })?.level).toBe('ok');
    expect(program(undefined)).toMatchObject({ level: 'info' });
  });
});

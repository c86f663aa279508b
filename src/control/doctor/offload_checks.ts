/** Offloads that hide something from XDP, merge packets, or leave checksums unfinished. */
import type { Findings } from './finding.js';
import type { XdpSupport } from './link_checks.js';
import type { LinkFacts } from './link_facts.js';
import type { Features } from './offloads.js';

export function checkOffloads(facts: LinkFacts, support: XdpSupport, findings: Findings): void {
  const before = findings.list.length;
  if (facts.features === null) {
    findings.add(
      'info',
      'offloads',
      'offloads could not be seen (no ethtool, or the device has none)',
      'apt-get install ethtool',
    );
  } else checkOwn(facts, facts.features, support, findings);
  if (facts.driver === 'veth') checkPeer(facts, support, findings);
  if (findings.list.length === before) findings.add('ok', 'offloads', 'no offload is on that hurts');
}

/** `ethtool -K` for one feature, or an explanation when the device does not let it be changed. */
function turnOff(features: Features, name: string, command: string): { on: boolean; fix?: string; fixed: string } {
  const feature = features.get(name);
  if (!feature?.on) return { on: false, fixed: '' };
  return feature.fixed
    ? { on: true, fixed: ' (the device does not let it be turned off)' }
    : { on: true, fix: command, fixed: '' };
}

function checkOwn(facts: LinkFacts, features: Features, support: XdpSupport, findings: Findings): void {
  const { name } = facts;
  const generic = support.native === 'no';

  const lro = turnOff(features, 'large-receive-offload', `ethtool -K ${name} lro off`);
  if (lro.on) {
    const text = `large receive offload merges packets in the device${lro.fixed}: native XDP is refused, or sees packets that no one sent`;
    findings.add('bad', 'lro', text, lro.fix);
  }
  const hwGro = turnOff(features, 'rx-gro-hw', `ethtool -K ${name} rx-gro-hw off`);
  if (hwGro.on) {
    const text = `hardware GRO merges packets in the device${hwGro.fixed}; most drivers turn it off themselves while an XDP program is attached`;
    findings.add(hwGro.fix ? 'warn' : 'info', 'gro-hw', text, hwGro.fix);
  }
  // On veth the tag is taken off at the sender's end: see the peer's txvlan.
  const rxVlan = turnOff(features, 'rx-vlan-offload', `ethtool -K ${name} rxvlan off`);
  if (rxVlan.on && facts.driver !== 'veth') {
    const text = `the device takes VLAN tags off${rxVlan.fixed}: tagged packets look untagged to XDP, and VLANs cannot be told apart`;
    findings.add('warn', 'rx-vlan', text, rxVlan.fix);
  }
  const gro = turnOff(features, 'generic-receive-offload', `ethtool -K ${name} gro off`);
  if (generic && gro.on) {
    const text = `generic XDP runs after GRO${gro.fixed}: merged packets of up to 64 KiB do not fit a frame and are dropped`;
    findings.add('warn', 'gro', text, gro.fix);
  }
}

/** What the other end of a veth pair leaves undone arrives undone: there is no device in between. */
function checkPeer(facts: LinkFacts, support: XdpSupport, findings: Findings): void {
  const { peer, name } = facts;
  if (!peer || peer.name === null || peer.features === null) {
    const text =
      `the other end of this veth pair could not be looked at. Its TX checksum offload leaves checksums unfinished in packets that arrive here: ` +
      `find it (interface ${peer?.ifindex ?? 'named by iflink'} in its own namespace) and run ethtool -K PEER tx off txvlan off there, ` +
      `or keep checksum: auto, which repairs them`;
    findings.add('info', 'peer', text, peer?.howToFind || `cat /sys/class/net/${name}/iflink`);
    return;
  }
  const where = peer.namespace === null ? peer.name : `${peer.name} in namespace ${peer.namespace}`;
  const command = (feature: string) => `${peer.prefix}ethtool -K ${peer.name} ${feature} off`;
  if (turnOff(peer.features, 'tx-checksumming', '').on) {
    const text =
      `the other end (${where}) leaves TCP and UDP checksums to its device, which a veth is not: packets arrive with unfinished checksums. ` +
      `checksum: auto repairs them here, at a cost; turned off there, it costs nothing here`;
    findings.add('warn', 'tx-checksum', text, command('tx'));
  }
  if (turnOff(peer.features, 'tx-vlan-offload', '').on) {
    const text = `the other end (${where}) sends VLAN tags beside the packet: tagged packets look untagged to XDP. Matters only if VLANs are used`;
    findings.add('info', 'tx-vlan', text, command('txvlan'));
  }
  // Native attach on veth turns the peer's TSO off by itself; generic does not.
  const segmentation = ['tcp-segmentation-offload', 'generic-segmentation-offload'].filter(
    (feature) => peer.features?.get(feature)?.on,
  );
  if (segmentation.length > 0 && (support.native === 'no' || facts.program?.mode === 'generic')) {
    const text = `the other end (${where}) sends segments of up to 64 KiB (TSO, GSO), which generic XDP cannot put into a frame: they are dropped`;
    findings.add('warn', 'tso', text, `${peer.prefix}ethtool -K ${peer.name} tso off gso off`);
  }
}

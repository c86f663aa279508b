/** Others that do the jobs of the pps bench: the kernel's own forwarding, bridge and NAT, and DPDK's testpmd over AF_XDP. */
import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Mode } from '../../src/bench/modes.js';

export type PeerKind = 'testpmd-io' | 'testpmd-mac' | 'ip-forward' | 'bridge' | 'nft-dnat' | 'nft-stateless';

export interface Peer {
  kind: PeerKind;
  name: string;
  mode: Mode;
  /** Program that it needs, and what apt calls the package. */
  needs: { program: string; package: string };
}

const IP = { program: 'ip', package: 'iproute2' };
const DPDK = { program: 'dpdk-testpmd', package: 'dpdk-dev' };
const NFT = { program: 'nft', package: 'nftables' };

export const PEERS: readonly Peer[] = [
  { kind: 'testpmd-io', name: 'testpmd io, net_af_xdp', mode: 'forward', needs: DPDK },
  { kind: 'testpmd-mac', name: 'testpmd mac, net_af_xdp', mode: 'forward', needs: DPDK },
  { kind: 'ip-forward', name: 'Linux IP forwarding', mode: 'forward', needs: IP },
  { kind: 'bridge', name: 'Linux bridge', mode: 'forward', needs: IP },
  { kind: 'nft-dnat', name: 'nftables DNAT, conntrack', mode: 'lb', needs: NFT },
  { kind: 'nft-stateless', name: 'nftables DNAT, stateless', mode: 'lb', needs: NFT },
];

/** Why a peer cannot run here: "not installed: apt-get install PACKAGE"; '' when it can. */
export function missing({ needs }: Peer, path = process.env.PATH ?? ''): string {
  // sbin is not in everybody's PATH.
  const folders = [...path.split(delimiter), '/usr/sbin', '/sbin'].filter((folder) => folder !== '');
  if (folders.some((folder) => existsSync(join(folder, needs.program)))) return '';
  return `not installed: apt-get install ${needs.package}`;
}

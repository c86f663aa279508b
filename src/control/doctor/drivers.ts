/**
 * What network drivers can do for AF_XDP, and since which kernel: data, no code but the look-up.
 *
 * Sources, by `source`:
 * - `ebpf-docs`: docs.ebpf.io, "Program type BPF_PROG_TYPE_XDP", driver support and maximum MTU tables (repository
 *   isovalent/ebpf-docs, commit 014b3b57, table as of Linux 6.10 with the igb row of 6.14), each row there linked to its commit;
 * - `bcc+ebpf-docs`: the native column also in iovisor/bcc docs/kernel-versions.md (commit 0272a3d5) with the same version;
 * - `measured`: tried by us, see the note;
 * - `memory`: general knowledge that nobody of us has checked yet; the doctor says so.
 */
export interface Driver {
  /** Name as `ethtool -i` gives it. */
  name: string;
  /** Other names of the same driver: kernel module, bus driver in /sys. */
  aliases?: readonly string[];
  device: string;
  /** First kernel with native XDP; null: none, generic mode only. */
  native: string | null;
  /** First kernel with AF_XDP zero-copy; null: none, copy mode. */
  zeroCopy: string | null;
  /** Largest MTU with an XDP program that takes no fragments, x86-64 with 4 KiB pages; null: no limit known. */
  maxMtu: number | null;
  source: 'ebpf-docs' | 'bcc+ebpf-docs' | 'measured' | 'memory';
  note?: string;
  /**
   * Zero-copy receive buffers are whole KiB: 1024 bytes of a frame of 2048, 3072 of 4096; longer packets come in pieces. The addon
   * does not bind such a driver zero-copy where the MTU is more (ZeroCopyBuffer in native/xsk_socket.cc).
   */
  wholeKib?: boolean;
}

/** One row; order of arguments: name, device, native, zero-copy, maxMtu, source, rest. */
function row(
  name: string,
  device: string,
  native: string | null,
  zeroCopy: string | null,
  maxMtu: number | null,
  source: Driver['source'],
  rest: { aliases?: readonly string[]; note?: string; wholeKib?: boolean } = {},
): Driver {
  return { name, device, native, zeroCopy, maxMtu, source, ...rest };
}

const ENA_NOTE = 'XDP takes half of the queues: set at most half of the maximum with ethtool -L first (not checked)';
const MLX5_NOTE = 'before 6.2 zero-copy sockets used queue numbers N to 2N-1 (not checked)';
const IXGBE_NOTE =
  '82599 and X520: zero-copy with frames of 2048 bytes drops packets over 1024: use frames.size 4096 (not checked)';
const VIRTIO_NOTE =
  'docs name 6.11 for receive; 6.12 still answered EOPNOTSUPP in our test, 7.2 bound zero-copy with iommu_platform=on. ' +
  'Native XDP needs one spare queue pair a CPU, else it transmits under a lock';

export const DRIVERS: readonly Driver[] = [
  // Data centre NICs
  row('ixgbe', 'Intel 82599, X520, X540, X550', '4.12', '4.20', 3050, 'bcc+ebpf-docs', { note: IXGBE_NOTE }),
  row('ixgbevf', 'Intel 10 GbE virtual function', '4.17', null, 3050, 'bcc+ebpf-docs'),
  row('i40e', 'Intel X710, XL710, X722', '4.13', '4.20', 3046, 'bcc+ebpf-docs'),
  row('iavf', 'Intel adaptive virtual function', null, null, null, 'memory'),
  row('ice', 'Intel E810, E822, E830', '5.5', '5.5', 3046, 'ebpf-docs'),
  row('idpf', 'Intel E2000 and other IDPF devices', '6.18', '6.18', null, 'memory'),
  row('mlx4_en', 'Mellanox ConnectX-3', '4.8', null, 3498, 'bcc+ebpf-docs', { aliases: ['mlx4_core', 'mlx4'] }),
  row('mlx5_core', 'Mellanox ConnectX-4 and later', '4.9', '5.3', 3498, 'bcc+ebpf-docs', {
    aliases: ['mlx5', 'mlx5e_rep'],
    note: MLX5_NOTE,
  }),
  row('bnxt_en', 'Broadcom NetXtreme-C/E', '4.11', null, 3502, 'bcc+ebpf-docs', { aliases: ['bnxt'] }),
  row('qede', 'QLogic FastLinQ', '4.10', null, null, 'bcc+ebpf-docs'),
  row('nfp', 'Netronome Agilio', '4.10', '5.18', 4096, 'bcc+ebpf-docs', {
    note: 'also runs XDP on the card; sluice does not use that',
  }),
  row('sfc', 'Solarflare SFC9000 and later', '5.5', null, 3508, 'ebpf-docs', { aliases: ['sfc_siena'] }),
  row('ionic', 'AMD Pensando DSC', '6.9', null, 3502, 'ebpf-docs'),
  row('funeth', 'Fungible', '5.18', null, 3566, 'ebpf-docs'),
  row('atlantic', 'Aquantia AQtion', '5.19', null, 2048, 'ebpf-docs'),
  // Gigabit and embedded
  row('igb', 'Intel 82575 to I350, I210', '5.10', '6.14', 3046, 'ebpf-docs', {
    note: 'zero-copy refused on 6.12 and bound on 7.2 in our test',
    wholeKib: true,
  }),
  row('igc', 'Intel I225, I226', '5.13', '5.14', 1500, 'ebpf-docs', { wholeKib: true }),
  row('e1000e', 'Intel 82563 to I219', null, null, null, 'bcc+ebpf-docs', { note: 'not planned upstream' }),
  row('e1000', 'Intel 8254x, common in emulators', null, null, null, 'bcc+ebpf-docs'),
  row('r8169', 'Realtek 8168, 8125', null, null, null, 'memory'),
  row('tg3', 'Broadcom Tigon3', null, null, null, 'memory'),
  row('st_gmac', 'Synopsys DesignWare MAC (stmmac)', '5.13', '5.13', 1500, 'ebpf-docs', {
    aliases: ['stmmac', 'stmmaceth', 'dwmac-intel', 'intel-eth-pci'],
  }),
  row('mvneta', 'Marvell Armada 370 to 38x', '5.5', null, 3520, 'ebpf-docs'),
  row('mvpp2', 'Marvell Armada 7K, 8K', '5.9', null, 3552, 'ebpf-docs'),
  row('nicvf', 'Cavium ThunderX', '4.12', null, 1508, 'bcc+ebpf-docs', { aliases: ['thunder-nicvf', 'thunderx'] }),
  row('rvu_nicpf', 'Marvell OcteonTX2', '5.16', null, 1508, 'ebpf-docs', {
    aliases: ['rvu_nicvf', 'rvu-nicpf', 'rvu-nicvf', 'octeontx2'],
  }),
  row('fsl_dpaa2_eth', 'NXP DPAA2', '5.0', '6.2', null, 'bcc+ebpf-docs', { aliases: ['dpaa2', 'dpaa2-eth'] }),
  row('fsl_dpa', 'NXP DPAA', '5.11', null, 3706, 'ebpf-docs', { aliases: ['fsl_dpaa_mac', 'dpaa_eth', 'fsl-dpaa'] }),
  row('fsl_enetc', 'NXP ENETC', '5.13', null, null, 'ebpf-docs', { aliases: ['fsl_enetc_vf', 'enetc'] }),
  row('fec', 'NXP Fast Ethernet Controller', '6.2', null, null, 'ebpf-docs'),
  row('cpsw', 'TI CPSW', '5.3', null, null, 'bcc+ebpf-docs', {
    aliases: ['cpsw_new', 'cpsw-switch', 'ti-cpsw', 'ti_cpsw_new'],
  }),
  row('am65-cpsw-nuss', 'TI K3 CPSW', '6.10', null, null, 'ebpf-docs'),
  row('netsec', 'Socionext NETSEC', '5.3', null, 1500, 'bcc+ebpf-docs'),
  row('mtk_soc_eth', 'MediaTek SoC', '6.0', null, 3520, 'ebpf-docs'),
  row('lan966x', 'Microchip LAN966x', '6.2', null, null, 'ebpf-docs', { aliases: ['lan966x-switch'] }),
  row('tsnep', 'Engleder TSN endpoint', '6.3', '6.4', null, 'ebpf-docs'),
  // Clouds and virtual machines
  row('ena', 'Amazon EC2', '5.6', null, 3498, 'ebpf-docs', { note: ENA_NOTE }),
  row('gve', 'Google Compute Engine', '6.4', '6.4', 2032, 'ebpf-docs', {
    note: 'zero-copy in the GQI-QPL queue format only at first',
  }),
  row('mana', 'Microsoft Azure', '5.17', null, 3506, 'ebpf-docs'),
  row('hv_netvsc', 'Hyper-V', '5.6', null, 3506, 'ebpf-docs', {
    note: 'with accelerated networking the packets come by the virtual function below it',
  }),
  row('virtio_net', 'KVM, Firecracker and other virtio', '4.10', '6.13', 3506, 'measured', { note: VIRTIO_NOTE }),
  row('vmxnet3', 'VMware', '6.6', null, 3494, 'ebpf-docs'),
  row('vif', 'Xen netfront', '5.9', null, 3840, 'ebpf-docs', { aliases: ['xen-netfront', 'xen_netfront', 'netfront'] }),
  // Software devices
  row('veth', 'virtual Ethernet pair', '4.19', null, 3506, 'measured', {
    note: '6.18 refused zero-copy and an MTU over 3506 with a program attached',
  }),
  row('tun', 'TUN/TAP', '4.14', null, 1500, 'bcc+ebpf-docs', {
    aliases: ['tap'],
    note: 'native XDP on TAP only; TUN has no Ethernet header',
  }),
  row('bonding', 'bond of several devices', '5.15', null, null, 'ebpf-docs', {
    aliases: ['bond'],
    note: "the bond's members must all have native XDP; bind AF_XDP sockets to the members, not to the bond",
  }),
  row('netdevsim', "kernel's test device", '4.16', null, null, 'ebpf-docs'),
  row('bridge', 'software bridge', null, null, null, 'memory', { note: 'attach to its ports instead' }),
  row('ifb', 'intermediate functional block', null, null, null, 'memory'),
  row('dummy', 'dummy device', null, null, null, 'memory'),
  row('macvlan', 'macvlan', null, null, null, 'memory', { note: 'attach to the lower device instead' }),
  row('802.1Q VLAN Support', 'VLAN device', null, null, null, 'memory', {
    aliases: ['vlan'],
    note: 'attach to the lower device instead: sluice parses the tags',
  }),
];

const byName = new Map(
  DRIVERS.flatMap((driver) => [driver.name, ...(driver.aliases ?? [])].map((name) => [name.toLowerCase(), driver])),
);

/** The row for a driver by any of its names, or undefined when the table does not know it. */
export function findDriver(name: string): Driver | undefined {
  return byName.get(name.toLowerCase());
}

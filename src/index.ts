/** sluice, the library. Everything exported here is public; nothing else is. */
export {
  attach,
  openPort,
  type Attachment,
  type AttachmentHandle,
  type AttachOptions,
  type OpenPortOptions,
  type PacketPort,
  type Policy,
  type PortTotals,
  type QueueInfo,
} from './library.js';
export { Packet } from './dataplane/packet/packet.js';
export { Verdict, FilterVerdict, PacketFlag, IpProtocol, TcpFlag, EtherType, DropReason } from './public_enums.js';
export { DROP_REASONS } from './dataplane/verdict.js';
export { defineFilter, type FilterContext, type FilterModule, type PacketFilter } from './dataplane/filter/contract.js';
export { parse } from './dataplane/packet/parse.js';
export {
  fold,
  ipv4HeaderChecksum,
  ipv4HeaderValid,
  repairChecksum,
  sumBytes,
  transportChecksum,
  updateChecksum,
} from './dataplane/packet/checksum.js';
export { turnAround } from './dataplane/packet/turn_around.js';
export { MemoryPool } from './dataplane/ports/memory_pool.js';
export { MemoryPort } from './dataplane/ports/memory.js';
export { PcapPort } from './dataplane/ports/pcap.js';
export type { Burst, Port } from './dataplane/port.js';
export { SluiceError, ExitCode, isKernelError, type KernelError, type SluiceErrorCode } from './errors.js';
export type { FrameCounts, XskStatistics } from './native.js';
export type { Address, Config, Prefix, XdpMode } from './shared/config.js';
export { parseAddress, parsePrefix } from './shared/addr.js';

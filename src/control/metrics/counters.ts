/** Metrics that are one counter of a worker or of a socket each: what they are called, what they mean, where they are read. */
import { Counter, PortCounter } from '../../shared/layout.js';

/** Totals of a worker that are one counter each: name, help, where. */
export const WORKER_COUNTERS: readonly [name: string, help: string, counter: Counter][] = [
  ['sluice_flow_hits_total', 'Packets whose flow was in the flow table.', Counter.flowHit],
  ['sluice_flow_misses_total', 'Packets whose flow was not in the flow table.', Counter.flowMiss],
  ['sluice_flow_inserts_total', 'Flows put into the flow table.', Counter.flowInsert],
  [
    'sluice_flow_bypasses_total',
    'New flows balanced but not remembered: above flows.max_new_per_second.',
    Counter.flowBypass,
  ],
  [
    'sluice_flow_evictions_total',
    'Live flows that gave way to new ones: their part of the table was full.',
    Counter.flowEvict,
  ],
  ['sluice_flow_expirations_total', 'Flows forgotten after their idle time.', Counter.flowExpire],
  ['sluice_flow_moves_total', 'Flows given to another backend, because theirs went away.', Counter.flowMoved],
  ['sluice_id_routed_packets_total', 'Packets that named their backend, and went there.', Counter.idRouted],
  [
    'sluice_id_unknown_packets_total',
    'Packets that named a backend which is not there: sent by flow table and ring.',
    Counter.idUnknown,
  ],
  ['sluice_source_routed_flows_total', 'New flows whose backend came from the source address.', Counter.sourceRouted],
  ['sluice_icmp_error_packets_total', 'ICMP errors that followed the flow they are about.', Counter.icmpErrors],
  ['sluice_icmp_echo_answers_total', 'Echo requests answered here.', Counter.echoAnswered],
  ['sluice_icmp_too_big_replies_total', 'Senders told that their packet was too big.', Counter.tooBigReplies],
  ['sluice_icmp_limited_total', 'ICMP messages not made: above icmp.max_per_second.', Counter.icmpLimited],
  ['sluice_mss_clamps_total', 'SYNs whose MSS was lowered.', Counter.mssClamped],
  ['sluice_fragments_followed_total', 'Later fragments that followed their first.', Counter.fragmentsFollowed],
  ['sluice_fragments_held_total', 'Fragments that came before their first and waited for it.', Counter.fragmentsHeld],
  ['sluice_decapsulated_packets_total', 'Packets whose outer header was taken off.', Counter.decapsulated],
  ['sluice_no_service_packets_total', 'Packets to no service.', Counter.noService],
  ['sluice_checksum_repairs_total', 'Packets whose transport checksum was completed.', Counter.checksumRepaired],
  ['sluice_bursts_total', 'Bursts that had at least one packet.', Counter.bursts],
  ['sluice_sleeps_total', 'Times the worker went to sleep for want of packets.', Counter.sleeps],
  ['sluice_sampled_packets_total', 'Packets in the bursts whose processing time was taken.', Counter.sampledPackets],
];

/** Counters of one socket: name, help, where. Labels: interface, queue. */
export const PORT_COUNTERS: readonly [name: string, help: string, counter: PortCounter][] = [
  ['sluice_rx_packets_total', 'Packets received by the AF_XDP socket.', PortCounter.rxPackets],
  ['sluice_rx_bytes_total', 'Bytes received by the AF_XDP socket.', PortCounter.rxBytes],
  ['sluice_tx_packets_total', 'Packets put on the TX ring.', PortCounter.txPackets],
  ['sluice_tx_bytes_total', 'Bytes put on the TX ring.', PortCounter.txBytes],
  [
    'sluice_tx_completions_total',
    'Packets that the driver took from the TX ring; not yet "delivered".',
    PortCounter.completions,
  ],
  ['sluice_tx_full_packets_total', 'Packets dropped because the TX ring was full.', PortCounter.txFull],
  ['sluice_tx_invalid_packets_total', 'Packets refused before the kernel saw them.', PortCounter.txInvalid],
  ['sluice_completion_bogus_total', 'Completions that named no frame in flight.', PortCounter.completionBogus],
  ['sluice_host_packets_total', 'Packets handed to the host through the TAP device.', PortCounter.passPackets],
  ['sluice_host_lost_packets_total', 'Passed packets that no TAP device took.', PortCounter.passLost],
  ['sluice_tx_wakeups_total', 'System calls made to start transmission.', PortCounter.wakeups],
  ['sluice_tx_errors_total', 'Sends that failed for the whole socket.', PortCounter.sendErrors],
  [
    'sluice_kernel_rx_dropped_total',
    'XDP_STATISTICS rx_dropped: lost by the kernel, an empty fill ring included.',
    PortCounter.kernelRxDropped,
  ],
  ['sluice_kernel_rx_invalid_total', 'XDP_STATISTICS rx_invalid_descs.', PortCounter.kernelRxInvalid],
  ['sluice_kernel_tx_invalid_total', 'XDP_STATISTICS tx_invalid_descs.', PortCounter.kernelTxInvalid],
  [
    'sluice_kernel_rx_ring_full_total',
    'XDP_STATISTICS rx_ring_full: lost because the worker was late.',
    PortCounter.kernelRxRingFull,
  ],
  [
    'sluice_kernel_fill_ring_empty_total',
    'XDP_STATISTICS rx_fill_ring_empty_descs: lost for want of frames.',
    PortCounter.kernelFillEmpty,
  ],
  ['sluice_kernel_tx_ring_empty_total', 'XDP_STATISTICS tx_ring_empty_descs.', PortCounter.kernelTxEmpty],
];

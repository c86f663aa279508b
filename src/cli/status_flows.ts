/** What `sluice status` says of flows in the kernel. */
import type { FlowOffloadStatus } from '../control/api/contract_flows.js';
import { count, plain, plural } from './output.js';

/** Lines of the page; none while it is off. */
export function flowOffloadLines(flows: FlowOffloadStatus | null): string[] {
  if (!flows || flows.mode === 'off') return [];
  if (flows.why !== '') return ['', `flows in the kernel: none, ${plain(flows.why)}`];
  return [
    '',
    'flows in the kernel',
    ...flows.interfaces.map(({ name, why, flows: present, installed, refused }) => {
      if (why !== '') return `  ${plain(name)}: none, ${plain(why)}`;
      const above = refused === 0 ? '' : `, ${plural(refused, 'offer')} above the rate`;
      return `  ${plain(name)}: ${count(present)}, ${count(installed)} put there${above}`;
    }),
  ];
}

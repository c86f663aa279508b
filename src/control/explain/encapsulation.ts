/** The way of a packet into what goes to its backend: how much room there was, and which addresses it got. */
import type { Balancer } from '../../dataplane/balance/forward.js';
import { Wrapper } from '../../dataplane/balance/wrapper.js';
import { mssOf } from '../../dataplane/packet/mss.js';
import type { EncapKind } from '../../shared/layout.js';
import { BackendField } from '../../shared/layout.js';
import type { ReplaySetup } from '../replay_path.js';
import type { Step } from './document.js';
import type { TableNames } from './names.js';

/** By EncapKind. */
const KINDS = ['ipip', 'gue, variant 1', 'gue, variant 0', 'l2'];

/** `packet`: as it was before. */
export function encapsulationStep(
  { config }: ReplaySetup,
  { snapshot }: Balancer,
  names: TableNames,
  backend: number,
  packet: { bytes: number; family: number },
): Step {
  const at = backend * BackendField.STRIDE;
  const service = snapshot.backends[at + BackendField.service];
  const overhead = new Wrapper(snapshot).overhead(backend, service);
  const mtu = snapshot.backends[at + BackendField.mtu];
  const kind = KINDS[snapshot.backends[at + BackendField.encap] as EncapKind];
  const fits = packet.bytes + overhead <= mtu;
  const mssClamp = config.services.find(({ name }) => name === names.service(service))?.mssClamp ?? 'off';
  const detail = { kind, bytes: packet.bytes, overhead, mtu, fits, mssClamp };
  const because = [
    `${packet.bytes} bytes and ${overhead} of outer headers ${fits ? 'fit' : 'do not fit'} into an MTU of ${mtu}`,
  ];
  if (mssClamp !== 'off') {
    because.push(`MSS of SYNs at most ${mssClamp === 'auto' ? mssOf(mtu - overhead, packet.family) : mssClamp}`);
  }
  return { stage: 'encapsulation', result: kind, because, detail };
}

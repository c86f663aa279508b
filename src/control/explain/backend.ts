/** A backend that was chosen, and the way to it. */
import type { Snapshot } from '../../dataplane/snapshot.js';
import { BackendField, BackendFlag } from '../../shared/layout.js';
import type { ReplaySetup } from '../replay_path.js';
import type { Step } from './document.js';
import type { TableNames } from './names.js';

export function backendStep(setup: ReplaySetup, { backends }: Snapshot, names: TableNames, backend: number): Step {
  const id = names.backendKey(backend);
  const planned = setup.plans.flatMap((plan) => plan.backends).find((one) => one.id === id);
  const at = backend * BackendField.STRIDE;
  const flags = backends[at + BackendField.flags];
  const reachable = (flags & BackendFlag.resolved) !== 0;
  const override = setup.overrides.get(id);
  const state = planned?.state ?? 'unknown';
  const detail = {
    address: names.backend(backend),
    state,
    weight: planned?.weight ?? null,
    reason: override?.reason ?? 'config',
    reachable,
    interface: reachable ? (setup.names[backends[at + BackendField.port]] ?? null) : null,
    mtu: backends[at + BackendField.mtu],
  };
  const because = [`${state}, weight ${detail.weight}${override === undefined ? '' : ` (${detail.reason})`}`];
  because.push(
    reachable ? `leaves by ${detail.interface}, MTU ${detail.mtu}` : 'its next hop is not known: no_next_hop',
  );
  return { stage: 'backend', result: detail.address, because, detail };
}

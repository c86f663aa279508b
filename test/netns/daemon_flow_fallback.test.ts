/** Where XDP cannot send, flows stay in user space, and everybody is told. */
import { expect, it } from 'vitest';
import { CLIENT, interfaceOf, NODE, pause, type Wire } from '../support/daemon.js';
import { FlowRig, inKernel } from '../support/flow_daemon.js';

const GENERIC = 'its XDP program is in generic mode';

/** Sends some, which all arrive by way of user space; returns what `sluice status` says of flows. */
async function sendsAll(rig: FlowRig): Promise<string> {
  const { wire, daemon } = rig;
  const sender = await wire.send({ packets: 2000, ratePerSecond: 2000, flows: 4 });
  expect(await sender.sent()).toBe(2000);
  await expect.poll(() => rig.received()).toBe(2000);
  const status = await daemon.until(({ totals }) => totals.rx === 2000, 'all are counted');
  expect([inKernel(status), status.totals.redirect, status.violations]).toEqual([0, 2000, []]);
  const { stdout } = daemon.cli('status');
  return stdout.slice(stdout.indexOf('flows in the kernel'));
}

it('an interface that was asked to be in generic mode', async () => {
  const interfaces = [{ name: 'in0', mode: 'generic', checksum: 'trust' }, { name: 'out0' }];
  const rig = await FlowRig.start({ parts: { interfaces } });
  expect(await sendsAll(rig)).toContain(`in0: none, ${GENERIC}`);
  expect((await rig.flowsOn()).why).toBe(GENERIC);
  expect(rig.daemon.logged('flows run in user space')).toContainEqual(
    expect.objectContaining({ interface: 'in0', why: GENERIC }),
  );
});

/** The node's end of the client's link is a macvlan on it, whose driver knows no XDP. */
function addMacvlan(wire: Wire): void {
  wire.node.ip(
    `address del ${NODE}/24 dev in0`,
    'link add link in0 name mv0 address 02:00:00:00:90:03 type macvlan mode bridge',
    'link set mv0 up',
    `address add ${NODE}/24 dev mv0`,
  );
  wire.client.ip(`neigh replace ${NODE} lladdr 02:00:00:00:90:03 dev eth0 nud permanent`);
  wire.node.ip(`neigh replace ${CLIENT} lladdr 02:00:00:00:90:01 dev mv0 nud permanent`);
}

it('an interface whose driver has no XDP', async () => {
  const interfaces = [{ name: 'mv0', checksum: 'trust' }, { name: 'out0' }];
  const rig = await FlowRig.start({ parts: { interfaces }, prepare: addMacvlan });
  expect(interfaceOf(await rig.daemon.status(), 'mv0').mode).toBe('generic');
  expect(await sendsAll(rig)).toContain(`mv0: none, ${GENERIC}`);
  expect((await rig.flowsOn('mv0')).why).toBe(GENERIC);
});

it('an interface to the backends in generic mode: flows that leave by it, and no others', async () => {
  const interfaces = [
    { name: 'in0', checksum: 'trust' },
    { name: 'out0', mode: 'generic', checksum: 'trust' },
  ];
  const rig = await FlowRig.start({ parts: { interfaces } });
  expect(await sendsAll(rig)).toContain(`out0: none, ${GENERIC}`);
  await pause(100);
  expect(await rig.flowsOn()).toMatchObject({ why: '', flows: 0, installed: 0 });
});

it('checksums that are completed, which is what the default means on veth', async () => {
  const rig = await FlowRig.start({ parts: { interfaces: [{ name: 'in0' }, { name: 'out0' }] } });
  expect(await sendsAll(rig)).toContain('in0: none, checksums are completed');
});

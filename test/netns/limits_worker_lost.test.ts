/** What a worker that is lost had counted for the limits on connections. */
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { Attacked, ECHO_PORT, HTTP_PORT, VIP4 } from '../support/attacked.js';

/** Its worker dies of a datagram that begins with an X. */
const MORTAL = `
export default {
  name: 'mortal',
  create: () => (packet) => {
    if (packet.protocol === 17 && packet.view.getUint8(packet.l4 + 8) === 0x58) process.exit(1);
    return -1;
  },
};`;

it('is taken back when its successor starts: no connection is counted for ever', async () => {
  const module = join(tmpdir(), `sluice-mortal-${process.pid}.mjs`);
  writeFileSync(module, MORTAL);
  onTestFinished(() => rmSync(module));
  const net = await Attacked.start({
    filters: ['sanity', { module }, 'rules'],
    mitigation: {
      // Nothing of what was there before is taken for a connection: each that is counted was opened with us.
      tcp_state: { mode: 'monitor', adopt: 'never', connections: 65536 },
      limits: [{ name: 'few', connections: 5 }],
    },
  });
  const client = net.run(`
    const open = async (count) => (await Promise.all(Array.from({ length: count }, () => connect('${VIP4}', ${HTTP_PORT}, 900)))).filter((socket) => socket !== null);
    const first = await open(9);
    say([first.length, (await open(3)).length]);
    await told();
    const second = await open(9);
    say([second.length, (await open(3)).length]);
    for (const socket of second.splice(0, 2)) socket.destroy();
    await later(100);
    say((await open(4)).length);`);
  expect(await client.next<number[]>()).toEqual([5, 0]);
  const before = await net.daemon.status();
  expect(before.mitigation.connections).toBe(5);

  // From so many ports that both workers get one.
  const killer = net.run(`
    for (let i = 0; i < 48; i++) {
      const socket = dgram.createSocket('udp4');
      await new Promise((resolve) => socket.send('XXXXXXXX', ${ECHO_PORT}, '${VIP4}', resolve));
      socket.close();
    }
    say('sent');`);
  await killer.next();
  await net.daemon.until(
    ({ workers, ready }) => ready && workers.every(({ restarts }) => restarts > 0),
    'both are new',
  );
  client.tell('go on');
  expect(await client.next<number[]>()).toEqual([5, 0]);
  expect(await client.next<number>()).toBe(2);
  const status = await net.daemon.status();
  expect(Object.keys(status.drops)).toEqual(['connection_limit']);
  expect(status.violations).toEqual([]);
});

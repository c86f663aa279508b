/**
 * Traffic on the loopback of a namespace, for verdicts of the kernel's own limits. Plan as JSON on stdin, results as JSON on stdout.
 *
 * {udp: [{at, src, sport, dst, dport, length}]}: datagrams at these times (ms), `length` with the IP header. Answers for each
 * {before, after, through}: the times around the call that sent it, and whether it arrived.
 *
 * {tcp: [{op: 'open', id, src, dst, dport} | {op: 'close', id, how: 'client' | 'server' | 'reset'}]}: one after the other. Answers for each
 * 'open' true when the connection came to be; a refused one gets a reset.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';

const plan = JSON.parse(readFileSync(0, 'utf8'));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const family = (address) => (address.includes(':') ? 6 : 4);
const clock = () => performance.now();

async function bound(type, port, address) {
  const socket = createSocket(type);
  await new Promise((resolve, reject) => socket.once('error', reject).bind(port, address, resolve));
  return socket;
}

async function udp(events) {
  const results = events.map(() => ({ before: 0, after: 0, through: false }));
  const sockets = new Map();
  const servers = new Map();
  for (const { src, sport, dst, dport } of events) {
    const key = `${src} ${sport} ${dst} ${dport}`;
    const ip = family(src);
    if (!servers.has(`${ip} ${dport}`)) {
      const server = await bound(`udp${ip}`, dport, ip === 4 ? '0.0.0.0' : '::');
      server.on('message', (message) => (results[message.readUInt32BE(0)].through = true));
      servers.set(`${ip} ${dport}`, server);
    }
    if (sockets.has(key)) continue;
    const socket = await bound({ type: `udp${ip}`, reuseAddr: true }, sport, src);
    await new Promise((resolve) => socket.connect(dport, dst, resolve));
    socket.on('error', () => {});
    sockets.set(key, socket);
  }
  const order = events.map((_, i) => i).sort((a, b) => events[a].at - events[b].at || a - b);
  const start = clock() + 20;
  for (const i of order) {
    const { at, src, sport, dst, dport, length } = events[i];
    const wait = start + at - clock();
    if (wait > 2) await sleep(wait - 2);
    while (clock() < start + at);
    const payload = Buffer.alloc(length - (family(src) === 4 ? 28 : 48));
    payload.writeUInt32BE(i, 0);
    // Connected, so it is sent before the call returns.
    results[i].before = clock() - start;
    sockets.get(`${src} ${sport} ${dst} ${dport}`).send(payload);
    results[i].after = clock() - start;
  }
  await sleep(100);
  return results;
}

async function tcp(steps) {
  const servers = new Map();
  const accepted = new Map();
  const clients = new Map();
  const results = [];
  for (const step of steps) {
    // Beyond two ticks the kernel looks again at what it counted.
    await sleep(25);
    if (step.op === 'close') {
      const client = clients.get(step.id);
      const server = accepted.get(client.localPort);
      const gone = Promise.all(
        [client, server].map((socket) => new Promise((resolve) => socket.once('close', resolve))),
      );
      if (step.how === 'reset') client.resetAndDestroy();
      else if (step.how === 'client') client.end();
      else server.end();
      await gone;
      continue;
    }
    const { id, src, dst, dport } = step;
    const name = `${family(src)} ${dport}`;
    if (!servers.has(name)) {
      const server = createServer((socket) => {
        socket.on('error', () => {});
        socket.resume();
        accepted.set(socket.remotePort, socket);
      });
      await new Promise((resolve) =>
        server.listen({ port: dport, host: family(src) === 4 ? '0.0.0.0' : '::' }, resolve),
      );
      servers.set(name, server);
    }
    const client = connect({ host: dst, port: dport, localAddress: src });
    const open = await new Promise((resolve) =>
      client.once('connect', () => resolve(true)).once('error', () => resolve(false)),
    );
    client.on('error', () => {});
    results.push(open);
    if (!open) continue;
    client.resume();
    clients.set(id, client);
    while (!accepted.has(client.localPort)) await sleep(1);
  }
  return results;
}

process.stdout.write(JSON.stringify(plan.udp === undefined ? await tcp(plan.tcp) : await udp(plan.udp)), () =>
  process.exit(0),
);

/**
 * What honest clients do, of every kind that a flood may resemble: connections, requests over UDP from usual ports and from 123, DNS queries, datagrams that
 * come in fragments, pings. Kernels at both ends, answers past the balancer. Every request that the client made is accounted for.
 */
import { ECHO_PORT, VIP4, VIP6, type Attacked } from './attacked.js';
import type { Program } from './library.js';

export const DNS_PORT = 53;
const ANSWER_BYTES = 400;

/** Requests and answers by kind. */
export interface GoodTraffic {
  kinds: Record<string, { sent: number; answered: number }>;
  /** From SYN to connection, the slowest, ms. */
  slowestMs: number;
}

/** Questions, and their answers with what was asked behind the backend's name. */
const CLIENT = `
import { spawn } from 'node:child_process';
const kinds = {};
let slowestMs = 0;
let stop = false;
/** One request after another until the end; each says whether it was answered. */
const repeat = async (kind, pauseMs, request) => {
  const count = (kinds[kind] = { sent: 0, answered: 0 });
  while (!stop) {
    count.sent++;
    if (await request(count.sent)) count.answered++;
    await later(pauseMs);
  }
};
const tcp = (host) => async (number) => {
  const begin = performance.now();
  const socket = await connect(host, ${ECHO_PORT});
  if (socket === null) return false;
  slowestMs = Math.max(slowestMs, performance.now() - begin);
  const answer = await echo(socket, 'line ' + number).catch(() => '');
  const closed = new Promise((resolve) => socket.once('close', resolve));
  socket.end();
  await closed;
  return answer === 'b1 line ' + number + '\\n';
};
/** Another socket, so another flow, for every eight requests, unless they are all to come from one port. */
const udp = (port, message, from = 0) => {
  let socket = null;
  return async (number) => {
    if (socket === null || (from === 0 && number % 8 === 0)) {
      socket?.close();
      socket = dgram.createSocket('udp4');
      await new Promise((resolve) => socket.bind(from, resolve));
    }
    const asked = message(number);
    const wanted = asked.subarray(0, ${ANSWER_BYTES});
    const answered = new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), 3000);
      socket.once('message', (text) => { clearTimeout(timer); resolve(text.subarray(text.length - wanted.length).equals(wanted)); });
    });
    socket.send(asked, port, '${VIP4}');
    return answered;
  };
};
const text = (bytes) => (number) => Buffer.from('ask ' + number + ' '.repeat(bytes));
const query = (number) => {
  const head = Buffer.from([number >> 8, number & 255, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
  const labels = ['www', 'example', 'net'].map((label) => Buffer.concat([Buffer.from([label.length]), Buffer.from(label)]));
  return Buffer.concat([head, ...labels, Buffer.from([0, 0, 1, 0, 1])]);
};
/** One at a time: of several, ping waits for the last no longer than two round trips. */
const ping = () => new Promise((resolve) => {
  spawn('ping', ['-q', '-c', '1', '-W', '3', '${VIP4}'], { stdio: 'ignore' }).on('close', (code) => resolve(code === 0));
});
const all = [
  repeat('tcp', 8, tcp('${VIP4}')),
  repeat('tcp6', 8, tcp('${VIP6}')),
  repeat('udp', 5, udp(${ECHO_PORT}, text(20))),
  repeat('port 123', 5, udp(${ECHO_PORT}, text(20), 123)),
  repeat('dns', 5, udp(${DNS_PORT}, query)),
  repeat('fragments', 20, udp(${DNS_PORT}, text(3000))),
  repeat('ping', 40, ping),
];
say('begun');
await told();
stop = true;
await Promise.all(all);
say({ kinds, slowestMs });`;

/** A server on the port of DNS: it sends back the beginning of what it was asked, short enough for the client's link, which takes less than the backend's. */
const DNS_SERVER = `
const socket = dgram.createSocket('udp4');
socket.on('message', (message, from) => socket.send(message.subarray(0, ${ANSWER_BYTES}), from.port, from.address));
socket.bind(${DNS_PORT}, '${VIP4}', () => say('listening'));
await told();`;

export async function startDnsServer(net: Attacked): Promise<void> {
  await net.run(DNS_SERVER, net.backend.namespace).next();
}

/** Begins; `stop` waits for the answers that are on their way. */
export async function startGoodTraffic(net: Attacked): Promise<{ stop: () => Promise<GoodTraffic> }> {
  const client: Program = net.run(CLIENT);
  await client.next();
  return {
    stop: () => {
      client.tell('stop');
      return client.next<GoodTraffic>();
    },
  };
}

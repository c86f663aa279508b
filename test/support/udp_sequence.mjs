/**
 * Numbered UDP datagrams, for tests that claim "none lost, none reordered". Two programs in one file, run in namespaces of
 * a playground: `send` sends them, `receive` checks them. Options as JSON in argv; messages as JSON lines on stdout, requests
 * on stdin (src/playground/child.ts).
 *
 * A datagram is two 32-bit numbers, flow and sequence, and padding. A flow is a socket, so its datagrams have one five-tuple.
 */
import { createSocket } from 'node:dgram';
import { readFileSync } from 'node:fs';
import { childOptions, emit, serve } from '../../dist/playground/child.js';
import { Decapsulator } from '../../dist/control/agent/decapsulator.js';

/** Handed over before the event loop runs again: fits the 256 frames that a veth queues. */
const BURST = 32;
/** Datagrams that may be ahead of the rate after a pause of this process. */
const DEPTH = 96;

const options = childOptions();
if (options.role === 'send') await send();
else await receive();

async function send() {
  const flows = [];
  for (let i = 0; i < options.flows; i++) flows.push({ socket: await connected(), next: 0 });
  const begin = performance.now();
  let sent = 0;
  let underWay = 0;
  let turn = 0;
  let due = 0;
  let last = begin;
  /** Pairs of ms since the beginning and datagrams. */
  const times = [];
  let stopping = false;
  serve((request) => {
    if (request.op === 'stop') stopping = true;
  });
  emit({ type: 'ready' });

  const one = (flow) => {
    const datagram = Buffer.alloc(options.bytes ?? 32);
    datagram.writeUInt32BE(flows.indexOf(flow), 0);
    datagram.writeUInt32BE(flow.next, 4);
    flow.next++;
    underWay++;
    flow.socket.send(datagram, (error) => {
      underWay--;
      if (error) emit({ type: 'refused', code: error.code });
      else sent++;
    });
  };
  const step = () => {
    const now = performance.now();
    due = Math.min(due + ((now - last) * options.ratePerSecond) / 1000, DEPTH);
    last = now;
    const left = options.packets === 0 ? Infinity : options.packets - sent - underWay;
    const count = stopping ? 0 : Math.min(Math.floor(due), BURST, left);
    for (let i = 0; i < count; i++) one(flows[turn++ % flows.length]);
    if (count > 0) times.push(now - begin, count);
    due -= count;
    if ((stopping || left <= 0) && underWay === 0) {
      emit({ type: 'result', sent, ...(options.times && { times }) });
      setTimeout(() => process.exit(0), 20);
    } else {
      setTimeout(step, 1);
    }
  };
  step();
}

function connected() {
  const socket = createSocket({ type: options.address.includes(':') ? 'udp6' : 'udp4', sendBufferSize: 1 << 20 });
  if (options.source) socket.bind(0, options.source);
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.connect(options.port, options.address, () => {
      socket.off('error', reject);
      socket.on('error', () => undefined);
      resolve(socket);
    });
  });
}

/** What the kernel counted in this namespace: datagrams that a socket got, and those for which it had no room. */
function kernelCounts() {
  const [names, values] = readFileSync('/proc/net/snmp', 'utf8')
    .split('\n')
    .filter((line) => line.startsWith('Udp:'))
    .map((line) => line.split(/\s+/).slice(1));
  const count = (name) => Number(values[names.indexOf(name)]);
  return { delivered: count('InDatagrams'), noRoom: count('RcvbufErrors'), badChecksum: count('InCsumErrors') };
}

async function receive() {
  const decapsulator = options.decap ? new Decapsulator(options.decap) : null;
  /** Next sequence number that each flow is to have. */
  const expected = new Map();
  let received = 0;
  let reordered = 0;
  let gaps = 0;
  const socket = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 });
  socket.on('message', (datagram) => {
    received++;
    const flow = datagram.readUInt32BE(0);
    const sequence = datagram.readUInt32BE(4);
    const next = expected.get(flow) ?? 0;
    // A duplicate is one that comes again, later than it should.
    if (sequence < next) reordered++;
    else {
      gaps += sequence - next;
      expected.set(flow, sequence + 1);
    }
  });
  await new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.bind(options.port, options.address, resolve);
  });
  serve((request) => {
    if (request.op !== 'stats') return;
    emit({ type: 'stats', received, reordered, gaps, ...kernelCounts(), decap: decapsulator?.stats() ?? null });
  });
  emit({ type: 'ready' });
}

/**
 * Sends TCP headers, UDP datagrams or ICMP echo requests as frames until it gets a line, then prints how many. Prints "flooding" first. Argument, as JSON:
 * interface, mac (of the receiver), dst, family, protocol (6, 17, 1), flags, port, perSecond, spoofed (sources from 100.64.0.0/10 and 2001:db8:f::/48, else src),
 * sport (0: random), payload (hexadecimal, of UDP and ICMP), letters ([offset, bytes]: that part of the payload is random letters), fragment (flags and
 * offset of the IPv4 header, with a random identification).
 */
import { createInterface } from 'node:readline';
import { native } from '../../dist/native.js';

const o = JSON.parse(process.argv[2]);
const v6 = o.family === 6;
const [tcp, udp, icmp] = [6, 17, 1].map((protocol) => o.protocol === protocol);
const payload = tcp ? new Uint8Array(0) : Buffer.from(o.payload ?? '00'.repeat(20), 'hex');
const l3 = 14;
const l4 = l3 + (v6 ? 40 : 20);
const headerBytes = tcp ? 20 : 8;
const length = headerBytes + payload.length;
const frame = new Uint8Array(l4 + length);
const view = new DataView(frame.buffer);
const macOf = (text) => text.split(':').map((part) => parseInt(part, 16));

function bytesOf(text) {
  if (!text.includes(':')) return text.split('.').map(Number);
  const [head, tail = ''] = text.split('::');
  const words = (part) => (part === '' ? [] : part.split(':').map((word) => parseInt(word, 16)));
  const [a, b] = [words(head), words(tail)];
  return [...a, ...Array(8 - a.length - b.length).fill(0), ...b].flatMap((word) => [word >> 8, word & 255]);
}

frame.set([...macOf(o.mac), ...macOf(o.from)]);
view.setUint16(12, v6 ? 0x86dd : 0x0800);
if (v6) {
  frame.set([0x60, 0, 0, 0, length >> 8, length & 255, o.protocol, 64, ...bytesOf(o.src), ...bytesOf(o.dst)], l3);
} else {
  frame.set([0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, o.protocol, 0, 0, ...bytesOf(o.src), ...bytesOf(o.dst)], l3);
  view.setUint16(l3 + 2, 20 + length);
  if (o.fragment !== undefined) view.setUint16(l3 + 6, o.fragment);
}
if (tcp)
  frame.set([0, 0, o.port >> 8, o.port & 255, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, o.flags, 0xff, 0xff, 0, 0, 0, 0], l4);
else if (udp) frame.set([0, 0, o.port >> 8, o.port & 255, length >> 8, length & 255, 0, 0], l4);
else frame.set([8, 0, 0, 0, 0, 0, 0, 0], l4);
frame.set(payload, l4 + headerBytes);
const checksumAt = l4 + (tcp ? 16 : udp ? 6 : 2);

function sum(from, to, start) {
  let total = start;
  for (let i = from; i < to - 1; i += 2) total += view.getUint16(i);
  return (to - from) % 2 === 0 ? total : total + (view.getUint8(to - 1) << 8);
}
function folded(total) {
  while (total > 65535) total = (total & 65535) + (total >>> 16);
  return ~total & 65535;
}
const random = () => (Math.random() * 0x100000000) >>> 0;

const socket = new (native().PacketSocket)({ interface: o.interface });
let stopped = false;
createInterface({ input: process.stdin }).once('line', () => (stopped = true));
const begin = performance.now();
let sent = 0;

/** What is different in each packet. */
function vary() {
  if (o.spoofed && v6) {
    view.setUint32(l3 + 8, 0x20010db8);
    view.setUint32(l3 + 12, 0x000f0000 | (random() & 0xffff));
    view.setUint32(l3 + 16, random());
  } else if (o.spoofed) {
    view.setUint32(l3 + 12, 0x64400000 | (random() & 0x3fffff));
  }
  if (o.fragment !== undefined) view.setUint16(l3 + 4, random());
  if (!icmp) view.setUint16(l4, o.sport || 1024 + (random() % 64000));
  if (tcp) {
    view.setUint32(l4 + 4, random());
    view.setUint32(l4 + 8, o.flags & 16 ? random() : 0);
  }
  const [at, count] = o.letters ?? [0, 0];
  for (let i = 0; i < count; i++) frame[l4 + headerBytes + at + i] = 97 + (random() % 26);
  const pseudo = icmp ? 0 : sum(v6 ? l3 + 8 : l3 + 12, l4, o.protocol + length);
  view.setUint16(checksumAt, 0);
  view.setUint16(checksumAt, folded(sum(l4, l4 + length, pseudo)));
  if (v6) return;
  view.setUint16(l3 + 10, 0);
  view.setUint16(l3 + 10, folded(sum(l3, l4, 0)));
}

console.log(JSON.stringify('flooding'));
while (!stopped) {
  const due = Math.min(256, ((performance.now() - begin) / 1000) * o.perSecond - sent);
  for (let i = 0; i < due; i++) {
    vary();
    try {
      socket.send(frame);
      sent++;
    } catch (error) {
      if (error.code !== 'ENOBUFS') throw error;
      break;
    }
  }
  await new Promise((resolve) => setTimeout(resolve, 1));
}
console.log(JSON.stringify(sent));
process.exit(0);

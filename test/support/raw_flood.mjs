/**
 * Sends TCP headers or UDP datagrams as frames until it gets a line, then prints how many. Prints "flooding" first. Argument, as JSON: interface, mac (of the
 * receiver), dst, family, protocol, flags, port, perSecond, spoofed (sources from 100.64.0.0/10 and 2001:db8:f::/48, else src), sport (0: random).
 */
import { createInterface } from 'node:readline';
import { native } from '../../dist/native.js';

const o = JSON.parse(process.argv[2]);
const v6 = o.family === 6;
const tcp = o.protocol === 6;
const l3 = 14;
const l4 = l3 + (v6 ? 40 : 20);
const length = tcp ? 20 : 28;
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
if (v6) frame.set([0x60, 0, 0, 0, 0, length, o.protocol, 64, ...bytesOf(o.src), ...bytesOf(o.dst)], l3);
else
  frame.set([0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, o.protocol, 0, 0, ...bytesOf(o.src), ...bytesOf(o.dst)], l3);
if (tcp)
  frame.set([0, 0, o.port >> 8, o.port & 255, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, o.flags, 0xff, 0xff, 0, 0, 0, 0], l4);
else frame.set([0, 0, o.port >> 8, o.port & 255, 0, length, 0, 0], l4);
const checksumAt = l4 + (tcp ? 16 : 6);

function sum(from, to, start) {
  let total = start;
  for (let i = from; i < to; i += 2) total += view.getUint16(i);
  return total;
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
console.log(JSON.stringify('flooding'));
while (!stopped) {
  const due = Math.min(256, ((performance.now() - begin) / 1000) * o.perSecond - sent);
  for (let i = 0; i < due; i++) {
    if (o.spoofed && v6) {
      view.setUint32(l3 + 8, 0x20010db8);
      view.setUint32(l3 + 12, 0x000f0000 | (random() & 0xffff));
      view.setUint32(l3 + 16, random());
    } else if (o.spoofed) {
      view.setUint32(l3 + 12, 0x64400000 | (random() & 0x3fffff));
    }
    view.setUint16(l4, o.sport || 1024 + (random() % 64000));
    if (tcp) {
      view.setUint32(l4 + 4, random());
      view.setUint32(l4 + 8, o.flags & 16 ? random() : 0);
    }
    view.setUint16(checksumAt, 0);
    view.setUint16(checksumAt, folded(sum(l4, l4 + length, sum(v6 ? l3 + 8 : l3 + 12, l4, o.protocol + length))));
    if (!v6) {
      view.setUint16(l3 + 10, 0);
      view.setUint16(l3 + 10, folded(sum(l3, l4, 0)));
    }
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

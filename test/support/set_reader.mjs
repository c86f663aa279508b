/**
 * A worker thread that looks addresses up without pause while the writer changes the set. workerData: {dist, buffers, control, always, never, family, port}:
 * `always` must be found every time, `never` never; addresses of four words each. control: [stop, look-ups, wrong, heartbeat, adopted version]. New buffers
 * come as messages, which are taken between rounds, as a data-plane worker does between bursts.
 */
import { receiveMessageOnPort, parentPort, workerData } from 'node:worker_threads';

const { SetView } = await import(`${workerData.dist}/shared/sets/index.js`);
const { always, never, family, port, control } = workerData;
let view = new SetView(workerData.buffers);
Atomics.store(control, 4, workerData.buffers.version);

const find =
  family === 4
    ? (words, at) => view.lookup4(words[at], port, 1)
    : (words, at) => view.lookup6(words[at], words[at + 1], words[at + 2], words[at + 3], port, 1);

function round() {
  let wrong = 0;
  for (let at = 0; at < always.length; at += 4) if (!(find(always, at) > 0)) wrong++;
  for (let at = 0; at < never.length; at += 4) if (find(never, at) > 0) wrong++;
  return wrong;
}

while (Atomics.load(control, 0) === 0) {
  const message = receiveMessageOnPort(parentPort);
  if (message !== undefined) {
    view = new SetView(message.message);
    Atomics.store(control, 4, message.message.version);
  }
  const wrong = round();
  if (wrong > 0) Atomics.add(control, 2, wrong);
  Atomics.add(control, 1, (always.length + never.length) / 4);
  Atomics.add(control, 3, 1);
}
parentPort.close();

/**
 * One thread for each queue of an interface. The main thread attaches, and only counts; each worker opens its queue by the
 * handle that it was given and drops what comes.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { fileURLToPath } from 'node:url';
import { attach, openPort, Verdict, type AttachmentHandle, type PortTotals } from 'sluice';

if (isMainThread) {
  const nic = await attach({ interface: process.argv[2] ?? 'veth0', hostPath: false });
  const workers = nic.queues.map((queue) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: { nic: nic.handle, queue } });
    worker.on('message', (totals: PortTotals | 'ready') => console.log(`queue ${queue}:`, totals));
    worker.on('exit', () => {
      workers.splice(workers.indexOf(worker), 1);
      if (workers.length === 0) nic.close();
    });
    return worker;
  });
  process.once('SIGINT', () => workers.forEach((worker) => worker.postMessage('stop')));
} else {
  const { nic, queue } = workerData as { nic: AttachmentHandle; queue: number };
  const port = await openPort({ interface: nic, queues: [queue] });
  parentPort!.postMessage('ready');
  const stop = new AbortController();
  parentPort!.once('message', () => stop.abort());
  await port.run(() => Verdict.Drop, stop);
  port.close();
  parentPort!.postMessage(port.totals());
}

/** Real worker threads on one limit: limit_thread.mjs, on the compiled data plane. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';

const here = fileURLToPath(new URL('.', import.meta.url));

/** Runs a job of limit_thread.mjs in `workers` threads, in step, and gives what each of them counted. */
export async function runThreads(job: string, workers: number, options: Record<string, unknown>): Promise<number[]> {
  const barrier = new SharedArrayBuffer(8);
  const threads = Array.from(
    { length: workers },
    (_, worker) =>
      new Worker(join(here, 'limit_thread.mjs'), {
        workerData: { dist: join(here, '../../dist'), job, worker, workers, barrier, ...options },
      }),
  );
  try {
    return await Promise.all(
      threads.map(
        (thread) =>
          new Promise<number>((resolve, reject) => {
            thread.once('message', resolve).once('error', reject);
          }),
      ),
    );
  } finally {
    await Promise.all(threads.map((thread) => thread.terminate()));
  }
}

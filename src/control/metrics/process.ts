/**
 * The process's own metrics, under prom-client's names. Not its `collectDefaultMetrics`: that keeps a timer of 10 ms
 * running for the event loop's delay, and an idle daemon is to cost nothing. Everything here is read when it is asked for.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { Counter, Gauge, Registry } from 'prom-client';

/** A registry with the process's metrics. Other parts may register theirs in it. */
export function processRegistry(): Registry {
  const registry = new Registry();
  const registers = [registry];
  counter('process_cpu_user_seconds_total', 'User CPU time, in seconds.', () => process.cpuUsage().user / 1e6);
  counter('process_cpu_system_seconds_total', 'System CPU time, in seconds.', () => process.cpuUsage().system / 1e6);
  counter('process_cpu_seconds_total', 'User and system CPU time, in seconds.', () => {
    const { user, system } = process.cpuUsage();
    return (user + system) / 1e6;
  });
  const startSeconds = Math.round(performance.timeOrigin / 1000);
  gauge('process_start_time_seconds', 'Unix time of the process’s start, in seconds.', () => startSeconds);
  gauge('process_resident_memory_bytes', 'Resident memory, in bytes.', () => process.memoryUsage.rss());
  gauge('process_virtual_memory_bytes', 'Virtual memory, in bytes.', () => procStatus('VmSize'));
  gauge('process_pinned_memory_bytes', 'Memory pinned for devices, in bytes: the UMEMs.', () => procStatus('VmPin'));
  gauge('process_open_fds', 'Open file descriptors.', () => readdirSync('/proc/self/fd').length - 1);
  gauge('process_max_fds', 'Most file descriptors that may be open.', maxFds);
  gauge(
    'nodejs_heap_size_used_bytes',
    'Heap of the main thread in use, in bytes.',
    () => process.memoryUsage().heapUsed,
  );
  gauge('nodejs_heap_size_total_bytes', 'Heap of the main thread, in bytes.', () => process.memoryUsage().heapTotal);
  gauge('nodejs_external_memory_bytes', 'Memory outside the heap, in bytes.', () => process.memoryUsage().external);
  counter(
    'nodejs_eventloop_active_seconds_total',
    'Time that the main thread’s event loop was busy, in seconds.',
    () => {
      return performance.eventLoopUtilization().active / 1000;
    },
  );
  const version = new Gauge({ name: 'nodejs_version_info', help: 'Always 1.', labelNames: ['version'], registers });
  version.set({ version: process.version }, 1);
  return registry;

  function gauge(name: string, help: string, read: () => number): void {
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read());
      },
    });
  }

  function counter(name: string, help: string, read: () => number): void {
    let last = 0;
    new Counter({
      name,
      help,
      registers,
      collect() {
        const now = read();
        if (now > last) {
          this.inc(now - last);
          last = now;
        }
      },
    });
  }
}

/** A field of /proc/self/status in bytes; 0 where the kernel does not have it. */
function procStatus(field: string): number {
  const match = new RegExp(`^${field}:\\s+(\\d+) kB$`, 'm').exec(readFileSync('/proc/self/status', 'utf8'));
  return match === null ? 0 : Number(match[1]) * 1024;
}

function maxFds(): number {
  const match = /^Max open files\s+(\d+|unlimited)/m.exec(readFileSync('/proc/self/limits', 'utf8'));
  return match === null || match[1] === 'unlimited' ? Infinity : Number(match[1]);
}

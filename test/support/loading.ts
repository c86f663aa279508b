/** Loading BPF objects with few capabilities. */
import { spawnSync } from 'node:child_process';

/** Loads an object in a process that has CAP_BPF and CAP_NET_ADMIN and nothing else. Returns the names of its programs, and what the process said when it could not. */
export function loadWithoutPerfmon(object: string): { programs: string; error: string } {
  const script = `
    const { native, bpfObjectPath } = await import(${JSON.stringify(new URL('../../dist/native.js', import.meta.url).href)});
    const object = new (native().BpfObject)(bpfObjectPath(${JSON.stringify(object)}));
    object.load();
    console.log(object.programs().join());`;
  const held = '-all,+net_admin,+bpf';
  const { stdout, stderr } = spawnSync(
    'setpriv',
    ['--bounding-set', held, '--inh-caps', held, process.execPath, '--input-type=module', '-e', script],
    { encoding: 'utf8' },
  );
  return { programs: stdout.trim(), error: stderr };
}

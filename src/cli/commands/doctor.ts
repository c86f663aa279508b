/** `sluice doctor`: what this machine and its interfaces can do for AF_XDP, and the command that mends what is wrong. */
import { Command, InvalidArgumentError } from 'commander';
import { runDoctor } from '../../control/doctor/doctor.js';
import { render } from '../../control/doctor/render.js';
import { realSystem, type DoctorSystem } from '../../control/doctor/system.js';
import { ExitCode } from '../../errors.js';
import { processEnv, type Env } from '../env.js';

interface Options {
  json?: boolean;
  frames: number;
  frameSize: number;
}

const EXAMPLES = `
Examples:
  sluice doctor                    the machine and all interfaces but lo
  sluice doctor eth0               eth0 only; that it is down is then bad, not just a warning
  sluice doctor eth0 --json        for scripts: { kernel, findings: [{ level, subject, check, text, fix }], counts }
  ip netns exec edge sluice doctor the interfaces of another network namespace

Exit code: 0, or 69 when there is a finding of level bad. Nothing is changed. Without root it says what it could not see.
`;

function positive(text: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value <= 0) throw new InvalidArgumentError('It takes a whole number above 0.');
  return value;
}

/** The command. `env` and `system` are for tests; by default it looks at the machine that it runs on. */
export function doctorCommand(env: Env = processEnv(), system: () => DoctorSystem = realSystem): Command {
  return new Command('doctor')
    .description('check kernel, permissions, drivers, offloads and MTU, and say how to mend what is wrong')
    .argument('[interfaces...]', 'interfaces to look at (default: all but lo)')
    .option('--json', 'print the findings as JSON')
    .option('--frames <count>', 'frames a worker, as frames.count in the configuration', positive, 8192)
    .option('--frame-size <bytes>', 'bytes a frame, as frames.size in the configuration', positive, 2048)
    .addHelpText('after', EXAMPLES)
    .action((interfaces: string[], options: Options) => {
      const report = runDoctor(system(), { interfaces, frameCount: options.frames, frameSize: options.frameSize });
      const text = options.json
        ? `${JSON.stringify(report, null, 2)}\n`
        : render(report, { colour: env.isTTY && env.getenv('NO_COLOR') === undefined, columns: env.columns() });
      env.stdout.write(text);
      if (report.counts.bad > 0) process.exitCode = ExitCode.device;
    });
}

import { Command } from 'commander';
import { callControl } from '../../control/api/client.js';
import { formatProblem } from '../../control/config/index.js';
import { SluiceError } from '../../errors.js';
import { controlSocket, processEnv } from '../env.js';
import type { Env } from '../env.js';
import { plain, plural, print, printJson } from '../output.js';

/** A reload reads the file, resolves next hops and waits until every worker has adopted the tables. */
const RELOAD_TIMEOUT_MS = 60_000;

/** `sluice reload`: have the running daemon read its config again. */
export function reloadCommand(env: Env = processEnv()): Command {
  return new Command('reload')
    .description('Have the running sluice apply its config file again: all of it, or nothing when it has problems')
    .option('--socket <path>', 'control socket (default: $SLUICE_SOCKET or /run/sluice/control.sock)')
    .option('--json', 'print the result as JSON')
    .addHelpText(
      'after',
      `
Exit codes: 0 applied, 78 the config has problems and the former one goes on

Examples:
  sluice reload
  sluice check /etc/sluice/sluice.yaml && sluice reload
  sluice reload --json | jq .changes`,
    )
    .action(async (options: { socket?: string; json?: boolean }) => {
      const path = controlSocket(env, options.socket);
      const result = await callControl(path, 'reload', {}, RELOAD_TIMEOUT_MS);
      if (options.json) printJson(env, result);
      if (!result.applied) {
        if (!options.json)
          for (const problem of result.problems) env.stderr.write(`${lines(formatProblem(problem))}\n`);
        throw new SluiceError(
          'SLUICE_CONFIG',
          `not reloaded: ${plural(result.problems.length, 'problem')}`,
          `Generation ${result.generation} goes on as before.`,
        );
      }
      if (options.json) return;
      const changes = result.changes.length === 0 ? 'nothing changed' : plural(result.changes.length, 'change');
      print(
        env,
        `reloaded, generation ${result.generation}: ${changes}`,
        ...result.changes.map((line) => `  ${plain(line)}`),
      );
    });
}

/** A remedy stands on a line of its own; nothing else may break one. */
function lines(text: string): string {
  return text.split('\n').map(plain).join('\n');
}

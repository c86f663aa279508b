import { Command } from 'commander';
import { ExitCode, SluiceError } from '../../errors.js';
import { Playground } from '../../playground/netns.js';
import { sweepStale } from '../../playground/owner.js';
import { startLiveTable } from '../../playground/live_table.js';
import { SCENES } from '../../playground/scenes/index.js';
import { playScene, Report, type SceneResult, type Stage } from '../../playground/scenes/scene.js';
import { Screen } from '../../playground/screen.js';
import { buildStage } from '../../playground/stage.js';
import { byHand, opening } from '../../playground/words.js';
import type { Env } from '../env.js';

interface DemoOptions {
  keep: boolean;
  clean: boolean;
  json: boolean;
  only?: number[];
}

/** `sluice demo`: a small internet in network namespaces, and what sluice does in it, on real traffic. */
export function demoCommand(env: Env): Command {
  return new Command('demo')
    .description(
      'Build a small internet in network namespaces and show on real traffic what sluice does; about a minute',
    )
    .option('--keep', 'leave it up and say how to play with it by hand', false)
    .option('--clean', 'remove what --keep (or a killed demo) left up, and do nothing else', false)
    .option('--json', 'print the facts as JSON, and nothing else', false)
    .option('--only <scenes>', `play these scenes only, of 1-${SCENES.length}; for example 1,4`, sceneNumbers)
    .addHelpText(
      'after',
      `
Needs root. Touches no interface of this machine: everything is in network namespaces of its own, which are gone at the end, also
after Ctrl-C. Exit codes: 0 all went as it should, 1 the scene that failed is named, 77 not root.

Scenes:
${SCENES.map((scene, i) => `  ${i + 1}  ${scene.title}`).join('\n')}

Examples:
  sluice demo
  sluice demo --keep --only 1     the first scene, then the playground is yours
  sluice demo --clean`,
    )
    .action((options: DemoOptions) => demo(env, options));
}

function sceneNumbers(text: string): number[] {
  const numbers = text.split(',').map(Number);
  if (numbers.every((number) => Number.isInteger(number) && number >= 1 && number <= SCENES.length)) return numbers;
  throw new SluiceError('SLUICE_USAGE', `there is no such scene in "${text}"`, `Scenes are 1 to ${SCENES.length}.`);
}

async function demo(env: Env, options: DemoOptions): Promise<void> {
  const quiet = options.json;
  const screen = new Screen(env.stdout, env.isTTY && !quiet, () => env.columns());
  const say = (text: string) => {
    // After Ctrl-C scenes fail because their programs are gone: no news.
    if (!quiet && !env.signal.aborted) screen.print(text);
  };
  requireRoot();
  if (options.clean) {
    const removed = sweepStale({ kept: true });
    say(removed.length > 0 ? `removed: ${removed.join(', ')}` : 'nothing to remove');
    return;
  }
  for (const tag of sweepStale()) say(`removed what the killed run ${tag} left behind`);
  const playground = new Playground();
  const show = perform(env, options, playground, screen, say);
  try {
    const failed = await Promise.race([show, interrupted(env.signal)]);
    if (failed) process.exitCode = ExitCode.failure;
  } catch (error) {
    if (!(error instanceof Interrupted)) throw error;
    screen.setFooter([]);
    screen.print('interrupted; cleaning up');
    // What the show still waits for ends with its processes and is of no interest any more.
    show.catch(() => undefined);
    await playground.close(1000);
    process.exit(env.signal.reason === 'SIGTERM' ? 143 : 130);
  } finally {
    await playground.close();
  }
  // Programs that were left up still hold pipes to this process.
  if (options.keep) process.exit();
}

class Interrupted extends Error {}

function interrupted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(new Interrupted());
    signal.addEventListener('abort', () => reject(new Interrupted()), { once: true });
  });
}

function requireRoot(): void {
  if (process.geteuid?.() === 0) return;
  throw new SluiceError(
    'SLUICE_PERMISSION',
    'the demo makes network namespaces and loads BPF programs, which only root may do',
    'Run it as root: sudo npm run demo',
  );
}

/** Everything between set-up and clean-up. Resolves to whether a scene failed. */
async function perform(
  env: Env,
  options: DemoOptions,
  playground: Playground,
  screen: Screen,
  say: (text: string) => void,
): Promise<boolean> {
  const begin = env.nowMs();
  say(opening());
  const stage = await buildStage(playground, { independent: options.keep });
  say(`Everything is up after ${seconds(env.nowMs() - begin)}.`);
  const stopTable = startLiveTable(screen, () => stage.shown);
  const results = await playAll(stage, options.only, say).finally(stopTable);
  const failed = results.filter((result) => !result.ok);
  const took = env.nowMs() - begin;

  if (options.json) {
    const document = { ok: failed.length === 0, seconds: Number((took / 1000).toFixed(1)), scenes: results };
    env.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
  }
  say('');
  for (const { title, failures } of failed) say(`FAILED: ${title}: ${failures[0]}`);
  if (failed.length === 0) say(`All of it held. ${seconds(took)}.`);
  if (options.keep) {
    playground.keep();
    say(byHand(stage));
  }
  return failed.length > 0;
}

async function playAll(stage: Stage, only: number[] | undefined, say: (text: string) => void): Promise<SceneResult[]> {
  const results: SceneResult[] = [];
  for (const [i, scene] of SCENES.entries()) {
    if (only && !only.includes(i + 1)) continue;
    say(`\n${i + 1}/${SCENES.length}  ${scene.title}`);
    for (const line of scene.story.split('\n')) say(`     ${line}`.trimEnd());
    const result = await playScene(scene, stage, new Report((line) => say(`   ${line}`)));
    results.push(result);
    // What comes after a scene that failed would fail for the same reason, or mislead.
    if (!result.ok) break;
  }
  return results;
}

function seconds(ms: number): string {
  return `${(ms / 1000).toFixed(1)} s`;
}

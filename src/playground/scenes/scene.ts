/** What a scene of the demo is: one claim about sluice, shown on real traffic, with the numbers that prove it. */
import type { Backend } from '../backends.js';
import type { Daemon } from '../daemon.js';
import type { PlaygroundBackend } from '../daemon_config.js';
import type { Shown } from '../live_table.js';
import type { Topology } from '../topology.js';

/** The stage: the little internet with everything running in it. */
export interface Stage {
  topology: Topology;
  daemon: Daemon;
  backends: Backend[];
  /** What the configuration says of the backends now; scenes that change it write it back. */
  configured: PlaygroundBackend[];
  /** Whose state the live table shows. */
  shown: readonly Shown[];
  /** Programs started from here on go on when this process ends. */
  independent: boolean;
}

export interface SceneResult {
  title: string;
  /** What happened, in words, in order. */
  lines: string[];
  /** The numbers, for programs. */
  facts: Record<string, unknown>;
  /** What was claimed and did not hold; empty when all is well. */
  failures: string[];
  ok: boolean;
}

export interface Scene {
  title: string;
  /** What it is about, for somebody who has never heard of it. */
  story: string;
  play(stage: Stage, report: Report): Promise<void>;
}

/** Collects what a scene has to say. `onLine` hears each line at once. */
export class Report {
  readonly lines: string[] = [];
  readonly facts: Record<string, unknown> = {};
  readonly failures: string[] = [];

  constructor(private readonly onLine: (line: string) => void = () => undefined) {}

  /** Something worth telling that is neither right nor wrong. */
  tell(text: string): void {
    this.add(`  ${text}`);
  }

  /** A claim. */
  check(holds: boolean, text: string): void {
    if (!holds) this.failures.push(text);
    this.add(`${holds ? '✓' : '✗'} ${text}`);
  }

  private add(line: string): void {
    this.lines.push(line);
    this.onLine(line);
  }
}

/** Plays one scene. An exception is a failure of that scene, told in its own words. */
export async function playScene(scene: Scene, stage: Stage, report: Report): Promise<SceneResult> {
  try {
    await scene.play(stage, report);
  } catch (error) {
    report.check(false, error instanceof Error ? error.message : String(error));
  }
  const { lines, facts, failures } = report;
  return { title: scene.title, lines, facts, failures, ok: failures.length === 0 };
}

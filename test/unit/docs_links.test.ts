/**
 * What the documents name must exist: links and their anchors, files, npm scripts, commands of the CLI with their options, metrics;
 * configurations marked "yaml config" must be right. So that a document that went stale fails, not its reader.
 */
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { backendAgentCommand } from '../../src/cli/commands/backend_agent.js';
import { backendCommand } from '../../src/cli/commands/backend.js';
import { captureCommand } from '../../src/cli/commands/capture.js';
import { checkCommand } from '../../src/cli/commands/check.js';
import { convertCommand } from '../../src/cli/commands/convert.js';
import { demoCommand } from '../../src/cli/commands/demo.js';
import { doctorCommand } from '../../src/cli/commands/doctor.js';
import { explainCommand } from '../../src/cli/commands/explain.js';
import { benchCommand } from '../../src/cli/commands/bench.js';
import { genCommand } from '../../src/cli/commands/gen.js';
import { matchCommand } from '../../src/cli/commands/match.js';
import { reloadCommand } from '../../src/cli/commands/reload.js';
import { replayCommand } from '../../src/cli/commands/replay.js';
import { rulesCommand } from '../../src/cli/commands/rules.js';
import { runCommand } from '../../src/cli/commands/run.js';
import { setCommand } from '../../src/cli/commands/set.js';
import { statusCommand } from '../../src/cli/commands/status.js';
import { processEnv } from '../../src/cli/env.js';
import { parseConfig } from '../../src/control/config/index.js';
import { DROP_REASONS } from '../../src/dataplane/verdict.js';
import { MAX_BACKENDS, MAX_HOPS, MAX_PORTS, MAX_SERVICES } from '../../src/shared/layout.js';

const root = join(dirname(fileURLToPath(import.meta.url)), '../..');
const NOT_OURS = new Set(['node_modules', 'dist', 'dist-bench', 'build', 'coverage', '.git']);

/** Paths of all files below a directory, relative to the root. */
function filesUnder(directory = root): string[] {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name);
    if (entry.isDirectory()) return NOT_OURS.has(entry.name) ? [] : filesUnder(path);
    return [relative(root, path)];
  });
}

const files = filesUnder();
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Block {
  /** What stands behind the opening fence: "yaml config". */
  info: string;
  text: string;
}

class Page {
  readonly blocks: Block[] = [];
  /** The text without fenced blocks. */
  readonly prose: string;
  /** `inline code` in it. */
  readonly code: readonly string[];

  constructor(readonly path: string) {
    this.prose = read(path).replace(/^( *)```(.*)\n([\s\S]*?)^\1``` *$/gm, (_, _indent, info: string, text: string) => {
      this.blocks.push({ info: info.trim(), text });
      return '';
    });
    this.code = [...this.prose.matchAll(/`([^`\n]+)`/g)].map((match) => match[1]);
  }

  /** Lines that a reader could type: inline code, and blocks but for configurations and programs. */
  get lines(): string[] {
    const shell = this.blocks.filter(({ info }) => /^(|sh|bash|console)$/.test(info));
    return [...this.code, ...shell.flatMap(({ text }) => text.split('\n'))].map((line) => line.trim());
  }

  /** Anchors of its headings, as GitHub makes them. */
  get anchors(): Set<string> {
    const headings = [...this.prose.matchAll(/^#+ +(.+)$/gm)].map((match) =>
      match[1].replace(/\[(.*?)\]\(.*?\)/g, '$1'),
    );
    return new Set(
      headings.map((text) =>
        text
          .toLowerCase()
          .replace(/[^\p{L}\p{N}\s_-]/gu, '')
          .replace(/ /g, '-'),
      ),
    );
  }
}

const pages = files.filter((path) => path.endsWith('.md')).map((path) => new Page(path));
const each = pages.map((page) => [page.path, page] as const);

const commands = new Map<string, Command>(
  [
    runCommand,
    setCommand,
    captureCommand,
    checkCommand,
    convertCommand,
    demoCommand,
    doctorCommand,
    explainCommand,
    statusCommand,
    reloadCommand,
    backendAgentCommand,
    backendCommand,
    replayCommand,
    genCommand,
    benchCommand,
    matchCommand,
    rulesCommand,
  ].map((make) => {
    const command = make(processEnv());
    return [command.name(), command];
  }),
);

/** Arguments of each call of sluice in a line: "sluice check FILE && sluice reload" has two. */
function calls(line: string): string[][] {
  const text = line.replace(/\s#.*$/, '').replace(/npm run demo --(?= )/g, 'sluice demo');
  return text
    .split(/&&|\|\||[|;]/)
    .map((part) => /(?:^|[\s(])(?:sluice|node dist\/cli\/main\.js) +(.+)$/.exec(part.replace(/^[$>#\s]+/, ''))?.[1])
    .filter((rest) => rest !== undefined)
    .map((rest) => rest.replace(/[[\]]/g, '').trim().split(/\s+/));
}

/** What is wrong with a call, '' when nothing is. */
function complaint([name, ...rest]: string[]): string {
  if (name === undefined || /^-(h|V|-help|-version)$/.test(name)) return '';
  let command = commands.get(name);
  if (!command) return `there is no command "${name}"`;
  if (command.commands.length > 0 && rest.length > 0 && !rest[0].startsWith('-')) {
    // "activate|deactivate" stands for either.
    const wanted = rest[0].split('|');
    const unknown = wanted.find((sub) => !command?.commands.some((known) => known.name() === sub));
    if (unknown !== undefined) return `"${name}" has no command "${unknown}"`;
    command = command.commands.find((known) => known.name() === wanted[0])!;
  }
  for (const option of rest.filter((word) => /^--?[a-z]/.test(word) && word !== '--help')) {
    const flag = option.split('=')[0];
    if (!command.options.some((known) => known.long === flag || known.short === flag)) {
      return `"${command.name()}" has no option ${flag}`;
    }
  }
  return '';
}

const callsIn = (page: Page): string[][] => page.lines.flatMap(calls);

describe('the documents', () => {
  it('are all here', () => {
    const names = pages.map((page) => page.path);
    expect(names).toEqual(expect.arrayContaining(['README.md', 'ARCHITECTURE.md', 'docs/README.md']));
    // The index has every page of docs/.
    const index = read('docs/README.md');
    for (const name of names.filter((path) => /^docs\/(?!README)/.test(path))) {
      expect(index, `docs/README.md has ${name}`).toContain(`](${name.slice(5)})`);
    }
  });

  it.each(each)('%s: links lead somewhere', (path, page) => {
    for (const [, target] of page.prose.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, anchor] = target.split('#');
      const linked = file === '' ? path : join(dirname(path), file);
      expect(existsSync(join(root, linked)), `${target} is there`).toBe(true);
      if (anchor !== undefined) expect([...new Page(linked).anchors], `anchors of ${linked}`).toContain(anchor);
    }
  });

  it.each(each)('%s: files named in it exist', (_, page) => {
    for (const code of page.code) {
      // What is built, and names that stand for a reader's own file, are not in the tree.
      if (!/^(?:src|bpf|native|test|docs|examples|bench)\/[\w./*{},-]*$/.test(code)) continue;
      const pattern = new RegExp(
        `^${code
          .replace(/[.]/g, '\\.')
          .replace(/\*+/g, '[^/]*')
          .replace(/\{([^}]*)\}/g, (_, list: string) => `(?:${list.replace(/,/g, '|')})`)}`,
      );
      const whole = files.some(
        (file) => pattern.exec(file)?.[0] === file || (existsSync(join(root, code)) && file.startsWith(code)),
      );
      expect(whole, `${code} is there`).toBe(true);
    }
  });

  it.each(each)('%s: commands and options named in it exist', (_, page) => {
    for (const call of callsIn(page)) expect(complaint(call), `sluice ${call.join(' ')}`).toBe('');
  });

  it.each(each)('%s: npm scripts named in it exist', (_, page) => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const line of page.lines) {
      for (const [, name] of line.matchAll(/\bnpm run (?:--silent )?([\w:-]+)/g))
        expect(Object.keys(scripts)).toContain(name);
    }
  });

  it.each(each)('%s: metrics named in it exist', (_, page) => {
    const known = files
      .filter((file) => /^(src|bpf)\//.test(file))
      .map(read)
      .join('\n');
    for (const code of page.code) {
      const name = /^(sluice_[a-z_]+)(?:\{.*\}.*)?$/.exec(code)?.[1];
      if (name !== undefined) expect(known, name).toMatch(new RegExp(`['"\`]?\\b${name}\\b`));
    }
  });

  it.each(each)('%s: its configurations are right', (_, page) => {
    for (const { text } of page.blocks.filter(({ info }) => info === 'yaml config')) {
      expect(parseConfig(text).warnings).toEqual([]);
    }
  });
});

describe('README.md', () => {
  const readme = new Page('README.md');

  it('prints examples/readme.ts as it is', () => {
    expect(readme.blocks.filter(({ info }) => info === 'ts').map(({ text }) => text)).toEqual([
      read('examples/readme.ts'),
    ]);
  });

  it('has a configuration', () => {
    expect(readme.blocks.filter(({ info }) => info === 'yaml config')).toHaveLength(1);
  });
});

describe('docs/troubleshooting.md', () => {
  const page = new Page('docs/troubleshooting.md');

  it.each(DROP_REASONS.slice(1))('says what to do about drops as %s', (reason) => {
    // Malformed packets and sanity checks are one row a family: `ipv4_…` stands for all that begin like this.
    const inFamily = DROP_REASONS.indexOf(reason) < DROP_REASONS.indexOf('rule') || reason.startsWith('sanity_');
    const rows = inFamily ? [`${reason.split('_')[0]}_…`] : [];
    expect(page.code.some((code) => code === reason || rows.includes(code))).toBe(true);
  });
});

describe('docs/load-balancing.md', () => {
  it('has the limits that hold', () => {
    const text = read('docs/load-balancing.md');
    const row = (what: string): string => new RegExp(`^\\| ${what} \\| (.*) \\|$`, 'm').exec(text)![1];
    expect(row('services')).toContain(MAX_SERVICES.toLocaleString('en'));
    expect(row('backends')).toContain(MAX_BACKENDS.toLocaleString('en'));
    expect(row('`hops`')).toBe(String(MAX_HOPS));
    expect(row('interfaces')).toMatch(new RegExp(`^${MAX_PORTS};`));
  });
});

describe('what this test looks at', () => {
  it('is there to be looked at', () => {
    const all = pages.flatMap(callsIn);
    expect(all.length).toBeGreaterThan(40);
    expect([...commands.keys()].filter((name) => !all.some(([called]) => called === name))).toEqual([]);
  });

  it('finds what is wrong', () => {
    expect(calls('sluice check a.yaml && sluice reload --json')).toEqual([
      ['check', 'a.yaml'],
      ['reload', '--json'],
    ]);
    expect(calls('npm run demo -- --keep')).toEqual([['demo', '--keep']]);
    expect(calls('$ ip netns exec x sluice doctor eth0   # looks')).toEqual([['doctor', 'eth0']]);
    expect(complaint(['stauts'])).toMatch(/no command/);
    expect(complaint(['status', '--wach'])).toMatch(/no option --wach/);
    expect(complaint(['backend', 'drian', 'web'])).toMatch(/no command "drian"/);
    expect(complaint(['backend', 'activate|deactivate', 'web', '--json'])).toBe('');
    expect(complaint(['replay', 'x.pcap', '-c', 'sluice.yaml', '--outputs', 'drop'])).toBe('');
  });
});

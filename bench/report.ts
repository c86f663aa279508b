/** What a bench reports: results with all that is needed to know what they are worth. Kept as JSON in results/. */
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../src/native.js';
import type { Bench, EffortName } from './bench.js';
import { benchNamed, BENCHES } from './benches.js';
import { drawChart } from './chart/svg.js';
import { noiseWarning, type Machine, type Noise } from './machine.js';
import { duration } from './progress.js';
import { markdownTable } from './statistics.js';

export interface Report {
  bench: string;
  machine: Machine;
  effort: EffortName;
  /** What else the machine did while the bench ran. */
  noise: Noise;
  /** How long it took. Not in reports from before it was kept. */
  seconds?: number;
  /** As the bench of that name returned them. */
  results: unknown;
}

export const RESULTS = join(packageRoot, 'bench/results');

/** The machine in three lines. */
export function machineLines(machine: Machine): string[] {
  const hypervisor = machine.hypervisor === 'none' ? 'no hypervisor' : machine.hypervisor || 'unknown hypervisor';
  return [
    `${machine.cpu}, ${machine.cpus} CPUs, ${hypervisor}, Linux ${machine.kernel}, huge pages: ${machine.hugepages || 'none'}`,
    `Node ${machine.node} (V8 ${machine.v8}), ${machine.compiler || 'no g++'}; ${machine.pinned ? 'pinned to CPU 1' : 'not pinned'}`,
    `commit ${machine.commit || 'unknown'}${machine.modified ? ' with changes' : ''}, ${machine.date}`,
  ];
}

export function noiseLines(noise: Noise): string[] {
  const { loadBefore, loadAfter, others, stolen } = noise;
  const line =
    `load ${loadBefore.toFixed(2)} before, ${loadAfter.toFixed(2)} after; other programs took ${others.toFixed(2)} CPUs, ` +
    `the hypervisor ${stolen.toFixed(2)}`;
  return [line, noiseWarning(noise)].filter((text) => text !== '');
}

/** Writes results/NAME.json. Charts and the page are made from it by `render`. */
export function saveReport(report: Report, directory = RESULTS): void {
  mkdirSync(directory, { recursive: true });
  writeFileSync(join(directory, `${report.bench}.json`), `${JSON.stringify(report, null, 1)}\n`);
}

/** Reports in results/, in the order in which benches run. @throws Error for a file that is none */
export function readReports(directory = RESULTS): Report[] {
  return BENCHES.map(({ name }) => join(directory, `${name}.json`))
    .filter((path) => existsSync(path))
    .map((path) => {
      const report = JSON.parse(readFileSync(path, 'utf8')) as Report;
      if (report.results === undefined || report.machine === undefined) throw new Error(`${path} is no report`);
      return report;
    });
}

/** Machine, versions and date in two lines, for the foot of a chart. */
function footer({ machine, effort }: Report): string[] {
  const { cpu, cpus, hypervisor, kernel, node, commit, modified, date } = machine;
  const where = `${cpu}, ${cpus} CPUs${hypervisor && hypervisor !== 'none' ? ` (${hypervisor})` : ''}, Linux ${kernel}, Node ${node}`;
  const quick = effort === 'full' ? '' : `, ${effort} run`;
  return [
    `${where}. ${date.slice(0, 10)}, commit ${commit}${modified ? ' with changes' : ''}${quick}.`,
    'Bars are medians of rounds taken in turn, whiskers the smallest and the largest.',
  ];
}

/** Names and texts of a report's charts. */
export function drawCharts(report: Report): Map<string, string> {
  const bench = benchNamed(report.bench);
  const charts = bench.charts?.(report.results) ?? [];
  return new Map(
    charts.map((chart) => [
      `${bench.name}${chart.key === '' ? '' : `-${chart.key}`}.svg`,
      drawChart(chart, footer(report)),
    ]),
  );
}

/** Draws all charts of the reports in a directory and writes its README.md; charts of benches that are not there any more go. Returns the names of its files. */
export function render(directory = RESULTS): string[] {
  const reports = readReports(directory);
  const drawn = new Map(reports.flatMap((report) => [...drawCharts(report)]));
  for (const file of readdirSync(directory))
    if (file.endsWith('.svg') && !drawn.has(file)) rmSync(join(directory, file));
  for (const [file, text] of drawn) writeFileSync(join(directory, file), text);
  writeFileSync(join(directory, 'README.md'), page(reports));
  return [...drawn.keys(), 'README.md'];
}

/** The reports as a page of Markdown. */
export function page(reports: readonly Report[]): string {
  const parts = reports.map((report) => {
    const bench: Bench = benchNamed(report.bench);
    const images = [...drawCharts(report).keys()].map((file) => `![${bench.name}: ${bench.about}](${file})`);
    const again = `npm run bench -- ${bench.name}${report.effort === 'full' ? '' : ` --${report.effort}`} --save`;
    return [
      `## ${bench.name}`,
      bench.about,
      ...images,
      ...bench.tables(report.results).map(markdownTable),
      [
        ...machineLines(report.machine),
        ...noiseLines(report.noise),
        `\`${again}\`${report.seconds === undefined ? '' : `, ${duration(report.seconds)}`}; every trial: [${bench.name}.json](${bench.name}.json)`,
      ].join('  \n'),
    ].join('\n\n');
  });
  const head =
    '# Last results\n\nWritten by `npm run bench -- --save` and `--render`: do not edit. What is measured, and how to read it: [the benches](../README.md).';
  return `${[head, ...parts].join('\n\n')}\n`;
}

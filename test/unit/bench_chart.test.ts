/** Charts of the benches: well-formed, bars as long as they should be, labels where there is room for them. All numbers here are made up. */
import { mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { Chart } from '../../bench/chart/chart.js';
import { BAR, layOut, MARGIN, SIZES, WIDTH, type Layout } from '../../bench/chart/layout.js';
import { linearScale, logScale, tickLabel } from '../../bench/chart/scale.js';
import { drawChart } from '../../bench/chart/svg.js';
import { escapeXml, textWidth, wrap } from '../../bench/chart/text.js';
import { dropChart } from '../../bench/drop/show.js';
import { LATENCY_CASES, type LoadLevel, type Protocol } from '../../bench/latency/cases.js';
import { latencyCharts } from '../../bench/latency/chart.js';
import type { LatencyResult } from '../../bench/latency/run.js';
import { pathBench } from '../../bench/path/bench.js';
import { known } from '../../bench/path/cases.js';
import { ppsCases } from '../../bench/pps/cases.js';
import { summaries } from '../../bench/pps/run.js';
import { ppsChart } from '../../bench/pps/show.js';
import { drawCharts, page, readReports, render, saveReport, type Report } from '../../bench/report.js';

const exact = (median: number) => ({ median, min: median, max: median });
const CHART: Chart = {
  key: '',
  title: 'Speed',
  subtitle: 'more is better',
  axis: 'Mpps',
  digits: 2,
  series: [
    { name: 'C', tone: 'reference' },
    { name: 'ours', tone: 'ours' },
  ],
  groups: [
    { label: 'lb', bars: [{ series: 0, value: exact(2) }, { series: 1, value: { median: 1, min: 0.5, max: 1.5 }, note: '0.50 of C' }] }, // prettier-ignore
    { label: 'drop', bars: [{ series: 1, value: exact(4) }] },
  ],
};
const LONG = 'a name that is much longer than anybody would want to read beside a bar of a chart, with averyveryverylongwordwithoutanyspacesatallinsideofit'; // prettier-ignore

/** Names of elements in the order of their ends. Throws where a tag is open or an entity unknown, as an XML parser does. */
function elements(xml: string): string[] {
  const open: string[] = [];
  const closed: string[] = [];
  const rest = xml.replace(/<(\/?)([a-z]+)((?:\s+[\w:-]+="[^"<]*")*)\s*(\/?)>/g, (_, end, name: string, __, empty) => {
    if (end) {
      if (open.pop() !== name) throw new Error(`</${name}> ends nothing`);
      closed.push(name);
    } else if (empty) closed.push(name);
    else open.push(name);
    return '';
  });
  if (open.length > 0) throw new Error(`not closed: ${open.join(', ')}`);
  if (/[<]|&(?!(amp|lt|gt|quot);)/.test(rest)) throw new Error(`a bare character in: ${rest.trim()}`);
  return closed;
}

/** What text covers, as far as its width can be told. */
function boxes(layout: Layout): { x1: number; x2: number; y1: number; y2: number; text: string }[] {
  const box = (x: number, y: number, width: number, size: number, text: string) => ({ x1: x, x2: x + width, y1: y - size * 0.8, y2: y + size * 0.2, text }); // prettier-ignore
  return [
    ...layout.title.map(({ x, y, text }) => box(x, y, textWidth(text, SIZES.title, true), SIZES.title, text)),
    ...[...layout.subtitle, ...layout.legend].map(({ x, y, text }) =>
      box(x, y, textWidth(text, SIZES.text), SIZES.text, text),
    ),
    ...layout.groups.flatMap(({ labels, bars }) => [
      ...labels.map(({ x, y, text }) => {
        const width = textWidth(text, SIZES.text, true);
        return box(x - width, y, width, SIZES.text, text);
      }),
      ...bars.map(({ label: { x, y, text } }) => box(x, y, textWidth(text, SIZES.text), SIZES.text, text)),
      ...bars.map((bar) => ({ x1: layout.plot.left, x2: bar.high, y1: bar.y, y2: bar.y + BAR, text: 'a bar' })),
    ]),
    ...layout.marks.map(({ label: { x, y, text } }) => {
      const width = textWidth(text, SIZES.small);
      return box(x - width / 2, y, width, SIZES.small, text);
    }),
    ...layout.footer.map(({ x, y, text }) => box(x, y, textWidth(text, SIZES.small), SIZES.small, text)),
  ];
}

function overlaps(layout: Layout): string[] {
  const all = boxes(layout);
  return all.flatMap((a, i) =>
    all
      .slice(i + 1)
      .filter((b) => a.x1 < b.x2 && b.x1 < a.x2 && a.y1 < b.y2 && b.y1 < a.y2)
      .map((b) => `${a.text} / ${b.text}`),
  );
}

describe('a drawn chart', () => {
  it('is well-formed, and has every label as text', () => {
    const svg = drawChart(CHART, ['a machine']);
    const names = elements(svg);
    expect(names.at(-1)).toBe('svg');
    // Background, two keys, three bars.
    expect(names.filter((name) => name === 'rect').length).toBe(6);
    for (const text of ['Speed', 'more is better', 'Mpps', 'lb', 'drop', 'C', 'ours', 'a machine', '2.00', '4.00'])
      expect(svg).toContain(`>${text}</text>`);
    expect(svg).toMatch(/>1\.00<tspan class="muted" dx="6">\(0\.50 of C\)<\/tspan><\/text>/);
  });

  it('escapes what is markup, and drops what XML does not have', () => {
    const svg = drawChart({ ...CHART, title: 'a < b & "c" \u0001> d' }, ['<script>alert(1)</script>']);
    elements(svg);
    expect(svg).toContain('>a &lt; b &amp; &quot;c&quot; &gt; d</text>');
    expect(svg).not.toContain('<script');
    expect(escapeXml('\u0000ok')).toBe('ok');
    expect(() => elements('<a>&nbsp;</a>')).toThrow('bare');
    expect(() => elements('<a><b></a>')).toThrow('ends nothing');
  });

  it('can be read on a light and on a dark page', () => {
    const svg = drawChart(CHART, []);
    expect(svg).toContain('@media (prefers-color-scheme:dark)');
    expect(svg.match(/\.bg\{fill:(#\w+)/g)).toEqual(['.bg{fill:#ffffff', '.bg{fill:#0f141a']);
    for (const tone of ['.limit', '.reference', '.reference2', '.ours', '.ours2', '.other', '.other2'])
      expect(svg.split(`${tone}{fill:`).length).toBe(3);
  });

  it('is the same each time', () => {
    expect(drawChart(CHART, ['x'])).toBe(drawChart(CHART, ['x']));
  });
});

describe('the layout', () => {
  it('has bars as long as their values, and whiskers from the smallest to the largest', () => {
    const { groups, plot } = layOut(CHART, []);
    const [two, one, four] = groups.flatMap(({ bars }) => bars);
    const length = (bar: typeof two): number => bar.end - plot.left;
    expect(length(two) / length(one)).toBeCloseTo(2, 6);
    expect(length(four) / length(one)).toBeCloseTo(4, 6);
    expect((one.high - plot.left) / length(one)).toBeCloseTo(1.5, 6);
    expect((one.low - plot.left) / length(one)).toBeCloseTo(0.5, 6);
    expect(length(four)).toBeGreaterThan(WIDTH / 3);
  });

  it('has equal factors at equal lengths where it is logarithmic', () => {
    const groups = [1, 10, 100].map((value) => ({ label: `${value}`, bars: [{ series: 0, value: exact(value * 3) }] }));
    const { groups: placed, plot } = layOut({ ...CHART, scale: 'log', groups }, []);
    const [a, b, c] = placed.map(({ bars }) => bars[0].end - plot.left);
    expect(b - a).toBeCloseTo(c - b, 6);
  });

  const crowded: Chart = {
    ...CHART,
    title: LONG,
    subtitle: LONG,
    series: Array.from({ length: 7 }, (_, i) => ({ name: `${LONG.slice(0, 40)} ${i}`, tone: 'other' })),
    groups: Array.from({ length: 5 }, (_, i) => ({
      label: `${LONG} ${i}`,
      bars: Array.from({ length: i + 1 }, (__, series) => ({ series, value: { median: 5, min: 1, max: 9 + i }, note: 'longer than it is wide' })), // prettier-ignore
    })),
    marks: [1, 1.1, 1.25].map((at) => ({ at, label: `mark at ${at}` })),
  };

  it.each([
    ['two groups', CHART],
    ['long names, many series, marks close together', crowded],
    ['nothing', { ...CHART, groups: [] }],
    ['a group without bars', { ...CHART, groups: [{ label: LONG, bars: [] }] }],
    ['one series', { ...CHART, series: CHART.series.slice(1), groups: [{ label: 'lb', bars: [{ series: 0, value: exact(3) }] }] }], // prettier-ignore
    ['values of 0', { ...CHART, scale: 'log', groups: [{ label: 'lb', bars: [{ series: 0, value: exact(0) }] }] }],
  ] as [string, Chart][])('has no text over another, nor outside: %s', (_, chart) => {
    const layout = layOut(chart, [LONG, 'a second line']);
    expect(overlaps(layout)).toEqual([]);
    for (const { x1, x2, y1, y2, text } of boxes(layout)) {
      expect(x1, text).toBeGreaterThanOrEqual(0);
      expect(x2, text).toBeLessThanOrEqual(WIDTH);
      expect(y1, text).toBeGreaterThanOrEqual(MARGIN / 2);
      expect(y2, text).toBeLessThanOrEqual(layout.height);
    }
    elements(drawChart(chart, [LONG]));
  });

  it('sees labels that overlap', () => {
    const layout = layOut(CHART, []);
    layout.groups[0].bars[1].label.y = layout.groups[0].bars[0].label.y;
    expect(overlaps(layout).length).toBeGreaterThan(0);
  });

  it('has no legend where there is nothing to tell apart', () => {
    expect(layOut({ ...CHART, groups: CHART.groups.slice(1) }, []).legend).toEqual([]);
    expect(layOut(CHART, []).legend.map(({ text }) => text)).toEqual(['C', 'ours']);
  });
});

describe('scales and texts', () => {
  it.each([
    [20.3, 25, [0, 5, 10, 15, 20, 25]],
    [0.3, 0.3, [0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3]],
    [0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]],
    [6000, 6000, [0, 1000, 2000, 3000, 4000, 5000, 6000]],
  ])('goes from 0 to beyond %d in round steps', (largest, max, ticks) => {
    const scale = linearScale(largest);
    expect([scale.max, scale.ticks]).toEqual([max, ticks]);
    expect(scale.at(max)).toBe(1);
    expect(scale.at(-1)).toBe(0);
  });

  it('goes from power to power of ten', () => {
    expect(logScale(3, 450).ticks).toEqual([1, 10, 100, 1000]);
    expect(logScale(10, 10).ticks).toEqual([10, 100]);
    expect([1000, 0.05, 12].map(tickLabel)).toEqual(['1,000', '0.05', '12']);
  });

  it('breaks lines between words, and words that are too long', () => {
    expect(wrap('one two three', textWidth('one two', 13) + 1, 13)).toEqual(['one two', 'three']);
    const lines = wrap(LONG, 200, 13);
    for (const line of lines) expect(textWidth(line, 13)).toBeLessThanOrEqual(200);
    expect(lines.join('').replaceAll(' ', '')).toBe(LONG.replaceAll(' ', ''));
  });
});

describe('charts of benches', () => {
  it('of pps: a group a mode, without those that sleep, and ratios to C', () => {
    const cases = ppsCases(new Set(['rxdrop', 'lb']), false);
    const trials = cases.map(({ by }) => [1, 2, 3].map((n) => ({ offered: 1e7, done: n * (by === 'c' ? 1e6 : 9e5), paced: null }))); // prettier-ignore
    const chart = ppsChart(summaries(cases, trials));
    expect(chart.groups.map(({ label, bars }) => [label, bars.map(({ series }) => series)])).toEqual([
      ['rxdrop: receive and drop', [0, 1, 2]],
      ['lb: balance load', [1, 2]],
    ]);
    expect(chart.groups[1].bars[1]).toMatchObject({ value: { median: expect.closeTo(1.8) }, note: '0.90 of C' });
    elements(drawChart(chart, []));
  });

  it('of the path: both sides, and the ratio with what is aimed at', () => {
    const result = { ...known('64 flows', 64, 64), verifiedBytes: 1, rounds: [], typescriptNs: exact(33), cppNs: exact(30), ratio: exact(1.1) }; // prettier-ignore
    const [ns, ratio] = pathBench.charts!([result]);
    expect(ns.groups[0].bars.map(({ value, note }) => [value.median, note])).toEqual([
      [30, undefined],
      [33, '1.10 × C++'],
    ]);
    expect(ratio.marks?.map(({ at }) => at)).toEqual([1, 1.1, 1.25]);
    expect([ns.key, ratio.key]).toEqual(['', 'ratio']);
  });

  it('of drop: the same rule in the kernel and in the workers beside each other, none with a rate of its own', () => {
    const rest = { runs: 'kernel', rounds: [], offered: exact(1), senderNs: exact(1), daemonNs: exact(1), aboveNs: exact(1) }; // prettier-ignore
    const one = (name: string, rate: number, median: number) => ({ name, rate, dropped: exact(median * 1e6), ratio: exact(median / 4), ...rest }); // prettier-ignore
    const chart = dropChart([one('XDP_DROP', 0, 4), one('auto: a', 0, 3), one('auto: b', 9, 1), one('off: a', 0, 2)]);
    expect(chart.groups).toEqual([
      { label: 'XDP_DROP', bars: [{ series: 0, value: exact(4), note: '' }] },
      {
        label: 'a',
        bars: [
          { series: 1, value: exact(3), note: '0.75 of XDP_DROP' },
          { series: 2, value: exact(2), note: '0.50 of XDP_DROP' },
        ],
      },
    ]);
  });
});

describe('charts of round trips', () => {
  const one = (name: string, protocol: Protocol, load: LoadLevel, p50: number): LatencyResult => {
    const rest = { lost: exact(0), offered: exact(0), added: null, aboveC: null, rounds: [] };
    const times = { p50: exact(p50), p99: exact(p50 * 2), p999: exact(p50 * 10), max: exact(p50 * 50) };
    return { ...LATENCY_CASES.find((each) => each.name === name)!, protocol, load, ...times, ...rest };
  };

  it('have a group a percentile, and a series a way that was measured', () => {
    const [direct, , , c] = LATENCY_CASES.map(({ name }) => name);
    const idle = [one(direct, 'udp', 'idle', 4), one(c, 'udp', 'idle', 36), one(c, 'tcp', 'idle', 50)];
    const charts = latencyCharts([...idle, one(c, 'udp', 'half', 80)]);
    expect(charts.map(({ key, series }) => [key, series.map(({ name }) => name)])).toEqual([
      ['', [direct, c]],
      ['load', [c]],
    ]);
    expect(charts[0].groups.map(({ label }) => label)).toEqual(['p50', 'p99', 'p99.9', 'max']);
    expect(charts[0].groups[1].bars).toEqual([
      { series: 0, value: exact(8) },
      { series: 1, value: exact(72) },
    ]);
    for (const chart of charts) elements(drawChart(chart, []));
    expect(latencyCharts([])).toEqual([]);
  });
});

describe('what is kept', () => {
  const directories: string[] = [];
  afterEach(() => directories.splice(0).forEach((directory) => rmSync(directory, { recursive: true })));

  function report(bench: string, results: unknown): Report {
    const machine = { cpu: 'A CPU', cpus: 2, memoryBytes: 1, hypervisor: 'KVM', arch: 'x64', kernel: '6.18', hugepages: 'madvise', node: '20', v8: '11', compiler: 'g++', pinned: true, commit: 'abc', modified: false, date: '2026-01-02T03:04:05Z' }; // prettier-ignore
    const noise = { loadBefore: 0.1, loadAfter: 1, others: 0, stolen: 0 };
    return { bench, machine, effort: 'quick', noise, seconds: 12, results };
  }
  const ROW = { file: 'parse', name: 'IPv4 | UDP', ns: 14.1, rme: 1, samples: 5, per: 'packet' };

  it('is a report a bench, with pictures and a page that are made of it again', () => {
    const directory = mkdtempSync(join(tmpdir(), 'sluice-results-'));
    directories.push(directory);
    saveReport(report('micro', [ROW]), directory);
    saveReport(report('path', []), directory);
    writeFileSync(join(directory, 'gone.svg'), 'of a bench that is no more');
    expect(render(directory)).toEqual(['path.svg', 'path-ratio.svg', 'README.md']);
    expect(readdirSync(directory).sort()).toEqual(['README.md', 'micro.json', 'path-ratio.svg', 'path.json', 'path.svg']); // prettier-ignore
    expect(readReports(directory).map(({ bench }) => bench)).toEqual(['path', 'micro']);
    const text = readFileSync(join(directory, 'README.md'), 'utf8');
    expect(text).toContain('](path.svg)');
    expect(text).toContain('| parse: IPv4 \\| UDP | 14.10 | ±1.0 % | packet |');
    expect(text).toContain('`npm run bench -- micro --quick --save`, 12 s');
    expect(text).toContain('A CPU, 2 CPUs, KVM, Linux 6.18');
    writeFileSync(join(directory, 'drop.json'), '{}');
    expect(() => readReports(directory)).toThrow('drop.json is no report');
  });

  it('says machine, kernel, Node, date and commit below each chart', () => {
    const [svg] = drawCharts(report('path', [])).values();
    expect(svg).toContain('A CPU, 2 CPUs (KVM), Linux 6.18, Node 20. 2026-01-02, commit abc, quick run.');
    expect(page([])).toContain('# Last results');
  });
});

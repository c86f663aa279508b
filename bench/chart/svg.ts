/**
 * Charts as SVG that stands alone: no script, no font of its own, text as text. It paints its own background, and another one where the reader's system is set to
 * dark, so that it can be read on any page.
 */
import type { Bar, Chart, Tone } from './chart.js';
import { BAR, layOut, MARGIN, SIZES, valueLabel, WIDTH, type Layout, type Text } from './layout.js';
import { tickLabel } from './scale.js';
import { escapeXml } from './text.js';

const FONT = 'system-ui, -apple-system, "Segoe UI", "Helvetica Neue", Arial, "Liberation Sans", sans-serif';

type Palette = Record<'background' | 'border' | 'text' | 'muted' | 'grid' | 'mark' | Tone, string>;

const LIGHT: Palette = {
  background: '#ffffff',
  border: '#d8dee4',
  text: '#1f2328',
  muted: '#59636e',
  grid: '#e6eaef',
  mark: '#b42318',
  limit: '#aab4c0',
  reference: '#5b8def',
  reference2: '#a9c3f5',
  ours: '#ee7a1a',
  ours2: '#f7b267',
  other: '#9a86d1',
  other2: '#7fb8a4',
};
const DARK: Palette = {
  background: '#0f141a',
  border: '#2f3742',
  text: '#e6edf3',
  muted: '#9aa5b1',
  grid: '#232b35',
  mark: '#ff8a7a',
  limit: '#566270',
  reference: '#4f7fdc',
  reference2: '#34508a',
  ours: '#f08a34',
  ours2: '#a8641f',
  other: '#8a76c6',
  other2: '#5d9a86',
};
const TONES: readonly Tone[] = ['limit', 'reference', 'reference2', 'ours', 'ours2', 'other', 'other2'];

function style(): string {
  const rules = (palette: Palette): string =>
    [
      `.bg{fill:${palette.background};stroke:${palette.border}}`,
      `text{fill:${palette.text}}`,
      `.muted{fill:${palette.muted}}`,
      `.grid{stroke:${palette.grid}}`,
      `.base{stroke:${palette.muted}}`,
      `.whisker{stroke:${palette.text}}`,
      // Grid lines do not cross the figures.
      `.value{stroke:${palette.background}}`,
      `.mark{stroke:${palette.mark}}`,
      `.marked{fill:${palette.mark}}`,
      ...TONES.map((tone) => `.${tone}{fill:${palette[tone]}}`),
    ].join('');
  const fixed = `text{font-family:${FONT};font-size:${SIZES.text}px}.title{font-size:${SIZES.title}px}.title,.group{font-weight:600}.small{font-size:${SIZES.small}px}.value{paint-order:stroke;stroke-width:4px;stroke-linejoin:round}`;
  return `<style>${fixed}${rules(LIGHT)}@media (prefers-color-scheme:dark){${rules(DARK)}}</style>`;
}

/** px with a tenth, which is more than anyone sees. */
function px(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function text({ x, y, text: content }: Text, kind: string, anchor: 'start' | 'middle' | 'end' = 'start'): string {
  const side = anchor === 'start' ? '' : ` text-anchor="${anchor}"`;
  return `<text x="${px(x)}" y="${px(y)}" class="${kind}"${side}>${escapeXml(content)}</text>`;
}

/** The number, and what is said of it in a fainter colour. */
function valueText({ x, y, text: content }: Text, { note }: Bar): string {
  const number = note ? content.slice(0, content.length - note.length - 3) : content;
  const rest = note ? `<tspan class="muted" dx="6">${escapeXml(`(${note})`)}</tspan>` : '';
  return `<text x="${px(x)}" y="${px(y)}" class="value">${escapeXml(number.trimEnd())}${rest}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, kind: string, more = ''): string {
  return `<line x1="${px(x1)}" y1="${px(y1)}" x2="${px(x2)}" y2="${px(y2)}" class="${kind}"${more}/>`;
}

function drawBars(chart: Chart, { plot, groups }: Layout): string[] {
  return groups.flatMap(({ bars }) =>
    bars.flatMap(({ bar, y, end, low, high }) => {
      const middle = y + BAR / 2;
      const { name, tone } = chart.series[bar.series];
      const told = `${name}: ${valueLabel(chart, bar)} [${bar.value.min.toFixed(chart.digits)}..${bar.value.max.toFixed(chart.digits)}]`;
      const width = px(Math.max(end - plot.left, 1));
      const whisker = [
        line(low, middle, high, middle, 'whisker'),
        ...[low, high].map((x) => line(x, middle - 4, x, middle + 4, 'whisker')),
      ];
      return [
        `<rect x="${px(plot.left)}" y="${px(y)}" width="${width}" height="${BAR}" rx="2" class="${tone}"><title>${escapeXml(told)}</title></rect>`,
        ...(high > low ? whisker : []),
      ];
    }),
  );
}

function drawLabels({ groups }: Layout): string[] {
  return groups.flatMap(({ labels, bars }) => [
    ...labels.map((label) => text(label, 'group', 'end')),
    ...bars.map(({ bar, label }) => valueText(label, bar)),
  ]);
}

/** The chart as an SVG document. `footer`: lines for its foot, such as machine and date. */
export function drawChart(chart: Chart, footer: readonly string[]): string {
  const layout = layOut(chart, footer);
  const { height, plot, ticks } = layout;
  const told = chart.groups.map(({ label, bars }) => {
    const values = bars.map((bar) => `${chart.series[bar.series].name} ${valueLabel(chart, bar)}`);
    return `${label}: ${values.join(', ')}`;
  });
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${px(height)}" viewBox="0 0 ${WIDTH} ${px(height)}" role="img" aria-labelledby="title desc">`,
    `<title id="title">${escapeXml(chart.title)}</title>`,
    `<desc id="desc">${escapeXml(`${chart.subtitle}; ${chart.axis}. ${told.join('; ')}`)}</desc>`,
    style(),
    `<rect x="0.5" y="0.5" width="${WIDTH - 1}" height="${px(height - 1)}" rx="8" class="bg"/>`,
    ...layout.title.map((each) => text(each, 'title')),
    ...layout.subtitle.map((each) => text(each, 'muted')),
    ...layout.legend.flatMap(({ series, x, y, text: name }) => [
      `<rect x="${px(x)}" y="${px(y - 11)}" width="12" height="12" rx="2" class="${chart.series[series].tone}"/>`,
      text({ x: x + 18, y, text: name }, 'key'),
    ]),
    ...ticks.map(({ x }) => line(x, plot.top, x, plot.bottom, 'grid')),
    ...drawBars(chart, layout),
    ...layout.marks.flatMap(({ x, label }) => [
      line(x, plot.top, x, plot.bottom, 'mark', ' stroke-dasharray="4 3"'),
      text(label, 'small marked', 'middle'),
    ]),
    ...drawLabels(layout),
    line(plot.left, plot.top, plot.left, plot.bottom, 'base'),
    ...ticks.map(({ x, value }) => text({ x, y: plot.bottom + 16, text: tickLabel(value) }, 'small muted', 'middle')),
    text(layout.axis, 'small muted'),
    line(MARGIN, layout.axis.y + 10, WIDTH - MARGIN, layout.axis.y + 10, 'grid'),
    ...layout.footer.map((each) => text(each, 'small muted')),
    '</svg>',
  ];
  return `${parts.join('\n')}\n`;
}

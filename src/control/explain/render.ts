/** An explanation as lines for a person. */
import type { Explanation, HeaderText, RuleStep, Step } from './document.js';
import { conditionText, ruleText } from './rules.js';

const WIDTH = 14;

/** `all`: rules that the index has left out, and those that were not reached, one by one; and all bytes. */
export function linesOf(explanation: Explanation, all: boolean): string[] {
  const { input, config, frame, steps, verdict, output, counters } = explanation;
  const before = input.before === 0 ? 'nothing before it' : `behind ${input.before} others`;
  const cut = frame.wireBytes > frame.bytes ? ` of ${frame.wireBytes}: the capture cut it` : '';
  return [
    row('packet', `${input.text}, ${before}`),
    row('config', config.path === '' ? '(none)' : config.path),
    ...config.live.map((line) => row('', `at run time: ${line}`)),
    row(
      'frame',
      `${frame.bytes} bytes${cut}, in on ${frame.port.name} (port ${frame.port.index}) at ${frame.clockMs} ms`,
    ),
    ...frame.headers.map(headerLine),
    ...steps.flatMap((step) => stepLines(step, all)),
    row('verdict', verdictText(verdict)),
    ...(output === null || !(output.changed || all)
      ? []
      : [row('leaves', `${output.bytes} bytes`), ...output.headers.map(headerLine), row('', hexText(output.hex, all))]),
    ...counters.map(({ name, change }, i) =>
      row(i === 0 ? 'counters' : '', `${name} ${change > 0 ? '+' : ''}${change}`),
    ),
  ];
}

function row(title: string, text: string): string {
  return `${title.padEnd(WIDTH)}${text}`.trimEnd();
}

function headerLine({ at, name, text }: HeaderText): string {
  return row('', `${String(at).padStart(4)}  ${name.padEnd(9)} ${text}`);
}

function stepLines(step: Step, all: boolean): string[] {
  const { stage, result, because } = step;
  const lines = stage === 'rules' && all ? rulesInFull(step) : because;
  return [row(stage, result), ...lines.map((line) => row('', `  ${line}`))];
}

function rulesInFull({ detail, because }: Step): string[] {
  const rules = detail.rules as RuleStep[];
  if (rules.length === 0) return because;
  return rules.flatMap((rule) => {
    const text = ruleText(rule);
    const head = rule.result === 'skipped' ? `${text} (left out by the index)` : text;
    return [head, ...(rule.result === 'matched' ? rule.conditions.map((one) => `  ${conditionText(one)}`) : [])];
  });
}

function verdictText({ verdict, reason, interface: name, service, backend, error }: Explanation['verdict']): string {
  const words: string[] = [verdict];
  if (reason !== null) words.push(reason);
  if (name !== null) words.push(`out of ${name}`);
  if (backend !== null) words.push(`to ${backend} of ${service}`);
  if (error !== null) words.push(`a filter threw: ${error}`);
  return words.join(', ');
}

/** Bytes that are shown of a packet unless all are. */
const MOST_BYTES = 96;

function hexText(hex: string, all: boolean): string {
  return all || hex.length <= MOST_BYTES * 2 ? hex : `${hex.slice(0, MOST_BYTES * 2)}… (${hex.length / 2} bytes)`;
}

/** Requests about rules. Each change is a line of the log with `"audit": true`. */
import { SluiceError } from '../../errors.js';
import type { Log } from '../log.js';
import type { RuleChangeResult, RuleMethods, RuleMode, RulePlace } from './contract_rules.js';
import { isObject, namesParam, onlyKeys, stringParam, type Handler, type Params } from './params.js';

/** Names in a log line; of more there is only the number. */
const MAX_LOGGED = 20;

export const RULE_HANDLERS: Record<keyof RuleMethods, Handler> = {
  'rules.list': (params, target) => (onlyKeys(params, []), target.rules.list()),
  async 'rules.add'(params, target, log) {
    onlyKeys(params, ['rules', 'place', 'replace']);
    const place = params.place === undefined ? null : placeParam(params);
    const replace = params.replace ?? false;
    if (typeof replace !== 'boolean')
      throw new SluiceError('SLUICE_USAGE', 'parameter "replace" must be true or false');
    const result = await target.rules.add(params.rules, place, replace);
    const added =
      Array.isArray(params.rules) && params.rules.length <= MAX_LOGGED ? { added: params.rules as unknown[] } : {};
    return audit(log, 'rules added', result, { place, replace, ...added });
  },
  async 'rules.remove'(params, target, log) {
    onlyKeys(params, ['rules']);
    return audit(log, 'rules removed', await target.rules.remove(namesParam(params, 'rules')));
  },
  async 'rules.move'(params, target, log) {
    onlyKeys(params, ['rule', 'place']);
    const place = placeParam(params);
    return audit(log, 'rule moved', await target.rules.move(stringParam(params, 'rule'), place), { place });
  },
  async 'rules.mode'(params, target, log) {
    onlyKeys(params, ['rules', 'mode']);
    const { mode } = params;
    if (mode !== 'enforce' && mode !== 'shadow') {
      throw new SluiceError('SLUICE_USAGE', `mode must be one of enforce, shadow, not ${JSON.stringify(mode)}`);
    }
    const result = await target.rules.setMode(namesParam(params, 'rules'), mode satisfies RuleMode);
    return audit(log, 'rules set', result, { mode });
  },
  async 'rules.reset'(params, target, log) {
    onlyKeys(params, ['rules']);
    const names = params.rules === undefined ? null : namesParam(params, 'rules');
    return audit(log, 'rules reset', await target.rules.reset(names));
  },
};

function audit(log: Log, what: string, result: RuleChangeResult, more: Params = {}): RuleChangeResult {
  const { rules, generation } = result;
  const names = rules.length <= MAX_LOGGED ? rules : rules.slice(0, MAX_LOGGED);
  log.info(`control: ${what}`, { audit: true, rules: names, number: rules.length, generation, ...more });
  return result;
}

/** "first", "last", {before: NAME} or {after: NAME}. */
function placeParam({ place }: Params): RulePlace {
  if (place === 'first' || place === 'last') return place;
  if (isObject(place)) {
    onlyKeys(place, ['before', 'after']);
    const { before, after } = place;
    if (typeof before === 'string' && after === undefined) return { before };
    if (typeof after === 'string' && before === undefined) return { after };
  }
  throw new SluiceError('SLUICE_USAGE', 'place must be "first", "last", {"before": NAME} or {"after": NAME}');
}

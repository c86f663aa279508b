import { Document, isMap, type YAMLMap, type YAMLSeq } from 'yaml';

/**
 * Rules as the text of a configuration, a line for each match; with `interfaceName` null only the key `rules`. `more`: other keys, behind the
 * rules.
 */
export function writeRules(
  rules: readonly unknown[],
  interfaceName: string | null,
  more: Readonly<Record<string, unknown>> = {},
): string {
  const content = { ...(interfaceName === null ? {} : { interfaces: [interfaceName] }), rules, ...more };
  const document = new Document(content, { aliasDuplicateObjects: false, sortMapEntries: false });
  const root = document.contents as unknown as YAMLMap;
  const list = root.get('rules') as YAMLSeq<YAMLMap>;
  list.flow = list.items.length === 0;
  for (const rule of list.items) {
    for (const { value } of rule.items) if (isMap(value)) value.flow = true;
  }
  if (interfaceName !== null) (root.get('interfaces') as YAMLSeq).flow = true;
  return document.toString({ lineWidth: 0, flowCollectionPadding: false });
}

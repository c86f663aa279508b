import { Document, isMap, type YAMLMap, type YAMLSeq } from 'yaml';

/** Rules as the text of a configuration, a line for each match; with `interfaceName` null only the key `rules`. */
export function writeRules(rules: readonly unknown[], interfaceName: string | null): string {
  const content = interfaceName === null ? { rules } : { interfaces: [interfaceName], rules };
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

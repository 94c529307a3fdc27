export function shortened(scripts: ReadonlyMap<string, string>, declarations: ReadonlyMap<string, string>): Map<string, string>;

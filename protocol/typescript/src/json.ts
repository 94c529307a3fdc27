/** The object in a text, if there is one. What its fields are is for whoever looks at them. */
export function objectIn<T extends object>(text: unknown): Partial<T> | undefined {
  try {
    const value: unknown = JSON.parse(text as string);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

/** The fields that have a value: one that is not known is left out, as the types and the protocol want it. */
export function given<T extends object>(fields: T): { [Name in keyof T]: Exclude<T[Name], undefined> } extends infer All ? Partial<All> : never {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as ReturnType<typeof given<T>>;
}

/** The fields that have a value: one that is not known is left out, as the types and the protocol want it. */
export function given<T extends object>(fields: T): { [Name in keyof T]: Exclude<T[Name], undefined> } extends infer All ? Partial<All> : never {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as ReturnType<typeof given<T>>;
}

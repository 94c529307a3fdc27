/** The object in a text, if there is one. What its fields are is for whoever looks at them. */
export function objectIn<T extends object>(text: unknown): Partial<T> | undefined {
  try {
    const value: unknown = JSON.parse(text as string);
    return typeof value === "object" && value !== null ? value : undefined;
  } catch {
    return undefined;
  }
}

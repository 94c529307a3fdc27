/** Prints a text; where that is not possible there is nothing. */
export const print: ((text: string) => void) | undefined = undefined;

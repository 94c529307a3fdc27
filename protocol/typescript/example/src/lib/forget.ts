/** Removing what is kept is for the system on a device: it is what deleting the app does. */
export const forget: (() => Promise<void>) | undefined = undefined;

/** What is asked before a log-out. `unsent`: how many messages it loses; `undefined`: that is not known. */
export function logoutQuestion(unsent: number | undefined, all: boolean): { title: string; text: string; confirm: string; danger: boolean } {
  const one = unsent === 1;
  const lost = unsent === undefined
    ? " What is kept on this device cannot be read at the moment: if there are messages that were not sent yet, they will be lost."
    : unsent > 0 ? ` ${one ? "One message was" : `${unsent} messages were`} not sent yet, and will be lost. Wait until the connection is back to send ${one ? "it" : "them"}.` : "";
  return {
    title: all ? "Log out everywhere?" : "Log out?",
    text: (all ? "Every device and browser where you are signed in is signed out." : "What is kept on this device is removed from it. It stays with the club.") + lost,
    confirm: unsent === undefined ? "Log out anyway" : unsent > 0 ? "Log out and lose them" : "Log out",
    danger: unsent !== 0,
  };
}

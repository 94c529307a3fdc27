/** What is asked before a log-out. `unsent`: how many messages it may lose: one that is under way may arrive all the same; `undefined`: that is not known. */
export function logoutQuestion(unsent: number | undefined, all: boolean): { title: string; text: string; confirm: string; danger: boolean } {
  const [messages, them] = unsent === 1 ? ["One message was", "it"] : [`${unsent} messages were`, "them"];
  const lost = unsent === undefined
    ? " What is kept on this device cannot be read at the moment: if there are messages that were not sent yet, they may be lost."
    : unsent > 0 ? ` ${messages} not sent yet, and may be lost. Wait until the connection is back to send ${them}.` : "";
  return {
    title: all ? "Log out everywhere?" : "Log out?",
    text: (all ? "Every device and browser where you are signed in is signed out." : "What is kept on this device is removed from it. It stays with the club.") + lost,
    confirm: unsent === undefined ? "Log out anyway" : unsent > 0 ? `Log out and lose ${them}` : "Log out",
    danger: unsent !== 0,
  };
}

// A mail server for a browser test: takes every mail, in the clear, and keeps it.

import { createServer } from "node:net";

const ANSWERS = { EHLO: "250-club\r\n250 8BITMIME", HELO: "250 club", DATA: "354 go on", QUIT: "221 bye" };

/** The text of a part, as people read it. */
function readable(text, encoding = "7bit") {
  if (/base64/i.test(encoding)) return Buffer.from(text, "base64").toString("utf8");
  if (!/quoted-printable/i.test(encoding)) return text;
  const bytes = text.replace(/=\r\n/g, "").replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** A line of the head, with its encoded words (RFC 2047) as they are read. */
function headed(head, name) {
  const line = new RegExp(`^${name}: (.*(?:\r\n[ \t].*)*)`, "im").exec(head)?.[1]?.replace(/\r\n[ \t]/g, " ") ?? "";
  return line.replace(/\?=\s+=\?/g, "?==?").replace(/=\?utf-8\?([bq])\?(.*?)\?=/gi, (_, how, word) => readable(how.toLowerCase() === "b" ? word : word.replaceAll("_", " "), how.toLowerCase() === "b" ? "base64" : "quoted-printable"));
}

function parsed(to, source) {
  const [, head, body] = /^([\s\S]*?)\r\n\r\n([\s\S]*)$/.exec(source.replace(/^\./gm, "")) ?? [];
  const text = readable(body ?? "", headed(head ?? "", "Content-Transfer-Encoding"));
  return { to, subject: headed(head ?? "", "Subject"), text, link: /https?:\/\/\S+/.exec(text)?.[0] };
}

/** Listens on a free port of this machine. */
export async function mailServer() {
  const mails = [];
  const waiting = new Set();
  const server = createServer((socket) => {
    let text = "";
    let to = "";
    let inMail = false;
    const say = (answer) => socket.write(`${answer}\r\n`);
    socket.setEncoding("latin1").on("error", () => undefined).on("data", (data) => {
      text += data;
      for (;;) {
        const end = inMail ? "\r\n.\r\n" : "\r\n";
        const at = text.indexOf(end);
        if (at < 0) return;
        const part = text.slice(0, at);
        text = text.slice(at + end.length);
        const verb = inMail ? "" : part.slice(0, 4).toUpperCase();
        if (inMail) {
          mails.push(parsed(to, Buffer.from(part, "latin1").toString("utf8")));
          for (const look of waiting) look();
        }
        if (verb === "RCPT") to = /<(.*)>/.exec(part)?.[1] ?? "";
        inMail = verb === "DATA";
        say(ANSWERS[verb] ?? "250 ok");
        if (verb === "QUIT") socket.end();
      }
    });
    say("220 club");
  });
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    url: `smtp://127.0.0.1:${server.address().port}?tls=none`,
    /** The next mail with a subject to an address, as soon as it is there; each is given out once. */
    next: (to, subject) => new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`no mail to ${to}: ${subject}; there are ${JSON.stringify(mails)}`)), 30_000);
      const look = () => {
        const at = mails.findIndex((mail) => mail.to === to && mail.subject === subject);
        if (at < 0) return;
        clearTimeout(timer);
        waiting.delete(look);
        resolve(mails.splice(at, 1)[0]);
      };
      waiting.add(look);
      look();
    }),
    stop: () => server.close(),
  };
}

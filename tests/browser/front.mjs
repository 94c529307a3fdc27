// Stands before the server with files of another export of the app, with the server's own headers, in place of those in its binary. A service worker asks past the driver of the browser, so
// that cannot answer it.

import { createReadStream, existsSync, statSync } from "node:fs";
import { createServer, request } from "node:http";
import { connect } from "node:net";
import { extname, join } from "node:path";

const TYPES = { ".css": "text/css", ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".png": "image/png", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json" };

/** One for the server at `base`, with the files of `folder`, and with an address of its own. It is there from `start` to `stop`. */
export async function front(base, folder) {
  const { hostname, port } = new URL(base);
  const file = (path) => {
    const found = join(folder, path);
    return path !== "" && existsSync(found) && statSync(found).isFile() ? found : undefined;
  };
  const files = async (path, response) => {
    const found = file(path) ?? (extname(path) === "" ? join(folder, "index.html") : undefined);
    if (!found) return response.writeHead(404).end();
    const { headers } = await fetch(`${base}/app/`);
    const policy = headers.get("content-security-policy").replaceAll(`${hostname}:${port}`, `${hostname}:${own}`);
    response.writeHead(200, { "content-type": TYPES[extname(found)] ?? "application/octet-stream", "cache-control": /[0-9a-f]{16}/.test(found) ? "public, max-age=31536000, immutable" : "no-cache", "content-security-policy": policy });
    createReadStream(found).pipe(response);
  };
  const open = new Set();
  const server = createServer((asked, response) => {
    const { pathname } = new URL(asked.url, base);
    if (pathname.startsWith("/app/")) return void files(pathname.slice("/app/".length), response).catch(() => response.destroy());
    const headers = { ...asked.headers, host: `${hostname}:${port}`, ...(asked.headers.origin ? { origin: base } : {}) };
    const passed = request({ hostname, port, path: asked.url, method: asked.method, headers }, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    asked.pipe(passed);
  });
  server.on("connection", (socket) => {
    open.add(socket);
    socket.once("close", () => open.delete(socket));
  });
  server.on("upgrade", (asked, socket, head) => {
    const passed = connect(port, hostname, () => {
      const lines = Object.entries({ ...asked.headers, host: `${hostname}:${port}`, origin: base }).map(([name, value]) => `${name}: ${value}`);
      passed.write(`${asked.method} ${asked.url} HTTP/1.1\r\n${lines.join("\r\n")}\r\n\r\n`);
      passed.write(head);
      passed.pipe(socket).pipe(passed);
    });
    for (const [one, other] of [[passed, socket], [socket, passed]]) one.on("error", () => undefined).on("close", () => other.destroy());
  });
  const listen = (at) => new Promise((resolve) => server.listen(at, hostname, resolve));
  await listen(0);
  const { port: own } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return {
    base: `http://${hostname}:${own}`,
    start: () => listen(own),
    stop: () => new Promise((resolve) => {
      server.close(() => resolve());
      for (const socket of open) socket.destroy();
    }),
  };
}

// The relay of load/src/relay.rs with uWebSockets, as Bun brings it: what a member sends goes back to it, and on to the member
// it is for.
const TO = '"to":"';
const members = new Map();

Bun.serve({
  hostname: process.env.HOST,
  port: Number(process.env.PORT),
  fetch(request, server) {
    const member = new URL(request.url).pathname.slice(1);
    return server.upgrade(request, { data: { member } }) ? undefined : new Response('WebSocket only', { status: 400 });
  },
  websocket: {
    perMessageDeflate: false,
    idleTimeout: 0,
    open(socket) {
      members.set(socket.data.member, socket);
    },
    close(socket) {
      members.delete(socket.data.member);
    },
    message(socket, frame) {
      // Only the member that it is for is read of a frame.
      const at = frame.indexOf(TO) + TO.length;
      const to = frame.slice(at, frame.indexOf('"', at));
      socket.sendText(frame);
      members.get(to)?.sendText(frame);
    },
  },
});

// What whoever started it waits for.
console.log('  docs     uWebSockets in Bun, load/peers/bun.mjs');

// The relay of load/src/relay.rs with `ws` on Node: what a member sends goes back to it, and on to the member it is for.
import { WebSocketServer } from 'ws';

const TO = '"to":"';
const members = new Map();

const server = new WebSocketServer({
  host: process.env.HOST,
  port: Number(process.env.PORT),
  perMessageDeflate: false,
});

server.on('connection', (socket, request) => {
  const member = request.url.slice(1);
  members.set(member, socket);
  socket.on('error', () => socket.terminate());
  socket.on('close', () => members.delete(member));
  socket.on('message', (frame) => {
    // Frames are passed on as the bytes that they came as; only the member they are for is read.
    const at = frame.indexOf(TO) + TO.length;
    const to = frame.latin1Slice(at, frame.indexOf('"', at));
    socket.send(frame, { binary: false });
    members.get(to)?.send(frame, { binary: false });
  });
});

// What whoever started it waits for.
server.on('listening', () => console.log('  docs     ws on Node, load/peers/ws.mjs'));

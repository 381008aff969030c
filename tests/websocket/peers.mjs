// A client and a server of WebSocket that have nothing to do with naru: the package ws, over HTTP/1.1 and, by extended
// CONNECT, over the HTTP/2 of Node.js. The argument is the folder that has the package. It is told what to do by lines
// of JSON, and answers by lines of JSON. The first line says where the servers listen.

import http2 from 'node:http2';
import { once } from 'node:events';
import { createRequire } from 'node:module';
import readline from 'node:readline';

const { WebSocket, WebSocketServer } = createRequire(`${process.argv[2]}/`)('ws');
const MAX = { maxPayload: 64 << 20, allowSynchronousEvents: true, skipUTF8Validation: false };
const PROTOCOL = 'echo';

// Echoes; "close CODE WHY" has it close.
function echo(socket) {
  socket.on('error', () => {});
  socket.on('message', (data, isBinary) => {
    const [word, code, ...why] = isBinary ? [] : data.subarray(0, 64).toString().split(' ');
    if (word === 'close') socket.close(Number(code), why.join(' '));
    else socket.send(data, { binary: isBinary });
  });
}

// The package has no HTTP/2, but takes any stream, as its own server gives it one.
function upon(stream, isServer) {
  const socket = new WebSocket(null, undefined, { autoPong: true, closeTimeout: 30_000 });
  Object.assign(socket, { _isServer: isServer, _bufferedAmount: 0 });
  socket.setSocket(stream, Buffer.alloc(0), MAX);
  return socket;
}

function byHttp2(said) {
  const [scheme, tls] = said.ca ? ['https', { ca: said.ca, servername: said.name }] : ['http', {}];
  const session = http2.connect(`${scheme}://${said.to}`, tls);
  return new Promise((resolve, reject) => {
    session.on('error', reject);
    session.once('remoteSettings', (settings) => {
      if (!settings.enableConnectProtocol) return reject(new Error('no extended CONNECT'));
      const stream = session.request({
        ':method': 'CONNECT',
        ':protocol': 'websocket',
        ':scheme': scheme,
        ':authority': said.name,
        ':path': '/chat?room=1',
        'sec-websocket-version': '13',
        'sec-websocket-protocol': PROTOCOL,
      });
      stream.on('error', reject);
      stream.once('response', (head) => {
        if (head[':status'] !== 200) return reject(new Error(`status ${head[':status']}`));
        const socket = upon(stream, false);
        socket._protocol = head['sec-websocket-protocol'];
        socket.on('close', () => session.close());
        resolve(socket);
      });
    });
  });
}

async function byHttp1(said) {
  const [scheme, tls] = said.ca ? ['wss', { ca: said.ca, servername: said.name }] : ['ws', {}];
  const headers = { host: said.name };
  const socket = new WebSocket(`${scheme}://${said.to}/chat?room=1`, PROTOCOL, { ...MAX, ...tls, headers });
  await once(socket, 'open');
  return socket;
}

async function talk(said) {
  const socket = await (said.http2 ? byHttp2(said) : byHttp1(said));
  const told = { echoed: 0, pongs: 0, protocol: socket.protocol, compressed: socket.extensions !== '' };
  const closed = once(socket, 'close');
  for (const size of said.sizes) {
    const text = Buffer.from('☺'.repeat(size / 3) + 'x'.repeat(size % 3));
    const bytes = Buffer.from(Array.from({ length: size }, (_, at) => at % 251));
    for (const [whole, binary] of [[text, false], [bytes, true]]) {
      const cuts = [0, size >> 2, size >> 1, size];
      for (const count of [1, 3]) {
        const echoed = once(socket, 'message');
        if (count === 1) socket.send(whole, { binary });
        else for (let at = 0; at < 3; at++) socket.send(whole.subarray(cuts[at], cuts[at + 1]), { binary, fin: at === 2 });
        const [data, isBinary] = await echoed;
        told.echoed += whole.equals(data) && isBinary === binary ? 1 : 0;
      }
    }
    const pong = once(socket, 'pong');
    socket.ping('are you?');
    told.pongs += (await pong)[0].toString() === 'are you?' ? 1 : 0;
  }
  if (said.client_closes) socket.close(4001, 'enough ☺');
  else socket.send('close 4002 no more ☺');
  const [code, reason] = await closed;
  return { ...told, code, reason: reason.toString() };
}

const { Server } = await import('node:http');
const plain = new Server();
new WebSocketServer({ server: plain, ...MAX, perMessageDeflate: true }).on('connection', echo);
const framed = http2.createServer({ settings: { enableConnectProtocol: true } });
framed.on('sessionError', () => {});
framed.on('stream', (stream, head) => {
  stream.on('error', () => {});
  if (head[':protocol'] !== 'websocket') return stream.respond({ ':status': 404 }, { endStream: true });
  const asked = head['sec-websocket-protocol'];
  stream.respond({ ':status': 200, ...(asked && { 'sec-websocket-protocol': asked.split(',')[0].trim() }) });
  echo(upon(stream, true));
});
for (const server of [plain, framed]) await once(server.listen(0, '127.0.0.1'), 'listening');
console.log(JSON.stringify({ port: plain.address().port, http2: framed.address().port }));
for await (const line of readline.createInterface({ input: process.stdin })) {
  const told = await talk(JSON.parse(line)).catch((error) => ({ error: String(error) }));
  console.log(JSON.stringify(told));
}
process.exit();

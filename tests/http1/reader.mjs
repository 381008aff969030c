// A server that reads HTTP/1 as leniently as it can, or as strictly as it does by itself ("strict"), and tells on its standard output what it read: one line of JSON
// for each request, and one for whatever it could not read.
import http from 'node:http';

const isStrict = process.argv[2] === 'strict';
const lenient = { insecureHTTPParser: true, requireHostHeader: false, keepAliveTimeout: 60_000 };
const strict = { headersTimeout: 2_000, requestTimeout: 2_000, connectionsCheckingInterval: 200 };
const server = http.createServer(isStrict ? strict : lenient, (request, response) => {
  const parts = [];
  request.on('data', (part) => parts.push(part));
  request.on('error', () => {});
  request.on('end', () => {
    const body = Buffer.concat(parts).toString('latin1');
    console.log(JSON.stringify({ method: request.method, target: request.url, body, id: request.headers['x-id'] ?? '' }));
    response.end('read');
  });
});
server.on('clientError', (error, socket) => {
  // A connection that breaks is none that was read otherwise.
  if (error.code !== 'ECONNRESET') console.log(JSON.stringify({ error: error.code }));
  if (isStrict && socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n');
  else socket.destroy();
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));

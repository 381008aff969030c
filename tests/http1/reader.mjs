// A server that reads HTTP/1 as leniently as it can, and tells on its standard output what it read: one line of JSON
// for each request, and one for whatever it could not read.
import http from 'node:http';

const options = { insecureHTTPParser: true, requireHostHeader: false, keepAliveTimeout: 60_000 };
const server = http.createServer(options, (request, response) => {
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
  socket.destroy();
});
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port })));

// The same as client.py, in JavaScript: see there. Its first argument is the folder with the packages.

import { createRequire } from 'node:module';
import path from 'node:path';
import readline from 'node:readline';

const require = createRequire(path.join(process.argv[2], 'package.json'));
const AT_A_TIME = 50;
const clients = new Map();
let grpc;

function begin(bootstrap) {
  process.env.GRPC_XDS_BOOTSTRAP_CONFIG = JSON.stringify(bootstrap);
  // They read the environment when they are loaded.
  grpc = require('@grpc/grpc-js');
  require('@grpc/grpc-js-xds').register();
  return {};
}

function once(client, metadata) {
  return new Promise((resolve) => {
    let who = 'nobody';
    const same = (bytes) => bytes;
    const deadline = Date.now() + 20_000;
    const call = client.makeUnaryRequest('/naru.Test/Echo', same, same, Buffer.from('hello'), metadata, { deadline },
      (error) => resolve({ who, code: error ? grpc.status[error.code] : 'OK', why: error?.details }));
    call.on('metadata', (initial) => { who = String(initial.get('x-workload')[0] ?? 'nobody'); });
  });
}

async function call(command) {
  if (!clients.has(command.to)) {
    clients.set(command.to, new grpc.Client(command.to, grpc.credentials.createInsecure()));
  }
  const metadata = new grpc.Metadata();
  for (const [name, value] of command.metadata ?? []) {
    metadata.set(name, value);
  }
  const [by, codes] = [{}, {}];
  let why = null;
  for (let left = command.count; left > 0; left -= AT_A_TIME) {
    const batch = Array.from({ length: Math.min(left, AT_A_TIME) }, () => once(clients.get(command.to), metadata));
    for (const answer of await Promise.all(batch)) {
      codes[answer.code] = (codes[answer.code] ?? 0) + 1;
      if (answer.code === 'OK') {
        by[answer.who] = (by[answer.who] ?? 0) + 1;
      } else {
        why = answer.why;
      }
    }
  }
  return { by, codes, why };
}

for await (const line of readline.createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  const answer = command.do === 'begin' ? begin(command.bootstrap) : await call(command);
  process.stdout.write(`${JSON.stringify(answer)}\n`);
}

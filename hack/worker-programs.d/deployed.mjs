// Stands where a fixture's own tests import the functions that run `wrangler dev`: it deploys to the node that
// SELVAGE_NODE describes, and lends each Worker a port of its own, since the tests know no host names.
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { deploy } from './both.mjs';

const target = JSON.parse(process.env.SELVAGE_NODE);

export async function runWranglerDev(folder) {
  // Without a date in the configuration dev takes today's, deploy asks for one.
  const worker = await deploy(target, { flags: ['--compatibility-date', '2026-11-01'] }, folder, target.work);
  const proxy = http.createServer((req, res) => {
    const onward = http.request({ host: '127.0.0.1', port: worker.port, path: req.url, method: req.method, headers: { ...req.headers, host: worker.host } }, (answer) => {
      res.writeHead(answer.statusCode, answer.headers);
      answer.pipe(res);
    });
    onward.on('error', (err) => res.destroy(err));
    req.pipe(onward);
  });
  proxy.on('upgrade', (req, socket, head) => {
    const onward = net.connect(worker.port, '127.0.0.1', () => {
      const fields = Object.entries({ ...req.headers, host: worker.host }).map(([name, value]) => `${name}: ${value}\r\n`).join('');
      onward.write(`${req.method} ${req.url} HTTP/1.1\r\n${fields}\r\n`);
      onward.write(head);
      socket.pipe(onward).pipe(socket);
    });
    onward.on('error', () => socket.destroy());
    socket.on('error', () => onward.destroy());
  });
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  return {
    ip: '127.0.0.1', port: proxy.address().port, getOutput: () => '', clearOutput() {},
    stop: () => new Promise((resolve) => { proxy.close(resolve); proxy.closeAllConnections(); }),
  };
}

export async function runWranglerPagesDev(folder) {
  throw new Error(`${path.basename(folder)} is a Pages project, which is not deployed`);
}

// Some tests import these from miniflare for what is about development alone.
export const Miniflare = undefined;
export const convertV4MiniflareOptions = undefined;

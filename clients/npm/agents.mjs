// Talks with the agent of testdata/workers/agents through the SDK's own client. Prints "ok" at the end.
//   agents.mjs HOST PORT    HOST: the Worker's name; PORT: where the node answers
import assert from 'node:assert/strict';
import WebSocket from 'ws';
import { AgentClient } from 'agents/client';

const [host, port] = process.argv.slice(2);

// Names below localhost are not in everybody's resolver.
class Local extends WebSocket {
  constructor(url, protocols) {
    super(url, protocols, { lookup: (name, options, done) => options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4) });
  }
}

const patience = setTimeout(() => { console.error('nothing more arrived within 30 seconds'); process.exit(1); }, 30_000);

// join opens a client and collects the states and messages that reach it.
async function join(name) {
  const states = [];
  const messages = [];
  const waiting = [];
  const client = new AgentClient({
    agent: 'hello', name, host: `${host}:${port}`, protocol: 'ws', WebSocket: Local,
    onStateUpdate: (state) => { states.push(state); waiting.splice(0).forEach((look) => look()); },
  });
  client.addEventListener('message', ({ data }) => {
    if (!String(data).startsWith('{')) messages.push(data);
    waiting.splice(0).forEach((look) => look());
  });
  const until = async (check) => { while (!check()) await new Promise((resolve) => waiting.push(resolve)); };
  await client.ready;
  return { client, states, messages, until, last: () => states.at(-1) };
}

const ann = await join('room');
const bob = await join('room');
const cyd = await join('elsewhere');
assert.equal(await ann.client.call('greet', ['Ann']), 'Hello Ann, you are number 1');
assert.equal(await bob.client.call('greet', ['Bob']), 'Hello Bob, you are number 2');
assert.equal(await cyd.client.call('greet', ['Cyd']), 'Hello Cyd, you are number 1');
await ann.until(() => ann.last()?.greeted.length === 2);
assert.deepEqual(ann.last().greeted, ['Ann', 'Bob']);

bob.client.setState({ greeted: [], woken: 'not yet' });
await ann.until(() => ann.last()?.woken === 'not yet');
ann.client.send('plain');
await ann.until(() => ann.messages.length);
assert.deepEqual(ann.messages, ['echo plain']);
await assert.rejects(ann.client.call('onRequest', []), /not callable/);

await ann.client.call('later', ['now']);
await bob.until(() => bob.last()?.woken === 'now');
for (const { client } of [ann, bob, cyd]) client.close();
clearTimeout(patience);
console.log('ok');
process.exit(0);

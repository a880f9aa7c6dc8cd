// The node's own Worker in a child. Its default export hands events to programs: fetch() cannot
// carry them, and only a Worker of the same process can. Its entrypoint Trace collects traces.
import { WorkerEntrypoint } from "cloudflare:workers";

const bytes = (base64) => Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));

function message(m) {
  const out = { id: m.id, timestamp: new Date(m.timestamp), attempts: m.attempts };
  const raw = bytes(m.body);
  switch (m.type) {
    case "v8":
      return { ...out, serializedBody: raw };
    case "bytes":
      return { ...out, body: raw.buffer };
    case "json":
      return { ...out, body: JSON.parse(new TextDecoder().decode(raw)) };
    default:
      return { ...out, body: new TextDecoder().decode(raw) };
  }
}

export default {
  // POST /KIND/DOOR, where DOOR is the number of the program's door.
  async fetch(request, env) {
    const [, kind, door] = new URL(request.url).pathname.split("/");
    const target = env["d" + door];
    const event = await request.json();
    switch (kind) {
      case "scheduled":
        return Response.json(await target.scheduled({ cron: event.cron, scheduledTime: new Date(event.time) }));
      case "queue":
        return Response.json(await target.queue(event.queue, event.messages.map(message)));
      case "traces":
        try {
          await target.tail(event);
          return Response.json({ outcome: "ok" });
        } catch (e) {
          return Response.json({ outcome: "exception", error: String(e) });
        }
    }
    return new Response("unknown event", { status: 404 });
  },
};

// Traces are sent in batches: a request for each would cost more than the invocations themselves. They
// become text at once, since a trace is only of use to the invocation that it was given to. Nothing
// waits for the node but one invocation that carries what there is, and what does not fit is dropped and
// counted: a script that logs faster than the node reads must not fill the memory.
const queues = new Map();
const pause = 20; // milliseconds in which others may come
const patience = 5000; // milliseconds for a request
const batchSize = 512 * 1024; // characters that are sent at once, about
const room = 4 * 1024 * 1024; // characters that may wait
const idle = 250; // milliseconds in which nothing is collected after the node said that nobody watches
const itemSize = 1024 * 1024; // characters of one trace; longer ones lose their logs

export class Trace extends WorkerEntrypoint {
  async tail(events) {
    const { out, script, version } = this.ctx.props;
    let queue = queues.get(out);
    if (!queue) queues.set(out, (queue = { lines: [], size: 0, lost: 0, carriedUntil: 0, idleUntil: 0 }));
    if (Date.now() < queue.idleUntil) return;
    for (const event of events) add(queue, event, { scriptName: script, scriptVersion: version ? { id: version } : undefined });
    // Who carries says until when, for it may be cancelled and never come to its end.
    if (Date.now() >= queue.carriedUntil) await carry(queue, this.env[out]);
  }
}

function add(queue, event, names) {
  let line;
  try {
    line = JSON.stringify({ ...event, ...names });
    if (line.length > itemSize) line = JSON.stringify({ ...JSON.parse(line), logs: [], exceptions: [], truncated: true });
  } catch {
    queue.lost++;
    return;
  }
  if (queue.size + line.length > room) {
    queue.lost++;
    return;
  }
  queue.lines.push(line);
  queue.size += line.length;
}

async function carry(queue, service) {
  let rest = 0;
  try {
    while (queue.lines.length > 0 || queue.lost > 0) {
      queue.carriedUntil = Date.now() + 2 * patience;
      if (queue.size < batchSize) await scheduler.wait(pause);
      const { lines, lost } = take(queue);
      const { taken, unwatched } = await send(service, lost ? [...lines, JSON.stringify({ lost })] : lines);
      if (unwatched) queue.idleUntil = Date.now() + idle;
      if (taken) continue;
      queue.lost += lines.length + lost;
      rest = 1000; // milliseconds until the next one tries
      return;
    }
  } finally {
    queue.carriedUntil = rest && Date.now() + rest;
  }
}

function take(queue) {
  let n = 0;
  for (let size = 0; n < queue.lines.length && size < batchSize; n++) size += queue.lines[n].length;
  const lines = queue.lines.splice(0, n);
  for (const line of lines) queue.size -= line.length;
  const lost = queue.lost;
  queue.lost = 0;
  return { lines, lost };
}

// send tells whether the node has taken a batch, and whether nobody watches. Scripts must not notice if
// it has not.
async function send(service, lines) {
  try {
    const answer = await service.fetch("http://trace/", { method: "POST", body: "[" + lines.join(",") + "]", signal: AbortSignal.timeout(patience) });
    return { taken: answer.ok, unwatched: answer.headers.has("x-selvage-unwatched") };
  } catch {
    return { taken: false, unwatched: false };
  }
}

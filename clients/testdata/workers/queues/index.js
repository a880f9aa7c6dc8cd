// Sends batches to a queue that it consumes itself, and tells which batches it was given. A message's
// body says what becomes of it. What was seen stands in a Durable Object: events and requests need not
// meet in one isolate.
import { DurableObject } from "cloudflare:workers";

export class Seen extends DurableObject {
  #list = [];
  add(batch) { this.#list.push(batch); }
  get() { return this.#list; }
  clear() { this.#list = []; }
}

const steps = {
  full: [{ n: 1 }, { n: 2 }, { n: 3 }],
  more: [{ n: 1 }, { n: 2 }, { n: 3 }, { n: 4 }],
  few: [{ n: 1 }],
  acked: [{ n: 1, does: "ack" }, { n: 2, does: "ack" }, { n: 3 }],
  "one-again": [{ n: 1 }, { n: 2, does: "retry", until: 2 }, { n: 3 }],
  "one-dies": [{ n: 1 }, { n: 2, does: "retry", until: 9 }, { n: 3, does: "ack" }],
  "all-again": [{ n: 1, does: "retryAll", until: 2 }, { n: 2 }, { n: 3 }],
  throws: [{ n: 1, does: "throw", until: 2 }, { n: 2 }, { n: 3 }],
  "throws-always": [{ n: 1, does: "throw", until: 9 }, { n: 2 }],
  "ack-all": [{ n: 1, does: "ackAll" }, { n: 2 }, { n: 3 }],
  types: "types",
};

async function send(env, step) {
  if (step !== "types") return env.OUT.sendBatch(step.map((body) => ({ body })));
  await env.OUT.send("words", { contentType: "text" });
  await env.OUT.send(new Uint8Array([0, 128, 255]), { contentType: "bytes" });
  await env.OUT.send({ deep: [1, null, "ü"] });
  await env.OUT.send(new Map([[1, new Date(5)]]), { contentType: "v8" });
}

function shown(body) {
  if (body instanceof Map) return ["map", ...body.keys(), ...[...body.values()].map((d) => d.getTime())];
  if (body instanceof ArrayBuffer || ArrayBuffer.isView(body)) return ["bytes", ...new Uint8Array(body)];
  return body;
}

// deadly are the steps after which a batch has to come from the queue of dead letters.
const deadly = ["one-dies", "throws-always"];

// settled waits until nothing was delivered for a while, and what has to come has come.
async function settled(seen, name) {
  let list = [];
  for (let last = -1, calm = 0, tries = 0; calm < 7 && tries < 80; tries++, await scheduler.wait(500)) {
    list = await seen.get();
    const whole = !deadly.includes(name) || list.some(([queue]) => queue === "dead");
    calm = whole && list.length === last && last > 0 ? calm + 1 : 0;
    last = list.length;
  }
  return list;
}

async function refusals(env) {
  const said = {};
  const attempt = async (name, f) => {
    try { await f(); said[name] = "taken"; } catch { said[name] = "refused"; }
  };
  await attempt("a large message", () => env.OUT.send("x".repeat(129_000), { contentType: "text" }));
  await attempt("101 messages", () => env.OUT.sendBatch(Array(101).fill({ body: 1 })));
  await attempt("no message", () => env.OUT.sendBatch([]));
  await attempt("a content type", () => env.OUT.send("x", { contentType: "xml" }));
  await attempt("a long delay", () => env.OUT.send("x", { delaySeconds: 86_401 }));
  await attempt("undefined", () => env.OUT.send(undefined));
  return said;
}

export default {
  async fetch(request, env) {
    const name = new URL(request.url).pathname.slice(1);
    if (name === "refusals") return Response.json(await refusals(env));
    if (name === "metrics") return Response.json(Object.keys(await env.OUT.metrics()).sort());
    if (!steps[name]) return Response.json(Object.keys(steps));
    const seen = env.SEEN.getByName("seen");
    await seen.clear();
    await send(env, steps[name]);
    return Response.json(await settled(seen, name));
  },

  async queue(batch, env) {
    const queue = batch.queue.endsWith("-dead") ? "dead" : "work";
    await env.SEEN.getByName("seen").add([queue, batch.messages.map((m) => [shown(m.body), m.attempts])]);
    if (queue === "dead") return;
    for (const m of batch.messages) {
      const { does, until } = m.body ?? {};
      if (until && m.attempts >= until) continue;
      switch (does) {
        case "ack": m.ack(); break;
        case "retry": m.retry(); break;
        case "ackAll": batch.ackAll(); break;
        case "retryAll": batch.retryAll(); break;
        case "throw": throw new Error("as asked");
      }
    }
  },
};

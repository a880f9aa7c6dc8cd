// The Worker of the tests of everything that is stored: POST /put/PRODUCT/N stores number N, POST
// /has/PRODUCT/N says whether it is there, whole.
import { DurableObject } from "cloudflare:workers";

// content is a text that only N has: some are large enough to be files.
const content = (n) => `number ${n} `.repeat(n % 10 === 0 ? 20_000 : 5);

export class Numbers extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY, text TEXT)");
  }
  put(n) {
    this.ctx.storage.sql.exec("INSERT OR REPLACE INTO numbers VALUES (?, ?)", n, content(n));
  }
  has(n) {
    return this.ctx.storage.sql.exec("SELECT text FROM numbers WHERE n = ?", n).toArray()[0]?.text === content(n);
  }
}

const products = {
  kv: {
    put: (n, env) => env.KV.put(`number/${n}`, content(n), { metadata: { n } }),
    has: async (n, env) => {
      const { value, metadata } = await env.KV.getWithMetadata(`number/${n}`);
      return value === content(n) && metadata?.n === n;
    },
  },
  r2: {
    put: (n, env) => env.BUCKET.put(`number/${n}`, content(n), { customMetadata: { n: String(n) } }),
    has: async (n, env) => {
      const object = await env.BUCKET.get(`number/${n}`);
      return object !== null && (await object.text()) === content(n) && object.customMetadata.n === String(n);
    },
  },
  d1: {
    put: (n, env) => env.DB.prepare("INSERT OR REPLACE INTO numbers VALUES (?, ?)").bind(n, content(n)).run(),
    has: async (n, env) => (await env.DB.prepare("SELECT text FROM numbers WHERE n = ?").bind(n).first("text")) === content(n),
  },
  objects: {
    put: (n, env) => env.OBJECTS.get(env.OBJECTS.idFromName(`object ${n % 3}`)).put(n),
    has: (n, env) => env.OBJECTS.get(env.OBJECTS.idFromName(`object ${n % 3}`)).has(n),
  },
  // What was sent comes to the consumer below, which writes it to KV.
  queues: {
    put: (n, env) => env.QUEUE.send({ n, text: content(n % 10 === 0 ? 1 : n) }),
    has: async (n, env) => (await env.KV.get(`received/${n}`)) !== null,
  },
};

export default {
  async fetch(request, env) {
    const [, op, product, n] = new URL(request.url).pathname.split("/");
    if (op === "setup") {
      await env.DB.exec("CREATE TABLE IF NOT EXISTS numbers (n INTEGER PRIMARY KEY, text TEXT)");
      return new Response("ready");
    }
    try {
      const answer = await products[product][op](Number(n), env);
      return Response.json(op === "put" ? true : answer);
    } catch (e) {
      return new Response(String(e), { status: 500 });
    }
  },
  async queue(batch, env) {
    for (const message of batch.messages) {
      await env.KV.put(`received/${message.body.n}`, message.body.text);
      message.ack();
    }
  },
};

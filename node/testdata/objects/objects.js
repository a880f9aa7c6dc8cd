// The Worker of the tests of Durable Objects: /CLASS/OP/NAME asks an object.
import { DurableObject } from "cloudflare:workers";

const VERSION = "VERSION"; // each deployment writes its own here

// Every instance signs its storage when it begins. One that later finds another's signature, or a count
// that it did not write, has met a second living instance of its ID.
class Signed extends DurableObject {
  constructor(ctx, env) {
    super(ctx, env);
    this.life = crypto.randomUUID();
    ctx.blockConcurrencyWhile(async () => {
      await this.write("life", this.life);
      this.n = (await this.read("n")) ?? 0;
    });
  }

  async add() {
    const life = await this.read("life"), n = (await this.read("n")) ?? 0;
    if (life !== this.life || n !== this.n) throw new Error(`foreign: I am ${this.life} at ${this.n}, found ${life} at ${n}`);
    await this.write("n", this.n = n + 1);
    return { n: n + 1, life, version: VERSION };
  }

  async get() {
    return { n: this.n, life: this.life, version: VERSION, name: this.ctx.id.name, fired: await this.read("fired"), closed: await this.read("closed") };
  }

  async fill(bytes) {
    const slots = (await this.read("slots")) ?? 0;
    await this.write("slot" + slots, crypto.getRandomValues(new Uint8Array(Math.min(bytes, 65536))));
    await this.write("slots", slots + 1);
    return this.add();
  }

  async alarmIn(ms) {
    await this.ctx.storage.setAlarm(Date.now() + ms);
    return {};
  }

  async alarm(info) {
    await this.write("fired", [...((await this.read("fired")) ?? []), { at: Date.now(), version: VERSION, retry: info?.retryCount ?? 0 }]);
  }

  fetch(request) {
    const { 0: client, 1: server } = new WebSocketPair();
    this.ctx.acceptWebSocket(server, ["tag"]);
    server.serializeAttachment({ born: this.life });
    return new Response(null, { status: 101, webSocket: client });
  }

  async webSocketMessage(ws, message) {
    ws.send(JSON.stringify({ message, life: this.life, born: ws.deserializeAttachment().born, sockets: this.ctx.getWebSockets("tag").length, version: VERSION }));
  }

  async webSocketClose(ws, code, reason, clean) {
    await this.write("closed", { code, clean, version: VERSION });
  }
}

export class Rows extends Signed {
  constructor(ctx, env) {
    ctx.storage.sql.exec("CREATE TABLE IF NOT EXISTS kept (name TEXT PRIMARY KEY, value BLOB)");
    super(ctx, env);
  }
  async read(name) {
    const row = this.ctx.storage.sql.exec("SELECT value FROM kept WHERE name = ?", name).toArray()[0];
    return row && (typeof row.value === "string" ? JSON.parse(row.value) : row.value);
  }
  async write(name, value) {
    this.ctx.storage.sql.exec("INSERT OR REPLACE INTO kept VALUES (?, ?)", name, value instanceof Uint8Array ? value : JSON.stringify(value));
  }
}

export class Pairs extends Signed {
  read(name) { return this.ctx.storage.get(name); }
  write(name, value) { return this.ctx.storage.put(name, value); }
}

export default {
  async fetch(request, env) {
    const { pathname, searchParams } = new URL(request.url);
    const [, space, op, name] = pathname.split("/");
    if (op === "unique") return Response.json({ id: env[space].newUniqueId().toString() });
    if (op === "idof") return Response.json({ id: env[space].idFromName(name).toString() });
    try {
      const id = /^[0-9a-f]{64}$/.test(name) ? env[space].idFromString(name) : env[space].idFromName(name);
      const stub = env[space].get(id);
      if (op === "ws") return await stub.fetch(request);
      const result = await stub[op](Number(searchParams.get("arg") ?? 0));
      return Response.json(result);
    } catch (e) {
      return new Response(String(e), { status: String(e).includes("foreign") ? 409 : 500 });
    }
  },
};

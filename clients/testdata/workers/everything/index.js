import { DurableObject } from "cloudflare:workers";
import words from "./words.txt";
import add from "./add.wasm";

export class Counter extends DurableObject {
  async increment() {
    const n = (await this.ctx.storage.get("n") ?? 0) + 1;
    await this.ctx.storage.put("n", n);
    return n;
  }
}

export default {
  async fetch(request, env, ctx) {
    const url = new URL(request.url);
    switch (url.pathname.split("/").pop()) {
      case "vars":
        return Response.json({ text: env.TEXT, object: env.OBJECT, words: words.trim() });
      case "wasm":
        return Response.json((await WebAssembly.instantiate(add)).exports.add(40, 2));
      case "counter":
        return Response.json(await env.COUNTER.get(env.COUNTER.idFromName(url.search)).increment());
      case "bound":
        return env.CALLEE.fetch("https://callee/path", { method: "POST", body: await request.text() });
      case "rpc": {
        using counter = await env.MATHS.counter(5);
        await counter.add(2);
        return Response.json([await env.MATHS.sum(1, 2, 3), await counter.value, await env.MATHS.map([1, 2], (x) => x * 10)]);
      }
      case "limit":
        return Response.json(await env.LIMIT.limit({ key: url.search }));
      case "point":
        env.POINTS.writeDataPoint({ blobs: ["blue", url.search], doubles: [1.5, 2], indexes: ["i"] });
        return new Response(null, { status: 204 });
      case "version":
        return Response.json(env.VERSION);
      case "asset":
        return env.ASSETS.fetch(new URL("/page", url));
      case "cached": {
        const key = new Request(new URL("/kept", url));
        const kept = await caches.default.match(key);
        if (kept) return kept;
        const fresh = new Response("made at " + Math.random(), { headers: { "cache-control": "max-age=600" } });
        ctx.waitUntil(caches.default.put(key, fresh.clone()));
        return fresh;
      }
    }
    return new Response(`first NAME ${url.pathname}`);
  },
  async scheduled(controller, env) {
    await env.COUNTER.get(env.COUNTER.idFromName("?cron")).increment();
  },
};

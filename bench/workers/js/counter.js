import { DurableObject } from "cloudflare:workers";

// Counter counts its requests; each count is on disk before it is answered.
export class Counter extends DurableObject {
  async fetch() {
    const count = ((await this.ctx.storage.get("count")) ?? 0) + 1;
    this.ctx.storage.put("count", count);
    return new Response(String(count));
  }
}

export default {
  fetch(request, env) {
    return env.COUNTER.getByName(new URL(request.url).pathname).fetch(request);
  },
};

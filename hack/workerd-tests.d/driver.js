// Stands before the main module of a test and runs its tests, one for each request, as `workerd test` does.
import * as main from "MAIN";
import { WorkerEntrypoint } from "cloudflare:workers";
export * from "MAIN";
/*DEFAULT*/
const instance = (value, ctx, env) => (typeof value === "function" ? new value(ctx, env) : value);
const hasTest = (value) => value !== null && (typeof value === "object" ? typeof value.test === "function" : typeof value === "function" && typeof value.prototype?.test === "function");

export class SelvageTests extends WorkerEntrypoint {
  // GET / lists the tests, GET /?NAME runs one.
  async fetch(request) {
    const name = decodeURIComponent(new URL(request.url).search.slice(1));
    if (!name) return Response.json(Object.keys(main).filter((n) => hasTest(main[n])));
    try {
      await instance(main[name], this.ctx, this.env).test({}, this.env, this.ctx);
      return Response.json("");
    } catch (e) {
      let text = "";
      try {
        text = String(e?.stack ?? e);
      } catch {}
      return Response.json((text || "threw something unprintable").slice(0, 4000));
    }
  }
}

// Runs a Worker with a D1 database under miniflare and prints what it answers.
import { readFileSync } from "node:fs";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

const mf = new Miniflare(convertV4MiniflareOptions({
  modules: true, script: readFileSync(process.argv[2], "utf8"), compatibilityDate: "2026-11-01", d1Databases: { DB: "db" }, d1Persist: false,
}));
console.log(await (await mf.dispatchFetch("http://worker.test/")).text());
await mf.dispose();

// Serves a Worker under miniflare with a database on the disk.
// Arguments: the script, the folder of the data, the port.
import { readFileSync } from "node:fs";
import { convertV4MiniflareOptions, Miniflare } from "miniflare";

const [script, folder, port] = process.argv.slice(2);
const mf = new Miniflare(convertV4MiniflareOptions({
  modules: true, script: readFileSync(script, "utf8"), compatibilityDate: "2026-11-01", d1Databases: { DB: "bench" }, d1Persist: folder, host: "127.0.0.1", port: Number(port),
}));
await mf.ready;

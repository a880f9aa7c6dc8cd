// Serves the Worker in the file of the first argument under miniflare, KV kept in the folder of the second,
// on the port of the third.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
const { Miniflare, convertV4MiniflareOptions } = createRequire(process.env.MINIFLARE_FROM)("miniflare");

const mf = new Miniflare(convertV4MiniflareOptions({
	modules: true, script: readFileSync(process.argv[2], "utf8"), compatibilityDate: "2026-04-01", kvNamespaces: { KV: "bench" }, kvPersist: process.argv[3],
	host: "127.0.0.1", port: Number(process.argv[4]),
}));
await mf.ready;
process.on("SIGTERM", async () => { await mf.dispose(); process.exit(0); });

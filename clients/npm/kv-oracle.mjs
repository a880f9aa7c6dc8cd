// Runs the Worker named by the first argument under miniflare, has it do the operations in the file named
// by the second, and prints its answer.
import { readFileSync } from "node:fs";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";

const mf = new Miniflare(convertV4MiniflareOptions({
	modules: true, script: readFileSync(process.argv[2], "utf8"), compatibilityDate: "2026-04-01", kvNamespaces: { KV: "oracle" },
}));
const res = await mf.dispatchFetch("http://oracle/", { method: "POST", body: readFileSync(process.argv[3], "utf8") });
process.stdout.write(await res.text());
await mf.dispose();

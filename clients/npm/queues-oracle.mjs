// Runs the Worker named by the first argument under miniflare and prints what each of its steps answers.
import { readFileSync } from "node:fs";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";

const mf = new Miniflare(convertV4MiniflareOptions({
	modules: true, script: readFileSync(process.argv[2], "utf8"), compatibilityDate: "2026-04-01",
	durableObjects: { SEEN: { className: "Seen", useSQLite: true } },
	queueProducers: { OUT: "q-work" },
	queueConsumers: {
		"q-work": { maxBatchSize: 3, maxBatchTimeout: 1, maxRetries: 2, deadLetterQueue: "q-dead" },
		"q-dead": { maxBatchSize: 3, maxBatchTimeout: 1 },
	},
}));
const out = {};
for (const step of await (await mf.dispatchFetch("http://oracle/")).json()) {
	out[step] = await (await mf.dispatchFetch("http://oracle/" + step)).json();
}
for (const step of ["refusals", "metrics"]) {
	out[step] = await (await mf.dispatchFetch("http://oracle/" + step)).json();
}
await mf.dispose();
process.stdout.write(JSON.stringify(out));

// Does n operations on KV, at most c at once, and answers with the milliseconds that they took.
const value = "v".repeat(288); // the median of values at Cloudflare
const ops = {
	put: (kv, i) => kv.put("key" + i, value), get: (kv, i) => kv.get("key" + (i % 100)), none: (kv, i) => kv.get("none" + i),
	list: (kv) => kv.list({ limit: 100 }), large: (kv, i) => kv.put("large" + (i % 10), value.repeat(4000)), getlarge: (kv, i) => kv.get("large" + (i % 10), "arrayBuffer"),
};
export default {
	async fetch(request, env) {
		const q = new URL(request.url).searchParams, op = ops[q.get("op")], n = Number(q.get("n")), from = Number(q.get("from") ?? 0);
		let next = 0;
		await Promise.all(Array.from({ length: Number(q.get("c")) }, async () => { while (next < n) await op(env.KV, from + next++); }));
		return new Response("done");
	},
};

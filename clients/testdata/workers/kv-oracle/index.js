// Does the operations that a request lists, one after the other, and answers with what came of each.
const bytes = (hex) => Uint8Array.from(hex.match(/../g) ?? [], (b) => parseInt(b, 16));
const hex = (buffer) => [...new Uint8Array(buffer)].map((b) => b.toString(16).padStart(2, "0")).join("");

// given makes an argument of what JSON can say.
function given(v) {
	if (!v || typeof v !== "object" || Array.isArray(v)) return v;
	if (v.bytes !== undefined) return bytes(v.bytes);
	if (v.buffer !== undefined) return bytes(v.buffer).buffer;
	if (v.stream !== undefined) return new Response(v.stream.repeat(v.times ?? 1)).body;
	if (v.slow !== undefined) {
		let n = 0;
		return new ReadableStream({ type: "bytes", pull(c) { if (n++ === v.slow) c.close(); else c.enqueue(new Uint8Array(v.each).fill(97)); } });
	}
	if (v.repeat !== undefined) return v.repeat.repeat(v.times);
	if (v.keys !== undefined) return Array.from({ length: v.keys }, (_, i) => "key" + i);
	if (v.wide !== undefined) return { wide: "m".repeat(v.wide) };
	return v;
}

async function told(v) {
	if (v === undefined) return "undefined";
	if (v instanceof ReadableStream) return { stream: await summary(await new Response(v).arrayBuffer()) };
	if (v instanceof ArrayBuffer) return { buffer: await summary(v) };
	if (v instanceof Map) return { map: await Promise.all([...v].map(async ([k, x]) => [k, await told(x)])) };
	if (typeof v === "string" && v.length > 1000) return { text: await summary(new TextEncoder().encode(v)) };
	if (Array.isArray(v)) return Promise.all(v.map(told));
	if (v && typeof v === "object") return Object.fromEntries(await Promise.all(Object.entries(v).map(async ([k, x]) => [k, await told(x)])));
	return v;
}

async function summary(data) {
	return data.byteLength <= 1000 ? hex(data) : data.byteLength + " bytes " + hex(await crypto.subtle.digest("SHA-256", data));
}

export default {
	async fetch(request, env) {
		const out = [];
		for (const [name, ...args] of await request.json()) {
			try {
				const made = args.map((a) => (a && a.metadata?.wide ? { ...a, metadata: given(a.metadata) } : given(a)));
				out.push(await told(await env.KV[name](...made)));
			} catch (e) {
				out.push({ error: `${e.name}: ${e.message}` });
			}
		}
		return Response.json(out);
	},
};

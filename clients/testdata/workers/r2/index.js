// Everything that the binding of a bucket can do, with what it says about it. What differs from run to run
// (times, versions, ids of uploads) is left out.
const steps = {
	async kinds(b) {
		const out = [];
		const text = "körper";
		const bytes = new TextEncoder().encode(text);
		const fixed = () => {
			const { readable, writable } = new FixedLengthStream(bytes.length);
			const w = writable.getWriter();
			w.write(bytes);
			w.close();
			return readable;
		};
		const kinds = {
			string: text, buffer: bytes.buffer, view: bytes.subarray(1, 4), blob: new Blob([bytes]), stream: fixed(),
			response: new Response(text).body, empty: "", none: null,
		};
		for (const [name, value] of Object.entries(kinds)) {
			out.push(told(await b.put("kind/" + name, value)));
			const got = await b.get("kind/" + name);
			out.push(await got.text());
		}
		out.push(await failing(() => b.put("kind/unknown", new ReadableStream({ start(c) { c.enqueue(bytes); c.close(); } }))));
		const got = await b.get("kind/string");
		out.push(got.bodyUsed, (await got.arrayBuffer()).byteLength, got.bodyUsed);
		await b.put("kind/json", '{"a":[1,2]}');
		out.push(await (await b.get("kind/json")).json());
		const blob = await (await b.get("kind/json")).blob();
		out.push(blob.size, blob.type);
		out.push(await new Response((await b.get("kind/json")).body).text());
		return out;
	},

	async metadata(b) {
		const out = [];
		const all = {
			httpMetadata: {
				contentType: "text/x-test", contentLanguage: "sl", contentDisposition: 'attachment; filename="a.txt"', contentEncoding: "identity",
				cacheControl: "max-age=7", cacheExpiry: new Date("2030-01-02T03:04:05.678Z"),
			},
			customMetadata: { a: "1", "ключ": "значение", empty: "" },
		};
		out.push(told(await b.put("meta/all", "x", all)));
		out.push(told(await b.head("meta/all")), told(await b.get("meta/all")));
		const headers = new Headers({ "content-language": "xx" });
		(await b.head("meta/all")).writeHttpMetadata(headers);
		out.push([...headers]);
		const given = new Headers({ "content-type": "a/b", "cache-control": "no-store", expires: "Wed, 02 Jan 2030 03:04:05 GMT", "content-language": "de", "x-other": "1" });
		out.push(told(await b.put("meta/headers", "x", { httpMetadata: given })));
		out.push(told(await b.head("meta/headers")));
		out.push(told(await b.put("meta/bare", "x")), told(await b.head("meta/bare")));
		out.push(await failing(() => b.put("meta/large", "x", { customMetadata: { k: "v".repeat(9000) } })));
		return out;
	},

	async checksums(b) {
		const out = [];
		const data = new TextEncoder().encode("check me");
		for (const [name, algorithm] of Object.entries({ md5: "MD5", sha1: "SHA-1", sha256: "SHA-256", sha384: "SHA-384", sha512: "SHA-512" })) {
			const sum = await crypto.subtle.digest(algorithm, data);
			const hex = [...new Uint8Array(sum)].map((v) => v.toString(16).padStart(2, "0")).join("");
			out.push(told(await b.put("sum/" + name, data, { [name]: sum })));
			out.push(told(await b.put("sum/" + name, data, { [name]: hex })));
			out.push((await b.head("sum/" + name)).checksums.toJSON());
			out.push(await failing(() => b.put("sum/wrong", "else", { [name]: sum })));
			out.push(await failing(() => b.put("sum/wrong", data, { [name]: hex.slice(2) })));
		}
		out.push(await failing(() => b.put("sum/two", data, { md5: "0".repeat(32), sha1: "0".repeat(40) })));
		out.push(await b.head("sum/wrong"));
		return out;
	},

	async ranges(b) {
		const out = [];
		await b.put("range", "0123456789");
		const wanted = [
			{ offset: 3 }, { offset: 3, length: 2 }, { length: 4 }, { suffix: 3 }, { suffix: 30 }, { offset: 8, length: 100 }, { offset: 0, length: 1 },
			{ offset: 11 }, { offset: 10 }, { offset: 2, length: 0 }, { suffix: 0 }, { offset: -1 }, { offset: 1.5 }, { suffix: 1, length: 1 }, {},
		];
		for (const range of wanted) {
			out.push(range, await failing(async () => {
				const got = await b.get("range", { range });
				return [got.range, got.size, await got.text()];
			}));
		}
		for (const field of ["bytes=2-4", "bytes=7-", "bytes=-2", "bytes=0-1,4-5", "bytes=x", "lines=1-2", "bytes=5-1000"]) {
			out.push(field, await failing(async () => {
				const got = await b.get("range", { range: new Headers({ range: field }) });
				return [got.range, await got.text()];
			}));
		}
		return out;
	},

	async conditions(b) {
		const out = [];
		const { etag, uploaded } = await b.put("cond", "first");
		const before = new Date(uploaded.getTime() - 5000), after = new Date(uploaded.getTime() + 5000);
		const all = [
			{ etagMatches: etag }, { etagMatches: "other" }, { etagDoesNotMatch: etag }, { etagDoesNotMatch: "other" }, { uploadedBefore: after }, { uploadedBefore: before },
			{ uploadedAfter: before }, { uploadedAfter: after }, { etagMatches: "*" }, { etagDoesNotMatch: "*" }, { etagMatches: etag, uploadedBefore: before },
			{ etagDoesNotMatch: "other", uploadedAfter: after }, { uploadedAfter: uploaded }, { uploadedAfter: uploaded, secondsGranularity: true }, { etagMatches: `W/"${etag}"` },
		];
		for (const [i, onlyIf] of all.entries()) {
			out.push(i, await failing(async () => {
				const got = await b.get("cond", { onlyIf });
				return [got.constructor.name, "body" in got ? await got.text() : null];
			}));
		}
		const fields = [
			{ "if-match": `"${etag}"` }, { "if-match": '"no", "none"' }, { "if-none-match": `W/"${etag}"` }, { "if-none-match": "*" }, { "if-none-match": '"no"' },
			{ "if-modified-since": before.toUTCString() }, { "if-modified-since": after.toUTCString() }, { "if-unmodified-since": before.toUTCString() },
		];
		for (const f of fields) {
			out.push(await failing(async () => "body" in (await b.get("cond", { onlyIf: new Headers(f) }))));
		}
		out.push(told(await b.put("cond", "second", { onlyIf: { etagMatches: "other" } })));
		out.push(await (await b.get("cond")).text());
		out.push(told(await b.put("cond", "third", { onlyIf: { etagMatches: etag } })));
		out.push(told(await b.put("cond", "fourth", { onlyIf: { etagDoesNotMatch: "*" } })));
		out.push(told(await b.put("cond/new", "made", { onlyIf: { etagDoesNotMatch: "*" } })));
		out.push(told(await b.put("cond/absent", "x", { onlyIf: { etagMatches: "*" } })));
		out.push(told(await b.put("cond/absent", "x", { onlyIf: { uploadedAfter: before } })));
		out.push(await b.get("cond/absent", { onlyIf: { etagMatches: "*" } }));
		out.push(await (await b.get("cond")).text());
		return out;
	},

	async absent(b) {
		return [await b.get("nothing"), await b.head("nothing"), await b.delete("nothing") ?? "void", await failing(() => b.get("k".repeat(1025))),
			await failing(() => b.head("k".repeat(1025))), await failing(() => b.put("k".repeat(1025), "")), told(await b.put("k".repeat(1024), "")), await failing(() => b.delete("k".repeat(1025)))];
	},

	async keys(b) {
		const out = [];
		const keys = ["a/b//c", "/lead", "trail/", "..", "../up", "with space", "q?x=1#f", "%2F", "ünï", "\u{1F600}", "\n", "\u0001", "日本"];
		for (const key of keys) {
			out.push(told(await b.put("keys:" + key, key)), await (await b.get("keys:" + key)).text());
		}
		const page = await b.list({ prefix: "keys:" });
		out.push(page.objects.map((o) => o.key));
		await b.delete(keys.map((k) => "keys:" + k));
		out.push((await b.list({ prefix: "keys:" })).objects.length);
		return out;
	},

	async listing(b) {
		const out = [];
		const keys = ["l/a", "l/b/1", "l/b/2", "l/b/c/3", "l/d", "l/e/1", "l/f", "l/g--1", "l/g--2"];
		for (const key of keys) {
			await b.put(key, key, { httpMetadata: { contentType: "t/" + key.length }, customMetadata: { key } });
		}
		const show = (p) => [p.objects.map(told), p.truncated, p.delimitedPrefixes, p.cursor === undefined];
		const asked = [
			{}, { prefix: "l/b/" }, { prefix: "l/", delimiter: "/" }, { prefix: "l/b", delimiter: "/" }, { prefix: "l/", delimiter: "--" }, { prefix: "l/", startAfter: "l/b/1" },
			{ prefix: "l/", limit: 3 }, { prefix: "l/", delimiter: "/", limit: 2 }, { prefix: "l/", include: ["httpMetadata"] }, { prefix: "l/", include: ["customMetadata"], limit: 2 },
			{ prefix: "l/", include: ["httpMetadata", "customMetadata"] }, { prefix: "none" }, { prefix: "l/", delimiter: "" }, { prefix: "l/", startAfter: "zzz" },
		];
		for (const o of asked) {
			out.push(o, show(await b.list({ prefix: "l/", ...o })));
		}
		for (const o of [{ prefix: "l/", limit: 2 }, { prefix: "l/", delimiter: "/", limit: 1 }, { prefix: "l/", limit: 9 }]) {
			let cursor;
			const pages = [];
			do {
				const p = await b.list({ ...o, cursor });
				pages.push([p.objects.map((x) => x.key), p.delimitedPrefixes, p.truncated]);
				cursor = p.truncated ? p.cursor : undefined;
			} while (cursor);
			out.push(pages);
		}
		for (const limit of [0, 1001, -1]) {
			out.push(limit, await failing(async () => show(await b.list({ prefix: "l/", limit }))));
		}
		out.push(await failing(() => b.list({ include: ["nothing"] })));
		return out;
	},

	async deletes(b) {
		const keys = Array.from({ length: 30 }, (_, i) => "del/" + i);
		await Promise.all(keys.map((k) => b.put(k, k)));
		await b.delete("del/0");
		const left = (await b.list({ prefix: "del/" })).objects.length;
		await b.delete([...keys, "del/never"]);
		return [left, (await b.list({ prefix: "del/" })).objects.length, await failing(() => b.delete([]))];
	},

	async multipart(b) {
		const out = [];
		const MiB = 1 << 20;
		const part = (n, size) => new Uint8Array(size).fill(65 + n);
		const up = await b.createMultipartUpload("mp/one", { httpMetadata: { contentType: "a/b" }, customMetadata: { m: "p" } });
		out.push(up.key, typeof up.uploadId);
		out.push(await b.head("mp/one"));
		const p2 = await up.uploadPart(2, part(2, 100));
		const p1 = await up.uploadPart(1, part(1, 5 * MiB));
		out.push(p1.partNumber, typeof p1.etag, p2.partNumber);
		const again = b.resumeMultipartUpload("mp/one", up.uploadId);
		const p1b = await again.uploadPart(1, part(3, 5 * MiB));
		out.push(await failing(() => up.complete([{ ...p1b, etag: "wrong" }, p2])));
		out.push(await failing(() => up.complete([p1b, p2, { partNumber: 3, etag: "x" }])));
		out.push(await failing(() => up.complete([p2, p1b])));
		const done = await up.complete([p1b, p2]);
		out.push(told(done), done.etag.endsWith("-2"));
		out.push(told(await b.head("mp/one")));
		const got = await b.get("mp/one", { range: { offset: 5 * MiB - 3, length: 10 } });
		out.push(await got.text(), got.range);
		out.push((await (await b.get("mp/one")).arrayBuffer()).byteLength);
		out.push(await failing(() => up.uploadPart(1, "late")), await failing(() => up.complete([p1b, p2])), (await up.abort()) ?? "void");
		const small = await b.createMultipartUpload("mp/small");
		const s1 = await small.uploadPart(1, "tiny"), s2 = await small.uploadPart(2, "tiny");
		out.push(await failing(() => small.complete([s1, s2])));
		out.push(told(await small.complete([s1])));
		const gone = await b.createMultipartUpload("mp/gone");
		const g1 = await gone.uploadPart(1, "x");
		await gone.abort();
		out.push((await gone.abort()) ?? "void", await failing(() => gone.uploadPart(2, "x")), await failing(() => gone.complete([g1])), await b.head("mp/gone"));
		out.push(await failing(() => b.resumeMultipartUpload("mp/never", "bm90aGluZw").uploadPart(1, "x")));
		out.push(await failing(() => gone.uploadPart(0, "x")), await failing(() => gone.uploadPart(10001, "x")));
		const uneven = await b.createMultipartUpload("mp/uneven");
		const u1 = await uneven.uploadPart(1, part(1, 5 * MiB)), u2 = await uneven.uploadPart(2, part(2, 5 * MiB + 1)), u3 = await uneven.uploadPart(3, "z");
		out.push(await failing(() => uneven.complete([u1, u2, u3])));
		return out;
	},

	async large(b) {
		const size = 12 << 20;
		const { readable, writable } = new FixedLengthStream(size);
		const fill = (async () => {
			const w = writable.getWriter();
			for (let at = 0; at < size; at += 1 << 18) await w.write(new Uint8Array(1 << 18).fill(at >> 18));
			await w.close();
		})();
		const made = await b.put("large", readable);
		await fill;
		const out = [told(made)];
		let n = 0, sum = 0;
		for await (const chunk of (await b.get("large")).body) {
			n += chunk.length;
			sum = (sum + chunk[0] + chunk[chunk.length - 1]) % 65521;
		}
		out.push(n);
		const short = new FixedLengthStream(100);
		const w = short.writable.getWriter();
		w.write(new Uint8Array(10));
		w.abort(new Error("cut")).catch(() => {});
		out.push((await failing(() => b.put("cut", short.readable)))[0], await b.head("cut"));
		return out;
	},
};

// told is what is known of an object, without what differs each time.
function told(o) {
	if (!o) return o;
	const { key, size, etag, httpEtag, checksums, httpMetadata, customMetadata, range, storageClass } = o;
	const http = { ...httpMetadata };
	if (http.cacheExpiry) http.cacheExpiry = http.cacheExpiry.toISOString();
	const custom = customMetadata && Object.fromEntries(Object.entries(customMetadata).sort());
	return { kind: o.constructor.name, key, size, etag, httpEtag, checksums: checksums.toJSON(), http, custom, range, version: o.version.length, uploaded: o.uploaded instanceof Date };
}

async function failing(f) {
	try {
		return (await f()) ?? "void";
	} catch (e) {
		return ["threw", e.name, e.message];
	}
}

export default {
	async fetch(request, env) {
		const name = new URL(request.url).pathname.slice(1);
		if (name === "") return Response.json(Object.keys(steps));
		try {
			return Response.json(await steps[name](env.BUCKET));
		} catch (e) {
			return Response.json({ broke: e.message, stack: e.stack }, { status: 500 });
		}
	},
};

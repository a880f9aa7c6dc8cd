// What JavaScript programs do with the AWS SDK: prints "ok", or throws.
import assert from "node:assert";
import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import * as aws from "@aws-sdk/client-s3";
import { Upload } from "@aws-sdk/lib-storage";
import { getSignedUrl } from "@aws-sdk/s3-request-presigner";

const Bucket = "javascript";
const s3 = new aws.S3Client({ region: "auto", endpoint: process.env.AWS_ENDPOINT_URL, forcePathStyle: true, maxAttempts: 1 });
const send = (name, args = {}) => s3.send(new aws[name + "Command"]({ Bucket, ...args }));
const refused = async (code, name, args) => assert.equal((await send(name, args).then(() => ({ name: "nothing" }), (e) => e)).name, code, name);
const body = async (args) => Buffer.from(await (await send("GetObject", args)).Body.transformToByteArray());

await send("CreateBucket");
assert.deepEqual((await s3.send(new aws.ListBucketsCommand({}))).Buckets.map((b) => b.Name), [Bucket]);
await send("HeadBucket");

const keys = ["plain.txt", "späcial dir/key with spaces+(parens)&'quote.txt", "100%/a%2Bb", "a//b/", "\u{1F600}"];
for (const Key of keys) {
	const put = await send("PutObject", { Key, Body: Key, Metadata: { hello: "world" } });
	const got = await send("GetObject", { Key, ChecksumMode: "ENABLED" });
	assert.equal(await got.Body.transformToString(), Key);
	assert.equal(got.ETag, put.ETag);
	assert.deepEqual(got.Metadata, { hello: "world" });
	assert.equal(got.ChecksumCRC32, put.ChecksumCRC32);
}
assert.deepEqual((await send("ListObjectsV2")).Contents.map((o) => o.Key).sort(), [...keys].sort());

for (const ChecksumAlgorithm of ["CRC32", "CRC32C", "SHA1", "SHA256"]) {
	// A stream's checksum comes in a trailer.
	await send("PutObject", { Key: "stream", Body: Readable.from([Buffer.from("streamed")]), ContentLength: 8, ChecksumAlgorithm });
	const got = await send("GetObject", { Key: "stream", ChecksumMode: "ENABLED" });
	assert.ok(got["Checksum" + ChecksumAlgorithm], ChecksumAlgorithm);
	assert.equal(await got.Body.transformToString(), "streamed");
}

const large = randomBytes(18 << 20);
await new Upload({ client: s3, params: { Bucket, Key: "large", Body: Readable.from([large]) }, partSize: 5 << 20, queueSize: 3 }).done();
assert.ok((await body({ Key: "large" })).equals(large));
assert.match((await send("HeadObject", { Key: "large" })).ETag, /-4"$/);
assert.ok((await body({ Key: "large", Range: "bytes=5242870-5242890" })).equals(large.subarray(5242870, 5242891)));
await send("CopyObject", { Key: "copied", CopySource: `${Bucket}/large` });
assert.ok((await body({ Key: "copied" })).equals(large));

await refused("PreconditionFailed", "PutObject", { Key: "plain.txt", Body: "no", IfNoneMatch: "*" });
await refused("PreconditionFailed", "PutObject", { Key: "plain.txt", Body: "no", IfMatch: '"0"' });
await refused("NoSuchKey", "GetObject", { Key: "missing" });
await refused("NotFound", "HeadObject", { Key: "missing" });
await refused("NotImplemented", "GetObjectTagging", { Key: "plain.txt" });
await refused("BucketNotEmpty", "DeleteBucket");

const put = await getSignedUrl(s3, new aws.PutObjectCommand({ Bucket, Key: "signed", Metadata: { by: "url" } }), { expiresIn: 60 });
assert.equal((await fetch(put, { method: "PUT", body: "signed content" })).status, 200);
const get = await getSignedUrl(s3, new aws.GetObjectCommand({ Bucket, Key: "signed", ResponseContentType: "text/x" }), { expiresIn: 60 });
const res = await fetch(get);
assert.equal(await res.text(), "signed content");
assert.equal(res.headers.get("content-type"), "text/x");
assert.equal(res.headers.get("x-amz-meta-by"), "url");
assert.equal((await fetch(get.replace("signed", "plain"))).status, 403);

const { Contents } = await send("ListObjectsV2");
await send("DeleteObjects", { Delete: { Objects: Contents.map(({ Key }) => ({ Key })) } });
await send("DeleteBucket");
s3.destroy();
console.log("ok");

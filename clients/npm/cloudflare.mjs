// A zone's life with Cloudflare's own JavaScript SDK. Prints "ok" at the end.
import Cloudflare from 'cloudflare';
import assert from 'node:assert/strict';

const account = process.env.CLOUDFLARE_ACCOUNT_ID;
const client = new Cloudflare({
  apiToken: process.env.CLOUDFLARE_API_TOKEN,
  baseURL: process.env.CLOUDFLARE_API_BASE_URL,
  maxRetries: 0,
});

assert.equal((await client.user.tokens.verify()).status, 'active');
const zone = await client.zones.create({ account: { id: account }, name: 'npm.test', type: 'full' });
assert.equal(zone.status, 'active');

const names = [];
for (let i = 0; i < 7; i++) {
  const record = await client.dns.records.create({
    zone_id: zone.id, type: 'A', name: `h${i}`, content: `192.0.2.${i + 1}`, ttl: 300, comment: 'by npm',
  });
  names.push(record.name);
}
const listed = [];
for await (const record of client.dns.records.list({ zone_id: zone.id, per_page: 5 })) listed.push(record.name);
assert.deepEqual(listed.sort(), names.sort());

const srv = await client.dns.records.create({
  zone_id: zone.id, type: 'SRV', name: '_sip._tcp', ttl: 300,
  data: { priority: 1, weight: 2, port: 5060, target: 'sip.npm.test' },
});
assert.equal(srv.data.port, 5060);

await client.cache.purge({ zone_id: zone.id, tags: ['one'] });
await assert.rejects(
  client.dns.records.create({ zone_id: zone.id, type: 'A', name: 'bad', content: '999.1.1.1', ttl: 300 }),
  (err) => err.status === 400 && err.errors[0].code > 0,
);
await assert.rejects(client.zones.get({ zone_id: '0'.repeat(32) }), (err) => err.status >= 400 && err.status < 500);
await client.zones.delete({ zone_id: zone.id });
console.log('ok');

// d1-oracle does all that the API of D1 offers, right and wrong, and answers with what came of each.
// It runs here and under miniflare: the answers have to be equal.
export default { async fetch(request, env) {
  const out = [];
  const t = async (name, f) => { try { out.push([name, clean(await f())]); } catch (e) { out.push([name, "THROWS", e.message, e.cause?.message]); } };
  const db = env.DB;
  await t("types", () => db.prepare("select typeof(?1) a, typeof(?2) b, typeof(?3) c, typeof(?4) d, typeof(?5) e, 5/?1 as f, ?6 as g").bind(1, 1.5, "x", null, new Uint8Array([1,2]), 2**53).first());
  await t("big", () => db.prepare("select 9223372036854775807 a, 9007199254740993 b, -9223372036854775808 c, 1e400 d, -1e400 e, 0.1 f, 1e21 g, 1e20 h, 123456789012345680000.0 i, 1e-7 j, 5.0 k, -0.0 l").raw());
  await t("raw types", () => db.prepare("select x'0102' a, null b, 'ü\u0001' c, char(0)||'z' d").raw({columnNames: true}));
  await t("no table", () => db.prepare("select * from nope").all());
  await t("syntax", () => db.prepare("selec 1").all());
  await t("syntax2", () => db.prepare("select (").all());
  await t("empty", () => db.prepare("").all());
  await t("comment", () => db.prepare("-- hello").all());
  await t("two", () => db.prepare("select 1; select 2").all());
  await t("two trailing", () => db.prepare("select 1;  \n").all());
  await t("trailing comment", () => db.prepare("select 1; -- x").all());
  await t("unbound", () => db.prepare("select ?").all());
  await t("toomany", () => db.prepare("select 1").bind(1).all());
  await t("toofew", () => db.prepare("select ?1, ?2").bind(1).all());
  await t("named", () => db.prepare("select :a, @b").bind(1,2).all());
  await t("create", () => db.prepare("create table t(id integer primary key, v text unique not null, n check(n<10))").run());
  await t("insert", () => db.prepare("insert into t values(1,'a',1),(2,'b',2)").run());
  await t("returning", () => db.prepare("insert into t(v) values('c') returning *").run());
  await t("unique", () => db.prepare("insert into t values(1,'z',1)").run());
  await t("unique2", () => db.prepare("insert into t values(9,'a',1)").run());
  await t("notnull", () => db.prepare("insert into t values(9,null,1)").run());
  await t("check", () => db.prepare("insert into t values(9,'q',11)").run());
  await t("mismatch", () => db.prepare("insert into t values('x','q',1)").run());
  await t("all", () => db.prepare("select * from t").all());
  await t("update", () => db.prepare("update t set n=3 where id<3").run());
  await t("first col", () => db.prepare("select * from t").first("v"));
  await t("first nocol", () => db.prepare("select * from t").first("zz"));
  await t("first none", () => db.prepare("select * from t where id=99").first());
  await t("dup", () => db.prepare("select 1 a, 2 a").all());
  await t("dupraw", () => db.prepare("select 1 a, 2 a").raw({columnNames:true}));
  await t("batch", () => db.batch([db.prepare("insert into t(v) values('d')"), db.prepare("select count(*) c from t")]));
  await t("batch fail", () => db.batch([db.prepare("insert into t(v) values('e')"), db.prepare("insert into t(v) values('d')")]));
  await t("count", () => db.prepare("select count(*) c from t").first("c"));
  await t("exec", () => db.exec("create table u(a);\ninsert into u values(1);"));
  await t("exec2", () => db.exec("select 1; select 2;"));
  await t("exec fail", () => db.exec("select 1;\nnonsense;"));
  await t("exec empty", () => db.exec(""));
  await t("dump", () => db.dump().then(x=>x.byteLength));
  await t("session", async () => { const s = db.withSession(); const r = await s.prepare("select 1 a").first(); return [r, s.getBookmark()?.length, typeof s.getBookmark()]; });
  await t("session first-primary", async () => { const s = db.withSession("first-primary"); const b0 = s.getBookmark(); await s.prepare("insert into u values(2)").run(); const b = s.getBookmark(); const s2 = db.withSession(b); const r = await s2.prepare("select count(*) c from u").first(); return [b0, r]; });
  await t("session bad", async () => { const s = db.withSession("garbage"); return s.prepare("select 1").first(); });
  await t("attach", () => db.prepare("attach 'x' as y").run());
  await t("pragma jm", () => db.prepare("pragma journal_mode=delete").run());
  await t("pragma ti", () => db.prepare("pragma table_info(t)").all());
  await t("pragma tl", () => db.prepare("pragma table_list").all());
  await t("pragma fk", () => db.prepare("pragma foreign_keys=off").run());
  await t("begin", () => db.prepare("begin").run());
  await t("savepoint", () => db.prepare("savepoint a").run());
  await t("vacuum", () => db.prepare("vacuum").run());
  await t("load_ext", () => db.prepare("select load_extension('x')").run());
  await t("version", () => db.prepare("select sqlite_version()").run());
  await t("cf table", () => db.prepare("create table _cf_x(a)").run());
  await t("temp table", () => db.prepare("create temp table x(a)").run());
  await t("like", () => db.prepare("select 'x' like '"+"%".repeat(51)+"'").run());
  await t("params 101", () => db.prepare("select "+Array(101).fill("?").join("+")).bind(...Array(101).fill(1)).first());
  await t("params 100", () => db.prepare("select ("+Array(100).fill("?").join("+")+") s").bind(...Array(100).fill(1)).first());
  await t("sql 100k", () => db.prepare("select '"+"x".repeat(100001)+"'").first().then(()=>"ok"));
  await t("columns 101", () => db.prepare("select "+Array(101).fill("1").join(",")).first().then(()=>"ok"));
  await t("create columns 101", () => db.prepare("create table w("+Array.from({length:101},(_, i)=>"c"+i).join(",")+")").run().then(()=>"ok"));
  await t("func args 33", () => db.prepare("select max("+Array(33).fill("1").join(",")+")").first().then(()=>"ok"));
  await t("compound", () => db.prepare(Array(6).fill("select 1").join(" union all ")).all().then(r=>r.results.length));
  await t("compound 11", () => db.prepare(Array(11).fill("select 1").join(" union all ")).all().then(r=>r.results.length));
  await t("expr depth", () => db.prepare("select "+"(".repeat(101)+"1"+")".repeat(101)).first().then(()=>"ok"));
  await t("glob", () => db.prepare("select 'x' glob '"+"*".repeat(51)+"'").run().then(()=>"ok"));
  await t("blob 2.1MB", () => db.prepare("select length(zeroblob(2200000)) a").first());
  await t("blob bind 2.1MB", () => db.prepare("select length(?) a").bind("x".repeat(2_200_000)).first());
  await t("json", () => db.prepare("select json_extract('{\"a\":[1,2]}', '$.a[1]') x, json_group_array(value) y from json_each('[1,2]')").first());
  await t("fts5", () => db.exec("create virtual table f using fts5(a); insert into f values('hello world');"));
  await t("fts5q", () => db.prepare("select snippet(f,0,'[',']','',5) s from f where f match 'hello'").first());
  await t("math", () => db.prepare("select pow(2,10) p, sqrt(2) s, pi() pi").first());
  await t("strict", () => db.prepare("create table st(a int) strict").run().then(()=>"ok"));
  await t("strict bad", () => db.prepare("insert into st values('x')").run());
  await t("fk", () => db.exec("create table p(id integer primary key);\ncreate table ch(p references p(id));"));
  await t("fk bad", () => db.prepare("insert into ch values(5)").run());
  await t("drop", () => db.prepare("drop table p").run());
  await t("trigger raise", () => db.exec("create trigger tr before delete on t begin select raise(abort,'no way'); end"));
  await t("trigger raised", () => db.prepare("delete from t").run());
  await t("bad bind obj", () => db.prepare("select ?").bind({a:1}).all());
  await t("bad bind undef", () => db.prepare("select ?").bind(undefined).all());
  await t("bind bool", () => db.prepare("select ?, ?").bind(true,false).raw());
  await t("bind bigint", () => db.prepare("select ?").bind(10n).raw());
  await t("bind array", () => db.prepare("select typeof(?), hex(?1)").bind([1,255]).raw());
  await t("bind NaN", () => db.prepare("select ?, typeof(?1)").bind(NaN).raw());
  await t("schema", () => db.prepare("select name, type from sqlite_master order by name").all());
  return Response.json(out);
}};

// clean takes out what differs from run to run and from place to place. Rows read and written are among
// it: workerd's SQLite is patched to count them, others estimate.
function clean(v) {
  if (Array.isArray(v)) return v.map(clean);
  if (v?.meta === undefined && v?.duration === undefined) return v;
  const { duration, ...rest } = v;
  if (rest.meta) {
    const { changes, last_row_id, changed_db, ...other } = rest.meta;
    rest.meta = { changes, last_row_id, changed_db };
    rest.fields = Object.keys(other).filter((k) => !k.startsWith("served_by")).sort();
  }
  return rest;
}

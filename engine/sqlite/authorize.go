package sqlite

import (
	"strconv"
	"strings"

	lib "modernc.org/sqlite/lib"

	"selvage/engine/sqlite/raw"
)

// functions are those that strangers may call: those of SQLite that tell nothing of the machine and reach nothing beyond
// the database. load_extension, readfile, writefile, edit, fts3_tokenizer and sqlite_version are not among them.
var functions = setOf(
	"abs", "changes", "char", "coalesce", "concat", "concat_ws", "format", "glob", "hex", "ifnull", "iif", "instr",
	"last_insert_rowid", "length", "like", "likelihood", "likely", "lower", "ltrim", "max_scalar", "min_scalar", "nullif",
	"octet_length", "printf", "quote", "random", "randomblob", "replace", "round", "rtrim", "sign", "soundex", "substr",
	"substring", "total_changes", "trim", "typeof", "unhex", "unicode", "unlikely", "upper", "zeroblob", "date", "time",
	"datetime", "julianday", "unixepoch", "strftime", "timediff", "current_date", "current_time", "current_timestamp", "avg",
	"count", "group_concat", "max", "min", "string_agg", "sum", "total", "row_number", "rank", "dense_rank", "percent_rank",
	"cume_dist", "ntile", "lag", "lead", "first_value", "last_value", "nth_value", "acos", "acosh", "asin", "asinh", "atan",
	"atan2", "atanh", "ceil", "cos", "cosh", "degrees", "exp", "floor", "ln", "log", "log2", "mod", "pi", "pow", "radians",
	"sin", "sinh", "sqrt", "tan", "tanh", "trunc", "json", "jsonb", "json_array", "jsonb_array", "json_array_length",
	"json_extract", "jsonb_extract", "->", "->>", "json_insert", "jsonb_insert", "json_object", "jsonb_object", "json_patch",
	"jsonb_patch", "json_remove", "jsonb_remove", "json_replace", "jsonb_replace", "json_set", "jsonb_set", "json_type",
	"json_valid", "json_quote", "json_group_array", "jsonb_group_array", "json_group_object", "jsonb_group_object",
	"json_each", "json_tree", "match", "highlight", "bm25", "snippet", "rtreecheck", "sqlite_rename_column",
	"sqlite_rename_table", "sqlite_rename_test", "sqlite_drop_column", "sqlite_rename_quotefix", "json_error_position",
	"json_pretty", "subtype",
)

// modules are the virtual tables that strangers may make.
var modules = setOf("fts5", "fts5vocab", "rtree", "rtree_i32")

// argument is what a PRAGMA may be given.
type argument int

const (
	nothing argument = iota
	boolean
	object
	maybeObject
	maybeNumber
	maybeNumberOrObject
)

// pragmas are those that strangers may use. All others are refused, writable_schema and journal_mode first of all.
var pragmas = map[string]argument{
	"data_version": nothing, "page_size": nothing, "page_count": nothing, "freelist_count": nothing, "table_list": maybeObject,
	"case_sensitive_like": boolean, "foreign_keys": boolean, "defer_foreign_keys": boolean, "ignore_check_constraints": boolean,
	"legacy_alter_table": boolean, "recursive_triggers": boolean, "reverse_unordered_selects": boolean,
	"table_info": object, "table_xinfo": object, "foreign_key_check": maybeObject, "foreign_key_list": object,
	"index_info": object, "index_list": object, "index_xinfo": object,
	"quick_check": maybeNumberOrObject, "optimize": maybeNumber,
}

// connectionSettings are pragmas that last as long as the connection: they are undone after the run.
var connectionSettings = []string{
	"PRAGMA case_sensitive_like=0", "PRAGMA foreign_keys=1", "PRAGMA defer_foreign_keys=0", "PRAGMA ignore_check_constraints=0",
	"PRAGMA legacy_alter_table=0", "PRAGMA recursive_triggers=0", "PRAGMA reverse_unordered_selects=0",
}

func setOf(names ...string) map[string]bool {
	m := make(map[string]bool, len(names))
	for _, n := range names {
		m[n] = true
	}
	return m
}

// permitted reports whether strangers may use an object of that name: _cf_ is D1's own.
func permitted(name string) bool {
	return len(name) < 4 || !strings.EqualFold(name[:4], "_cf_")
}

// allow is the authorizer: what it does not know is refused.
func (c *conn) allow(a raw.Action) bool {
	if c.trusted {
		return true
	}
	if a.Op == lib.SQLITE_ALTER_TABLE {
		a.DB, a.First, a.HasFirst = a.First, a.Second, a.HasSecond
	}
	if a.DB == "temp" {
		// The schema of temporary tables may be read and, by DROP and ALTER, updated; nothing can be made there.
		return (a.Op == lib.SQLITE_READ || a.Op == lib.SQLITE_UPDATE) && permitted(a.First)
	}
	if a.DB != "" && a.DB != "main" {
		return false
	}
	switch a.Op {
	case lib.SQLITE_SELECT, lib.SQLITE_RECURSIVE, lib.SQLITE_ANALYZE:
		return true
	case lib.SQLITE_CREATE_TABLE, lib.SQLITE_DROP_TABLE, lib.SQLITE_CREATE_VIEW, lib.SQLITE_DROP_VIEW, lib.SQLITE_INSERT,
		lib.SQLITE_DELETE, lib.SQLITE_READ, lib.SQLITE_UPDATE, lib.SQLITE_REINDEX, lib.SQLITE_ALTER_TABLE:
		return permitted(a.First) && readable(a.First)
	case lib.SQLITE_CREATE_INDEX, lib.SQLITE_DROP_INDEX, lib.SQLITE_CREATE_TRIGGER, lib.SQLITE_DROP_TRIGGER:
		return permitted(a.First) && permitted(a.Second)
	case lib.SQLITE_CREATE_VTABLE, lib.SQLITE_DROP_VTABLE:
		return modules[strings.ToLower(a.Second)] && permitted(a.First)
	case lib.SQLITE_FUNCTION:
		return c.allowFunction(strings.ToLower(a.Second))
	case lib.SQLITE_PRAGMA:
		return c.allowPragma(strings.ToLower(a.First), a.Second, a.HasSecond)
	case lib.SQLITE_TRANSACTION, lib.SQLITE_SAVEPOINT:
		c.prepared.ends = true
	}
	return false
}

// readable refuses the virtual tables that show the database's own pages, or SQL that was prepared.
func readable(name string) bool {
	n := strings.ToLower(name)
	return n != "dbstat" && n != "sqlite_dbpage" && n != "sqlite_stmt" && n != "bytecode" && n != "tables_used"
}

func (c *conn) allowFunction(name string) bool {
	if name == "last_insert_rowid" || name == "changes" || name == "total_changes" {
		c.prepared.session = true
	}
	return functions[name]
}

func (c *conn) allowPragma(name, value string, given bool) bool {
	want, known := pragmas[name]
	if !known {
		return false
	}
	if want == boolean || name == "optimize" {
		c.prepared.settings = true
	}
	if !given {
		return want != object
	}
	number := func() bool { _, err := strconv.ParseInt(value, 10, 32); return err == nil }
	switch want {
	case boolean:
		return isBoolean(value)
	case object, maybeObject:
		return permitted(value)
	case maybeNumber:
		return number()
	case maybeNumberOrObject:
		return number() || permitted(value)
	}
	return false
}

// isBoolean knows the ways SQLite has to say yes and no.
func isBoolean(value string) bool {
	v := strings.ToLower(strings.Trim(value, `'"`))
	switch v {
	case "true", "false", "yes", "no", "on", "off", "1", "0":
		return true
	}
	return false
}

package mysql

import "strings"

// class is what a query means to the session that it runs in.
type class struct {
	settings map[string]string // of a SET that is remembered: statements by what they set
	use      string            // of USE: the database
	kill     *kill
	next     bool   // it says what the next transaction is to be like
	leaves   bool   // it may leave something in the session that cannot be seen
	refused  string // why it cannot be run on connections that are shared; empty if it can
}

// kill is a KILL statement.
type kill struct {
	id    uint32
	whole bool // the connection, not only its query
}

const shared = " is not possible here: Hyperdrive shares connections, and another client would get what it leaves behind"

// classify looks at a query. What it does not understand passes, and has the connection reset before
// somebody else gets it.
func classify(sql string) class {
	words := scan(sql)
	if len(words) == 0 {
		return class{}
	}
	c := class{leaves: words.has("@") || words.has(";")}
	switch first := words[0].text; first {
	case "SET":
		return classifySet(sql, words)
	case "USE":
		if len(words) >= 2 && !words.has(";") {
			c.use = words[1].name()
		}
	case "KILL":
		c.kill = classifyKill(words)
	case "CALL", "DO", "XA", "HELP", "CACHE", "INSTALL":
		c.leaves = true
	case "LOCK", "HANDLER", "PREPARE", "EXECUTE", "DEALLOCATE", "FLUSH":
		if first != "FLUSH" || words.followedBy("FLUSH", "TABLES") {
			c.refused = first + shared
		}
	case "CREATE", "DROP":
		if len(words) > 1 && words[1].text == "TEMPORARY" {
			c.refused = "A temporary table" + shared
		}
	}
	for i, w := range words {
		if (w.text == "GET_LOCK" || w.text == "RELEASE_LOCK" || w.text == "RELEASE_ALL_LOCKS") && i+1 < len(words) && words[i+1].text == "(" {
			c.refused = w.text + "()" + shared
		}
	}
	return c
}

func classifyKill(words words) *kill {
	k := &kill{whole: true}
	rest := words[1:]
	if len(rest) > 0 && (rest[0].text == "QUERY" || rest[0].text == "CONNECTION") {
		k.whole = rest[0].text == "CONNECTION"
		rest = rest[1:]
	}
	if len(rest) != 1 {
		return nil
	}
	for _, ch := range rest[0].text {
		if ch < '0' || ch > '9' || k.id > 1<<28 {
			return nil
		}
		k.id = k.id*10 + uint32(ch-'0')
	}
	return k
}

// classifySet reads SET as far as it can be repeated on another connection.
func classifySet(sql string, words words) class {
	switch {
	case words.has(";"):
		return class{leaves: true}
	case len(words) > 1 && (words[1].text == "PASSWORD" || words[1].text == "ROLE" || words[1].text == "GLOBAL" || words[1].text == "PERSIST" || words[1].text == "DEFAULT"):
		return class{leaves: true}
	case words.has("@") || words.has("("):
		return class{leaves: true} // user variables and what has to be computed live for this query or transaction
	case len(words) > 2 && (words[1].text == "NAMES" || words[1].text == "CHARACTER" || words[1].text == "CHARSET"):
		return class{settings: map[string]string{"NAMES": sql}}
	case words.followedBy("TRANSACTION", "ISOLATION") || words.followedBy("TRANSACTION", "READ"):
		if words[1].text != "SESSION" {
			return class{next: true}
		}
		return class{settings: map[string]string{"TRANSACTION" + words[3].text: sql}}
	}
	// One assignment after the other, each remembered by itself.
	set := map[string]string{}
	for from := 1; from < len(words); {
		to := from
		for to < len(words) && words[to].text != "," {
			to++
		}
		name := assigned(words[from:to])
		if name == "" {
			return class{leaves: true}
		}
		end := len(sql)
		if to < len(words) {
			end = words[to].at
		}
		set[name] = "SET " + sql[words[from].at:end]
		from = to + 1
	}
	return class{settings: set}
}

// assigned returns the system variable of an assignment for the session, or nothing.
func assigned(part words) string {
	if len(part) > 0 && (part[0].text == "SESSION" || part[0].text == "LOCAL" || part[0].text == "@@SESSION." || part[0].text == "@@LOCAL.") {
		part = part[1:]
	}
	if len(part) < 3 || part[1].text != "=" && part[1].text != ":=" {
		return ""
	}
	return strings.TrimPrefix(strings.TrimPrefix(part[0].text, "@@SESSION."), "@@")
}

// word is a token of a query: a name or keyword in capitals, a number, a string, or one character.
type word struct {
	text string
	at   int // in the query
	raw  string
}

// name returns an identifier as it was written, without quotes.
func (w word) name() string {
	if len(w.raw) > 1 && w.raw[0] == '`' {
		return strings.ReplaceAll(w.raw[1:len(w.raw)-1], "``", "`")
	}
	return w.raw
}

type words []word

func (ws words) has(text string) bool {
	for i, w := range ws {
		if w.text == text && (text != ";" || i < len(ws)-1) { // one at the end says nothing
			return true
		}
	}
	return false
}

func (ws words) followedBy(a, b string) bool {
	for i := 0; i+1 < len(ws); i++ {
		if ws[i].text == a && ws[i+1].text == b {
			return true
		}
	}
	return false
}

// scan takes a query apart. Comments are left out, but for those that servers execute, which are
// looked into.
func scan(sql string) words {
	var all words
	for i := 0; i < len(sql); {
		switch c := sql[i]; {
		case c <= ' ':
			i++
		case c == '#', strings.HasPrefix(sql[i:], "-- "), strings.HasPrefix(sql[i:], "--\n"), sql[i:] == "--":
			i = skipPast(sql, i, "\n")
		case strings.HasPrefix(sql[i:], "/*!"), strings.HasPrefix(sql[i:], "/*M!"):
			i += strings.IndexByte(sql[i:], '!') + 1
			for i < len(sql) && sql[i] >= '0' && sql[i] <= '9' {
				i++
			}
		case strings.HasPrefix(sql[i:], "/*"):
			i = skipPast(sql, i+2, "*/")
		case strings.HasPrefix(sql[i:], "*/"):
			i += 2
		default:
			end := endOf(sql, i)
			raw := sql[i:end]
			text := raw
			if raw[0] != '\'' && raw[0] != '"' {
				text = strings.ToUpper(strings.Trim(raw, "`"))
			}
			all = append(all, word{text, i, raw})
			i = end
		}
	}
	return all
}

func skipPast(sql string, from int, end string) int {
	if i := strings.Index(sql[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return len(sql)
}

// endOf returns where the token that begins at i ends.
func endOf(sql string, i int) int {
	switch c := sql[i]; {
	case c == '\'' || c == '"' || c == '`':
		return quoted(sql, i)
	case strings.HasPrefix(sql[i:], "@@"):
		j := i + 2
		for j < len(sql) && (inName(sql[j]) || sql[j] == '.') {
			j++
		}
		return j
	case strings.HasPrefix(sql[i:], ":="):
		return i + 2
	case inName(c):
		j := i + 1
		for j < len(sql) && inName(sql[j]) {
			j++
		}
		return j
	}
	return i + 1
}

func inName(c byte) bool {
	return c == '_' || c == '$' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= 0x80
}

// quoted returns where a string or quoted name ends: quotes in it are doubled, or in strings escaped.
func quoted(sql string, i int) int {
	q := sql[i]
	for j := i + 1; j < len(sql); j++ {
		switch {
		case sql[j] == '\\' && q != '`':
			j++
		case sql[j] == q && j+1 < len(sql) && sql[j+1] == q:
			j++
		case sql[j] == q:
			return j + 1
		}
	}
	return len(sql)
}

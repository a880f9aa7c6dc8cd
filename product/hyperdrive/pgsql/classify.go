package pgsql

import (
	"strings"
)

// Setting is a change of one parameter of the session. Without SQL it is back at its default.
type Setting struct {
	Name string // in lower case
	SQL  string // a whole SET statement
}

// Class says what a text of one or more statements does to the session that runs it.
type Class struct {
	Refused string // why it cannot be run on a connection that is shared; empty if it can
	Sets    []Setting
	// ResetAll tells that every setting goes back to its default, Forgets that all prepared
	// statements are gone.
	ResetAll, Forgets bool
	// Dirty tells that it may leave something in the session that nobody sees here.
	Dirty bool
	// Drops names a prepared statement that is deallocated.
	Drops string
	// Select tells that it is one statement that begins like a query.
	Select bool
}

// Reasons to refuse.
const (
	noListen   = "LISTEN needs a connection of its own, and connections are shared here"
	noPrepare  = "PREPARE and EXECUTE as SQL are not supported here, for connections are shared: use your client's prepared statements"
	noAdvisory = "advisory locks of the session are not supported here, for connections are shared: use pg_advisory_xact_lock in a transaction"
	noTemp     = "temporary tables outlive the transaction, and connections are shared: make them in a transaction with ON COMMIT DROP"
	noHold     = "cursors WITH HOLD outlive the transaction, and connections are shared"
	noIdentity = "SET SESSION AUTHORIZATION is not supported here, for connections are shared"
	noDefaults = "SET SESSION CHARACTERISTICS is not supported here: set default_transaction_isolation or default_transaction_read_only"
	noLoad     = "LOAD is not supported here, for connections are shared"
)

// Classify reads sql, which may be any text.
func Classify(sql string) Class {
	var c Class
	l := lexer{src: sql}
	for n := 0; ; n++ {
		first := l.next()
		for first.is(";") {
			first = l.next()
		}
		if first.kind == end {
			return c
		}
		c.Select = n == 0 && (first.key("select") || first.key("with") || first.key("values") || first.key("table") || first.is("("))
		last := c.statement(&l, first)
		if last.kind == end {
			return c
		}
		if last.kind == bad {
			c.Dirty, c.Select = true, false
			return c
		}
	}
}

// statement reads one statement and returns what ended it.
func (c *Class) statement(l *lexer, first token) token {
	if first.kind == word {
		switch strings.ToLower(first.s) {
		case "set":
			return c.set(l, first.at)
		case "reset":
			return c.reset(l)
		case "listen":
			c.Refused = noListen
		case "prepare":
			if second := l.next(); !second.key("transaction") {
				c.Refused = noPrepare
			}
		case "execute":
			c.Refused = noPrepare
		case "load":
			c.Refused = noLoad
		case "deallocate":
			return c.deallocate(l)
		case "discard":
			if l.next().key("all") {
				c.ResetAll, c.Forgets = true, true
			}
		case "create":
			return c.create(l)
		case "declare":
			return c.declare(l)
		case "do", "call":
			c.Dirty = true
		}
	}
	return c.rest(l, first)
}

// rest reads to the end of the statement and looks at the functions in it.
func (c *Class) rest(l *lexer, t token) token {
	for {
		switch {
		case t.kind == end || t.kind == bad || t.is(";"):
			return t
		case t.kind == word || t.kind == quoted:
			c.function(t)
		}
		t = l.next()
	}
}

func (c *Class) function(t token) {
	if len(t.s) < 10 {
		return
	}
	switch name := strings.ToLower(t.s); {
	case name == "set_config":
		c.Dirty = true
	case strings.HasPrefix(name, "pg_advisory_xact_lock"), strings.HasPrefix(name, "pg_try_advisory_xact_lock"):
	case strings.HasPrefix(name, "pg_advisory_"), strings.HasPrefix(name, "pg_try_advisory_"):
		c.Refused = noAdvisory
	}
}

// set reads behind SET, which stands at from.
func (c *Class) set(l *lexer, from int) token {
	t := l.next()
	if t.key("session") {
		t = l.next()
		switch {
		case t.key("authorization"):
			c.Refused = noIdentity
			return c.rest(l, t)
		case t.key("characteristics"):
			c.Refused = noDefaults
			return c.rest(l, t)
		}
	}
	if t.key("local") || t.key("transaction") || t.key("constraints") {
		return c.rest(l, t)
	}
	name, value := "", token{}
	switch {
	case t.key("time"):
		l.next()
		name, value = "timezone", l.next()
	case t.key("names"):
		name, value = "client_encoding", l.next()
	case t.key("schema"):
		name, value = "search_path", l.next()
	case t.key("role"):
		name, value = "role", l.next()
	default:
		name, value = c.variable(l, t)
	}
	if (name == "role" || name == "timezone") && value.kind == operator {
		value = l.next()
	}
	last := c.rest(l, value)
	if value.key("default") {
		c.Sets = append(c.Sets, Setting{Name: name})
		return last
	}
	c.Sets = append(c.Sets, Setting{name, l.src[from:last.at]})
	return last
}

// variable reads a name such as myapp.user, and = or TO; it returns the token behind.
func (c *Class) variable(l *lexer, t token) (name string, value token) {
	name = strings.ToLower(t.s)
	for t = l.next(); t.is("."); t = l.next() {
		name += "." + strings.ToLower(l.next().s)
	}
	if name == "session_authorization" {
		c.Refused = noIdentity
	}
	if t.key("to") || t.kind == operator && t.s == "=" {
		t = l.next()
	}
	return name, t
}

func (c *Class) reset(l *lexer) token {
	t := l.next()
	switch {
	case t.key("all"):
		c.ResetAll, c.Sets = true, nil
		return c.rest(l, l.next())
	case t.key("session"):
		return c.rest(l, t)
	case t.key("time"):
		l.next()
		c.Sets = append(c.Sets, Setting{Name: "timezone"})
		return c.rest(l, l.next())
	}
	name, last := c.variable(l, t)
	c.Sets = append(c.Sets, Setting{Name: name})
	return c.rest(l, last)
}

func (c *Class) deallocate(l *lexer) token {
	t := l.next()
	if t.key("prepare") {
		t = l.next()
	}
	switch {
	case t.key("all"):
		c.Forgets = true
	case t.kind == word:
		c.Drops = strings.ToLower(t.s)
	case t.kind == quoted:
		c.Drops = t.s
	}
	return c.rest(l, l.next())
}

func (c *Class) create(l *lexer) token {
	t := l.next()
	for t.key("local") || t.key("global") || t.key("or") || t.key("replace") {
		t = l.next()
	}
	if !t.key("temp") && !t.key("temporary") {
		return c.rest(l, t)
	}
	drops, before := false, token{}
	for ; t.kind != end && t.kind != bad && !t.is(";"); t = l.next() {
		drops = drops || t.key("drop") && before.key("commit")
		before = t
	}
	if !drops {
		c.Refused = noTemp
	}
	return t
}

func (c *Class) declare(l *lexer) token {
	before := token{}
	for t := l.next(); ; t = l.next() {
		if t.kind == end || t.kind == bad || t.is(";") {
			return t
		}
		if t.key("hold") && before.key("with") {
			c.Refused = noHold
		}
		before = t
	}
}

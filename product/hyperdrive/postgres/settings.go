package postgres

import (
	"fmt"
	"slices"
	"strings"

	"selvage/engine/pgwire"
	"selvage/product/hyperdrive/pgsql"
)

// settings are what a client has set in its session, sorted by name. Never changed; those of an
// upstream that are equal are mostly the same pointer.
type settings struct {
	all []pgsql.Setting
	id  string
}

var noSettings = &settings{}

// with returns s with changes, those of class c if c is not nil first.
func (u *Upstream) with(s *settings, changes []pgsql.Setting) *settings {
	if len(changes) == 0 {
		return s
	}
	all := slices.Clone(s.all)
	for _, c := range changes {
		i, found := slices.BinarySearchFunc(all, c, func(a, b pgsql.Setting) int { return strings.Compare(a.Name, b.Name) })
		switch {
		case c.SQL == "" && found:
			all = slices.Delete(all, i, i+1)
		case c.SQL == "":
		case found:
			all[i] = c
		default:
			all = slices.Insert(all, i, c)
		}
	}
	return u.intern(all)
}

func (u *Upstream) intern(all []pgsql.Setting) *settings {
	if len(all) == 0 {
		return noSettings
	}
	var id strings.Builder
	for _, s := range all {
		fmt.Fprintf(&id, "%d:%s", len(s.SQL), s.SQL)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if s := u.settings[id.String()]; s != nil {
		return s
	}
	s := &settings{all, id.String()}
	if len(u.settings) >= maxSettings {
		clear(u.settings)
	}
	u.settings[s.id] = s
	return s
}

// change returns the SQL that makes a session with settings from one with settings to.
func change(from, to *settings) string {
	if from == to || from.id == to.id {
		return ""
	}
	var sql strings.Builder
	has := map[string]string{}
	for _, s := range from.all {
		has[s.Name] = s.SQL
	}
	for _, s := range to.all {
		if has[s.Name] != s.SQL {
			sql.WriteString(s.SQL + ";")
		}
		delete(has, s.Name)
	}
	for _, s := range from.all {
		if _, gone := has[s.Name]; gone {
			sql.WriteString("RESET " + variable(s.Name) + ";")
		}
	}
	return sql.String()
}

// variable quotes the name of a parameter; TIME ZONE and the like have plain names, too.
func variable(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		parts[i] = `"` + strings.ReplaceAll(p, `"`, `""`) + `"`
	}
	return strings.Join(parts, ".")
}

func literal(s string) string {
	if strings.Contains(s, `\`) {
		return "E'" + strings.NewReplacer(`\`, `\\`, `'`, `''`).Replace(s) + "'"
	}
	return "'" + strings.ReplaceAll(s, "'", "''") + "'"
}

// startup turns the parameters of a startup message into settings. Those that the server has anyway
// are left out.
func (u *Upstream) startup(params, have map[string]string) (*settings, error) {
	var changes []pgsql.Setting
	add := func(name, value string) {
		for k, v := range have {
			if strings.EqualFold(k, name) && strings.EqualFold(v, value) {
				return
			}
		}
		// As a function, for SET would take a list in quotes as one name.
		changes = append(changes, pgsql.Setting{Name: strings.ToLower(name), SQL: "SELECT pg_catalog.set_config(" + literal(name) + "," + literal(value) + ",false)"})
	}
	for name, value := range params {
		switch strings.ToLower(name) {
		case "replication":
			if !slices.Contains([]string{"false", "off", "no", "0", ""}, strings.ToLower(value)) {
				return nil, &pgwire.Failure{Severity: "FATAL", Code: "0A000", Message: "replication is not possible through Hyperdrive"}
			}
		case "options":
			if err := eachOption(value, add); err != nil {
				return nil, err
			}
		default:
			add(name, value)
		}
	}
	return u.with(noSettings, changes), nil
}

// eachOption reads command-line options such as "-c search_path=a --geqo=off".
func eachOption(options string, add func(name, value string)) error {
	words := strings.Fields(options)
	for i := 0; i < len(words); i++ {
		w := words[i]
		switch {
		case w == "-c" && i+1 < len(words):
			i++
			w = words[i]
		case strings.HasPrefix(w, "-c"):
			w = w[2:]
		case strings.HasPrefix(w, "--"):
			w = w[2:]
		default:
			return &pgwire.Failure{Severity: "FATAL", Code: "0A000", Message: fmt.Sprintf("the startup option %.60q is not supported by Hyperdrive: only -c name=value is", w)}
		}
		name, value, ok := strings.Cut(w, "=")
		if !ok {
			return &pgwire.Failure{Severity: "FATAL", Code: "22023", Message: fmt.Sprintf("the startup option %.60q has no value", w)}
		}
		add(strings.ReplaceAll(name, "-", "_"), value)
	}
	return nil
}

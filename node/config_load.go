package node

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/BurntSushi/toml"
)

// reserved are variables with our prefix that configure the command line's client and the tests, not the node.
var reserved = []string{"SELVAGE_API_URL", "SELVAGE_API_TOKEN", "SELVAGE_BIN", "SELVAGE_RACE_BIN"}

// layer is one place where settings are given, and how an error names them there.
type layer struct {
	values map[string]string
	where  func(name string) string
}

// LoadConfig returns the configuration that flags (by name, only those given), environment
// (NAME=value lines as from os.Environ) and file make together. inherited holds what the node that
// is being taken over was given by flag or environment; it counts where nothing else is said. Every
// fault is reported at once, each with where it stands.
func LoadConfig(flags map[string]string, environ []string, inherited map[string]string) (Config, error) {
	env, faults := readEnviron(environ)
	given := map[string]string{}
	for _, values := range []map[string]string{inherited, env, flags} {
		maps.Copy(given, values)
	}
	absolute(given)
	file := map[string]string{}
	path := given["config"]
	if path != "" {
		var err error
		if file, err = readFile(path); err != nil {
			faults = append(faults, err)
		}
	}
	layers := []layer{
		{flags, func(name string) string { return "--" + name }},
		{env, variable},
		{file, func(name string) string { return path + ": " + name }},
		{inherited, func(name string) string { return name + " of the node taken over" }},
	}
	c := DefaultConfig()
	c.given = given
	for _, s := range settings() {
		for _, l := range layers {
			v, ok := l.values[s.name]
			if !ok {
				continue
			}
			if err := s.set(&c, v); err != nil {
				faults = append(faults, fmt.Errorf("%s: %w", l.where(s.name), err))
			}
			break
		}
	}
	if dir, err := filepath.Abs(c.Data); err == nil && c.Data != "" {
		c.Data = dir
	}
	faults = append(faults, c.Validate())
	if err := errors.Join(faults...); err != nil {
		return Config{}, err
	}
	return c, nil
}

// absolute makes paths in given mean the same in another process's working directory.
func absolute(given map[string]string) {
	delete(given, "data") // both processes know it already
	paths := []string{"config"}
	for _, s := range settings() {
		if s.kind == "file" {
			paths = append(paths, s.name)
		}
	}
	for _, name := range paths {
		if path, err := filepath.Abs(given[name]); err == nil && given[name] != "" {
			given[name] = path
		}
	}
}

func variable(name string) string {
	return "SELVAGE_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// readEnviron returns the settings in the environment. An unknown name with our prefix is a fault,
// for it is a typing error more often than not.
func readEnviron(environ []string) (map[string]string, []error) {
	env := map[string]string{}
	names := map[string]string{"SELVAGE_CONFIG": "config"}
	for _, s := range settings() {
		names[variable(s.name)] = s.name
	}
	var faults []error
	for _, line := range environ {
		key, v, _ := strings.Cut(line, "=")
		if !strings.HasPrefix(key, "SELVAGE_") {
			continue
		}
		if name, ok := names[key]; ok {
			env[name] = v
			continue
		}
		if !slices.Contains(reserved, key) && !serviceLink(key) {
			faults = append(faults, fmt.Errorf("environment: there is no setting %s%s", key, suggest(key, names)))
		}
	}
	return env, faults
}

// serviceLink tells whether Kubernetes sets this variable by itself in a cluster that has a service
// called selvage.
func serviceLink(key string) bool {
	rest := strings.TrimPrefix(key, "SELVAGE_")
	return rest == "PORT" || strings.HasPrefix(rest, "PORT_") || strings.Contains(rest, "SERVICE_")
}

// readFile reads a TOML file into names and values as text.
func readFile(path string) (map[string]string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	var tree map[string]any
	if err := toml.Unmarshal(data, &tree); err != nil {
		var where toml.ParseError
		if errors.As(err, &where) {
			return nil, fmt.Errorf("%s:%d: %s", path, where.Position.Line, where.Message)
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	names := map[string]string{}
	for _, s := range settings() {
		names[s.name] = s.name
	}
	values := map[string]string{}
	var faults []error
	for key, v := range tree {
		if _, ok := names[key]; !ok {
			faults = append(faults, fmt.Errorf("%s: there is no setting %s%s", path, key, suggest(key, names)))
			continue
		}
		text, err := flatten(v)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %s: %w", path, key, err))
			continue
		}
		values[key] = text
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return values, errors.Join(faults...)
}

// flatten turns a TOML value into what the flag of the same name would say.
func flatten(v any) (string, error) {
	switch v := v.(type) {
	case string, bool, int64:
		return fmt.Sprint(v), nil
	case []any:
		var parts []string
		for _, e := range v {
			s, ok := e.(string)
			if !ok {
				return "", fmt.Errorf("%v in the list is not a string", e)
			}
			parts = append(parts, s)
		}
		return strings.Join(parts, ","), nil
	}
	return "", fmt.Errorf("a %T is not a string, number, true, false or list of strings", v)
}

// suggest returns "; did you mean X?" for the known name closest to a mistaken one.
func suggest(mistaken string, known map[string]string) string {
	best, least := "", 4
	for name := range known {
		d := distance(strings.ToLower(mistaken), strings.ToLower(name))
		if d < least || d == least && name < best {
			best, least = name, d
		}
	}
	if best == "" {
		return "; `selvage up --help` lists them"
	}
	return "; did you mean " + best + "?"
}

// distance is the Levenshtein distance of two short names.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}

package d1

import (
	"strings"

	"selvage/engine/sqlite"
)

// split cuts a query into its statements, without those that are only comments.
func split(sql string) (parts []string, several bool) {
	if first := strings.TrimLeft(sql, " \t\r\n"); first != "" && first[0] != '-' && first[0] != '/' && first[0] != ';' {
		at := strings.IndexByte(sql, ';')
		if at < 0 || strings.TrimLeft(sql[at+1:], " \t\r\n") == "" {
			return []string{sql}, false
		}
	}
	parts = sqlite.Split(sql)
	return parts, len(parts) > 1
}

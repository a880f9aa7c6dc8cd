package analytics

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"
	"strings"

	"zombiezen.com/go/sqlite"
)

// contentTypes of the formats.
var contentTypes = map[string]string{"JSON": "application/json", "JSONEachRow": "application/x-ndjson", "TabSeparated": "text/tab-separated-values; charset=utf-8"}

// write writes the table in a format, as ClickHouse does.
func (t *table) write(w io.Writer, format string) error {
	out := bufio.NewWriterSize(w, 32<<10)
	switch format {
	case "JSONEachRow":
		for _, row := range t.rows {
			t.writeObject(out, row)
			out.WriteByte('\n')
		}
	case "TabSeparated":
		t.writeTabs(out)
	default:
		t.writeJSON(out)
	}
	return out.Flush()
}

func (t *table) writeJSON(out *bufio.Writer) {
	out.WriteString(`{"meta":[`)
	for i, c := range t.columns {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(`{"name":`)
		writeString(out, c)
		out.WriteString(`,"type":`)
		writeString(out, t.types[i])
		out.WriteByte('}')
	}
	out.WriteString(`],"data":[`)
	for i, row := range t.rows {
		if i > 0 {
			out.WriteByte(',')
		}
		t.writeObject(out, row)
	}
	n := strconv.Itoa(len(t.rows))
	out.WriteString(`],"rows":` + n + `,"rows_before_limit_at_least":` + n + "}\n")
}

func (t *table) writeObject(out *bufio.Writer, row []cell) {
	out.WriteByte('{')
	for i := range row {
		if i > 0 {
			out.WriteByte(',')
		}
		writeString(out, t.columns[i])
		out.WriteByte(':')
		writeCell(out, &row[i], t.types[i])
	}
	out.WriteByte('}')
}

// writeCell writes a value. Integers of 64 bits are strings in JSON, for numbers there cannot hold
// them.
func writeCell(out *bufio.Writer, c *cell, kind string) {
	array, isArray := strings.CutPrefix(c.s, arrayMark)
	switch {
	case c.kind == sqlite.TypeNull:
		out.WriteString("null")
	case c.kind == sqlite.TypeInteger && strings.HasSuffix(kind, "Int64"):
		out.WriteString(`"` + strconv.FormatInt(c.i, 10) + `"`)
	case c.kind == sqlite.TypeInteger:
		out.WriteString(strconv.FormatInt(c.i, 10))
	case c.kind == sqlite.TypeFloat:
		out.WriteString(strconv.FormatFloat(c.f, 'g', -1, 64))
	case isArray && json.Valid([]byte(array)):
		out.WriteString(array)
	default:
		writeString(out, c.s)
	}
}

func writeString(out *bufio.Writer, s string) {
	b, err := json.Marshal(s)
	if err != nil {
		b = []byte(`""`) // cannot be: a string
	}
	out.Write(b)
}

var tabs = strings.NewReplacer("\\", `\\`, "\t", `\t`, "\n", `\n`, "\r", `\r`, "\x00", `\0`)

func (t *table) writeTabs(out *bufio.Writer) {
	for _, row := range t.rows {
		for i, c := range row {
			if i > 0 {
				out.WriteByte('\t')
			}
			switch c.kind {
			case sqlite.TypeNull:
				out.WriteString(`\N`)
			case sqlite.TypeInteger:
				out.WriteString(strconv.FormatInt(c.i, 10))
			case sqlite.TypeFloat:
				out.WriteString(strconv.FormatFloat(c.f, 'g', -1, 64))
			default:
				tabs.WriteString(out, strings.TrimPrefix(c.s, arrayMark))
			}
		}
		out.WriteByte('\n')
	}
}

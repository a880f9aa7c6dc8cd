package wire_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"selvage/product/d1/wire"
)

func TestRead(t *testing.T) {
	got, err := wire.Read([]byte(` [ {"sql":"select \"a\" é","params":[null,1,-2.5,"x\u00e9\n",true,false,[0,1, 255],[],1e400,-0,12345678901234567890]} , {"other":{"a":[1,{}],"b":null},"params":null,"sql":"b"}, {"sql":""} ] `))
	if err != nil {
		t.Fatal(err)
	}
	want := `[{select "a" é [{0 0 } {1 1 } {1 -2.5 } {2 0 xé
} {1 1 } {1 0 } {3 0 ` + "\x00\x01\xff" + `} {3 0 } {1 +Inf } {1 -0 } {1 1.2345678901234567e+19 }]} {b []} { []}]`
	if s := fmt.Sprintf("%v", show(got)); s != want {
		t.Errorf("Read = %q, want %q", s, want)
	}
	if got, err := wire.Read([]byte(`{"sql":"select 1"}`)); err != nil || len(got) != 1 || got[0].SQL != "select 1" {
		t.Errorf("Read of one statement = %v, %v", got, err)
	}
}

type shown struct {
	SQL    string
	Params []shownValue
}
type shownValue struct {
	Kind   wire.Kind
	Number float64
	Bytes  string
}

func show(all []wire.Statement) (out []shown) {
	for _, s := range all {
		o := shown{SQL: s.SQL}
		for _, v := range s.Params {
			o.Params = append(o.Params, shownValue{v.Kind, v.Number, string(v.Bytes)})
		}
		out = append(out, o)
	}
	return out
}

func TestReadRefuses(t *testing.T) {
	many := strings.TrimSuffix(strings.Repeat("1,", wire.MaxParams+1), ",")
	for body, want := range map[string]wire.Error{
		``:                                    {"", "object with the field sql"},
		`null`:                                {"", "object with the field sql"},
		`[1]`:                                 {"", "object with the field sql"},
		`{}`:                                  {"sql", "needs the field sql"},
		`{"sql":1}`:                           {"sql", "must be a string"},
		`{"sql":null}`:                        {"sql", "must be a string"},
		`{"sql":"a","params":{}}`:             {"params", "list of values"},
		`{"sql":"a","params":"x"}`:            {"params", "list of values"},
		`{"sql":"a","params":[{}]}`:           {"params[0]", "is an object"},
		`{"sql":"a","params":[1,["x"]]}`:      {"params[1]", "from 0 to 255"},
		`{"sql":"a","params":[[256]]}`:        {"params[0]", "from 0 to 255"},
		`{"sql":"a","params":[[1.5]]}`:        {"params[0]", "from 0 to 255"},
		`{"sql":"a","params":[[-1]]}`:         {"params[0]", "from 0 to 255"},
		`{"sql":"a","params":[[[1]]]}`:        {"params[0]", "from 0 to 255"},
		`{"sql":"a","params":[` + many + `]}`: {"params", "too many SQL variables"},
		`{"sql":"a"`:                          {"", "ends in the middle"},
		`{"sql":"a`:                           {"", "ends in the middle"},
		`{"sql":"a\"}`:                        {"", "Malformed"},
		`{"sql":"a` + "\x01" + `"}`:           {"", "Malformed"},
		`{"sql":"a"}x`:                        {"", "Malformed"},
		`{"sql":"a"} {}`:                      {"", "Malformed"},
		`{"sql":"a","params":[1 2]}`:          {"", "Malformed"},
		`{"sql":"a","params":[01]}`:           {"", "Malformed"},
		`{"sql":"a","params":[--1]}`:          {"", "Malformed"},
		`{"sql":"a","params":[nul]}`:          {"", "Malformed"},
		`{"sql":"a","x":` + strings.Repeat("[", 100):                              {"", "nested too deep"},
		`[` + strings.Repeat(`{"sql":"a"},`, wire.MaxStatements) + `{"sql":"a"}]`: {"", "more than 10000"},
	} {
		_, err := wire.Read([]byte(body))
		var e *wire.Error
		if !errors.As(err, &e) || e.Path != want.Path || !strings.Contains(e.Message, want.Message) {
			t.Errorf("Read(%.80s) = %#v, want %v", body, err, want)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(`[{"sql":"a\u1234","params":[null,1.5e-3,"x",[1,2],true]},{"x":{"y":[]},"sql":""}]`))
	f.Add([]byte(`{"sql":"\ud800","params":[-0, 1E5]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := wire.Read(bytes.Clone(body))
		if err != nil {
			return
		}
		if !json.Valid(body) {
			t.Fatalf("accepted what is no JSON: %q", body)
		}
		var list []struct {
			SQL    string `json:"sql"`
			Params []any  `json:"params"`
		}
		if b := bytes.TrimLeft(body, " \t\r\n"); b[0] == '[' {
			err = json.Unmarshal(body, &list)
		} else {
			list = append(list, struct {
				SQL    string `json:"sql"`
				Params []any  `json:"params"`
			}{})
			err = json.Unmarshal(body, &list[0])
		}
		if err != nil || len(list) != len(got) {
			return // numbers out of range, names that differ in case
		}
		for i := range list {
			if list[i].SQL != got[i].SQL && !strings.Contains(strings.ToLower(string(body)), `"sql"`) {
				t.Errorf("SQL %q, want %q", got[i].SQL, list[i].SQL)
			}
		}
	})
}

func TestWriteNumbers(t *testing.T) {
	for f, want := range map[float64]string{
		0: "0", math.Copysign(0, -1): "0", 1: "1", -1.5: "-1.5", 0.1: "0.1", 1e21: "1e+21", 1e20: "100000000000000000000", 1e-6: "0.000001", 1e-7: "1e-7",
		1.5e-10: "1.5e-10", math.MaxFloat64: "1.7976931348623157e+308", math.Inf(1): "null", math.NaN(): "null", 5e-324: "5e-324",
	} {
		if got := string(wire.AppendFloat(nil, f)); got != want {
			t.Errorf("AppendFloat(%v) = %s, want %s", f, got, want)
		}
	}
	for n, want := range map[int64]string{
		0: "0", -1: "-1", 1 << 53: "9007199254740992", 1<<53 + 1: "9007199254740992", math.MaxInt64: "9223372036854776000", math.MinInt64: "-9223372036854776000",
	} {
		if got := string(wire.AppendInt(nil, n)); got != want {
			t.Errorf("AppendInt(%d) = %s, want %s", n, got, want)
		}
	}
}

func FuzzWriteText(f *testing.F) {
	f.Add("a\"\\\n\r\t\x00\x1f\x7fé\u2028\U0001F600\xff\xfe")
	f.Fuzz(func(t *testing.T, s string) {
		b := wire.AppendText(nil, []byte(s))
		var got string
		if err := json.Unmarshal(b, &got); err != nil || got != strings.ToValidUTF8(s, "\uFFFD") && len(got) < len(s) {
			t.Errorf("AppendText(%q) = %s: %v", s, b, err)
		}
	})
}

func TestWriteBlob(t *testing.T) {
	if got := string(wire.AppendBlob([]byte("x"), []byte{0, 9, 255})); got != "x[0,9,255]" {
		t.Errorf("AppendBlob = %s", got)
	}
}

func BenchmarkRead(b *testing.B) {
	body := []byte(`{"sql":"SELECT id, name FROM customers WHERE id = ? AND name <> ?","params":[4711,"nobody"]}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := wire.Read(body); err != nil {
			b.Fatal(err)
		}
	}
}

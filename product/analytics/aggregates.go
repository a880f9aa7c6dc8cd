package analytics

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
)

// maxHeld is how many values one aggregate keeps in memory.
const maxHeld = 4 << 20

var errHeld = errors.New("an aggregate has too many values; narrow the query down by WHERE")

// arrayMark begins a text that is a JSON array: SQLite has no arrays.
const arrayMark = "\x01array:"

// compare orders values: numbers before texts.
func compare(a, b sqlite.Value) int {
	if a.Type() == sqlite.TypeText && b.Type() == sqlite.TypeText {
		return strings.Compare(a.Text(), b.Text())
	}
	if a.Type() == sqlite.TypeText || b.Type() == sqlite.TypeText {
		return int(a.Type()) - int(b.Type())
	}
	switch x, y := a.Float(), b.Float(); {
	case x < y:
		return -1
	case x > y:
		return 1
	}
	return 0
}

// copyOf returns a value that stays good after the call that it came with.
func copyOf(v sqlite.Value) sqlite.Value {
	switch v.Type() {
	case sqlite.TypeInteger:
		return sqlite.IntegerValue(v.Int64())
	case sqlite.TypeFloat:
		return sqlite.FloatValue(v.Float())
	case sqlite.TypeNull:
		return null
	}
	return sqlite.TextValue(strings.Clone(v.Text()))
}

// aggregate is a function of many rows: step takes each, end returns the value.
type aggregate struct {
	step func(args []sqlite.Value) error
	end  func() (sqlite.Value, error)
}

var errWindow = errors.New("this function cannot be used with OVER")

// Step takes a row.
func (a *aggregate) Step(_ sqlite.Context, args []sqlite.Value) error { return a.step(args) }

// WindowInverse is for windows, which are not supported.
func (a *aggregate) WindowInverse(sqlite.Context, []sqlite.Value) error { return errWindow }

// WindowValue returns the value.
func (a *aggregate) WindowValue(sqlite.Context) (sqlite.Value, error) { return a.end() }

// Finalize has nothing to free.
func (a *aggregate) Finalize(sqlite.Context) {}

func registerAggregates(c *sqlite.Conn) error {
	made := map[string]struct {
		args int
		make func() *aggregate
	}{
		"sumIf": {2, func() *aggregate { return sumIf(func(sum float64, n int64) float64 { return sum }) }},
		"avgIf": {2, func() *aggregate {
			return sumIf(func(sum float64, n int64) float64 { return sum / float64(max(n, 1)) })
		}},
		"countIf":               {1, countIf},
		"argMin":                {2, func() *aggregate { return pick(func(a, b sqlite.Value) bool { return compare(a, b) < 0 }) }},
		"argMax":                {2, func() *aggregate { return pick(func(a, b sqlite.Value) bool { return compare(a, b) > 0 }) }},
		"any":                   {1, func() *aggregate { return edgeOf(false) }},
		"first_value":           {1, func() *aggregate { return edgeOf(false) }},
		"last_value":            {1, func() *aggregate { return edgeOf(true) }},
		"quantile":              {2, func() *aggregate { return quantile(false) }},
		"median":                {1, median},
		"quantileWeighted":      {3, func() *aggregate { return quantile(true) }},
		"quantileExactWeighted": {3, func() *aggregate { return quantile(true) }},
		"topK":                  {2, func() *aggregate { return top(false) }},
		"topKWeighted":          {3, func() *aggregate { return top(true) }},
	}
	for name, m := range made {
		err := c.CreateFunction(name, &sqlite.FunctionImpl{NArgs: m.args, Deterministic: true, MakeAggregate: func(sqlite.Context) (sqlite.AggregateFunction, error) {
			return m.make(), nil
		}})
		if err != nil {
			return err
		}
	}
	return nil
}

func isTrue(v sqlite.Value) bool { return v.Type() != sqlite.TypeNull && v.Float() != 0 }

func sumIf(result func(sum float64, n int64) float64) *aggregate {
	sum, n := 0.0, int64(0)
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if isTrue(args[1]) {
				sum += args[0].Float()
				n++
			}
			return nil
		},
		end: func() (sqlite.Value, error) { return sqlite.FloatValue(result(sum, n)), nil },
	}
}

func countIf() *aggregate {
	n := int64(0)
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if isTrue(args[0]) {
				n++
			}
			return nil
		},
		end: func() (sqlite.Value, error) { return sqlite.IntegerValue(n), nil },
	}
}

// pick keeps the first argument of the row whose second is better than that of all others.
func pick(better func(a, b sqlite.Value) bool) *aggregate {
	var kept, by sqlite.Value
	some := false
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if !some || better(args[1], by) {
				kept, by, some = copyOf(args[0]), copyOf(args[1]), true
			}
			return nil
		},
		end: func() (sqlite.Value, error) { return kept, nil },
	}
}

// edgeOf keeps the first value, or the last.
func edgeOf(last bool) *aggregate {
	var kept sqlite.Value
	some := false
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if last || !some {
				kept, some = copyOf(args[0]), true
			}
			return nil
		},
		end: func() (sqlite.Value, error) { return kept, nil },
	}
}

type weighed struct{ value, weight float64 }

// quantile is quantile(level, x) or, weighted, quantile(level, x, weight): the smallest value that
// at least that part of all weight is not above.
func quantile(weighted bool) *aggregate {
	level, total := 0.5, 0.0
	var values []weighed
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if level = args[0].Float(); level < 0 || level > 1 {
				return fmt.Errorf("the level of a quantile is from 0 to 1, not %g", level)
			}
			if args[1].Type() == sqlite.TypeNull {
				return nil
			}
			w := weighed{args[1].Float(), 1}
			if weighted {
				w.weight = args[2].Float()
			}
			if len(values) >= maxHeld {
				return errHeld
			}
			values, total = append(values, w), total+w.weight
			return nil
		},
		end: func() (sqlite.Value, error) { return quantileOf(values, level*total), nil },
	}
}

func quantileOf(values []weighed, wanted float64) sqlite.Value {
	if len(values) == 0 {
		return null
	}
	slices.SortFunc(values, func(a, b weighed) int {
		switch {
		case a.value < b.value:
			return -1
		case a.value > b.value:
			return 1
		}
		return 0
	})
	sum := 0.0
	for _, v := range values {
		if sum += v.weight; sum >= wanted {
			return sqlite.FloatValue(v.value)
		}
	}
	return sqlite.FloatValue(values[len(values)-1].value)
}

func median() *aggregate {
	q := quantile(false)
	step := q.step
	q.step = func(args []sqlite.Value) error { return step([]sqlite.Value{sqlite.FloatValue(0.5), args[0]}) }
	return q
}

// top is topK(n, x) or, weighted, topK(n, x, weight): the values that are there most, as an array.
func top(weighted bool) *aggregate {
	most := 0
	weights := map[string]float64{}
	return &aggregate{
		step: func(args []sqlite.Value) error {
			if most = args[0].Int(); most < 1 || most > 1000 {
				return fmt.Errorf("topK returns 1 to 1000 values, not %d", most)
			}
			w := 1.0
			if weighted {
				w = args[2].Float()
			}
			if len(weights) >= maxHeld {
				return errHeld
			}
			weights[strings.Clone(args[1].Text())] += w
			return nil
		},
		end: func() (sqlite.Value, error) {
			list := make([]string, 0, len(weights))
			for v := range weights {
				list = append(list, v)
			}
			slices.SortFunc(list, func(a, b string) int {
				if weights[a] != weights[b] {
					if weights[a] > weights[b] {
						return -1
					}
					return 1
				}
				return strings.Compare(a, b)
			})
			b, err := json.Marshal(list[:min(len(list), most)])
			return sqlite.TextValue(arrayMark + string(b)), err
		},
	}
}
